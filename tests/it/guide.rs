//! The figures of the guide are drawn by the crate.
use base64::{Engine as _, engine::general_purpose::STANDARD};
use finetune::{
    model::list,
    show::{Chart, Figure},
};
use std::{env, fs, path::Path};

/// Returns a figure of the negative logarithm of a probability.
fn neg_log() -> Figure {
    let points = (0..=240).map(|i| f64::from(i) / 240.0 * 0.995 + 0.005).map(|p| (p, -p.ln()));
    let chart = Chart::new("-log(p)").x("probability of the target").y("loss");
    chart.x_range(0.0..=1.0).line("loss", points).figure().size(640, 400)
}

/// Returns a figure of the softmax of two activations, of which the second is 0.
fn softmax() -> Figure {
    let of = |x: f64| 1.0 / (1.0 + (-x).exp());
    let xs = || (0..=120).map(|i| f64::from(i) / 10.0 - 6.0);
    Chart::new("softmax of x and 0")
        .x("x")
        .y("probability")
        .line("of the first", xs().map(|x| (x, of(x))))
        .line("of the second", xs().map(|x| (x, 1.0 - of(x))))
        .figure()
        .size(640, 400)
}

/// `FINETUNE_BLESS=1 cargo test --test it guide` draws them again.
#[test]
fn figures_are_drawn_by_the_crate() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut definitions = String::new();
    for (name, figure) in [("neg-log", neg_log()), ("softmax", softmax())] {
        let svg = figure.svg().unwrap();
        let file = docs.join("images").join(name).with_extension("svg");
        if env::var_os("FINETUNE_BLESS").is_some() {
            fs::write(&file, &svg).unwrap();
        }
        assert!(fs::read_to_string(&file).unwrap() == svg, "{} is old", file.display());
        let data = STANDARD.encode(svg);
        definitions.push_str(&format!("[{name}]: data:image/svg+xml;base64,{data}\n"));
    }
    // The API reference has no folder of images: there, these definitions come before those of the page.
    let file = docs.join("cross-entropy.images");
    let text = format!("{definitions}\n");
    if env::var_os("FINETUNE_BLESS").is_some() {
        fs::write(&file, &text).unwrap();
    }
    assert!(fs::read_to_string(&file).unwrap() == text, "{} is old", file.display());
}

/// Returns the link definitions at the end of a page: names and targets.
fn definitions(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    lines.filter(|(name, _)| !name.contains(']')).collect()
}

/// The figure of the README is in the API reference, too.
#[test]
fn the_figure_of_the_readme_is_in_the_reference() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let picture = STANDARD.encode(fs::read(root.join("docs/images/walk-through.jpg")).unwrap());
    let links = fs::read_to_string(root.join("docs/readme.links")).unwrap();
    let place = definitions(&links).into_iter().find(|(name, _)| *name == "walk-through");
    let data = format!("data:image/jpeg;base64,{picture}");
    assert!(place.is_some_and(|(_, place)| place == data), "docs/readme.links is old");
}

/// In the repository, links lead to files. In the API reference, the definitions of `*.links` come
/// first, and lead to its pages and items.
#[test]
fn links_have_targets() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &Path| fs::read_to_string(file).unwrap();
    let guide = read(&root.join("docs/guide.links")) + &read(&root.join("docs/guide-show.links"));
    let readme = read(&root.join("docs/readme.links"));
    let mut pages = vec![(root.join("README.md"), &readme)];
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        let page = entry.unwrap().path();
        if page.extension().is_some_and(|e| e == "md") {
            pages.push((page, &guide));
        }
    }
    assert!(pages.len() > 10, "{pages:?}");
    let pictures = ["neg-log", "softmax"];
    for (page, reference) in pages {
        let known = definitions(reference);
        for (name, place) in definitions(&read(&page)) {
            let file = page.parent().unwrap().join(place);
            let there = place.starts_with("https://") || file.exists();
            assert!(there, "{}: [{name}] leads to {place}", page.display());
            let has = known.iter().any(|(k, _)| *k == name) || pictures.contains(&name);
            assert!(has, "{}: the reference does not know [{name}]", page.display());
        }
    }
}

/// The numbers in the table of networks are those of `list`.
#[test]
fn the_table_of_networks_matches_the_crate() {
    let page = include_str!("../../docs/recipes.md");
    let (_, table) = page.split_once("license of the weights |\n|---|---|---|---|---|\n").unwrap();
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        let name = row.split('`').nth(1).unwrap();
        let info = list(name).into_iter().find(|info| info.name == name).unwrap();
        let weights = info.weights.unwrap();
        let millions = info.parameters as f64 / 1e6;
        let license = weights.license.unwrap_or("not stated");
        let (features, [side, _]) = (info.features, weights.size);
        let wanted = format!("| `{name}` | {millions:.1} | {features} | {side} | {license} |");
        assert_eq!(row, wanted);
    }
}
