//! Figures have the requested size, ink at the position of text, and their words.

use super::pictures::look::{check_figure, words};
use finetune::{
    Error,
    image::Image,
    show::{Cell, Chart, Figure, Grid, plot_function},
};

/// The green of correct and the red of wrong predictions.
const RIGHT: [u8; 3] = [0x00, 0x7a, 0x5a];
const WRONG: [u8; 3] = [0xc0, 0x3a, 0x00];

fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

#[test]
fn charts() {
    let losses: Vec<f64> = (0..100).map(|i| 2.3 * (-f64::from(i) / 30.0).exp() + 0.2).collect();
    let f = Chart::new("Loss")
        .x("step")
        .y("loss")
        .line("train", losses.iter().enumerate().map(|(i, l)| (i as f64, *l)))
        .line_with_dots("valid", [(25.0, 1.4), (50.0, 0.9), (75.0, 0.7), (99.0, 0.72)])
        .figure();
    check_figure("chart_loss", &f, &["Loss", "step", "train", "valid"]);
    assert_eq!(f.dimensions(), (800, 480));
    // Both curves exist, in different colors.
    let svg = f.svg().unwrap();
    for color in ["#0072B2", "#D55E00"] {
        assert!(svg.contains(&format!(r#"stroke="{color}""#)), "no line in {color}");
    }
    let lrs = (0..100).map(|i| 1e-7 * 10f64.powf(8.0 * f64::from(i) / 99.0));
    let f = Chart::new("Learning rate finder")
        .x("learning rate")
        .y("loss")
        .log_x()
        .line("", lrs.map(|lr| (lr, 1.0 + (lr * 3.0).powi(2) - 0.3 * (lr * 100.0).tanh())))
        .mark("valley 1.3e-3", (1.3e-3, 0.96))
        .mark("slide 5e-3", (5e-3, 0.86))
        .mark("minimum 2e-2", (2e-2, 0.72))
        .mark("steep 8e-3", (8e-3, 0.80))
        .figure();
    check_figure("chart_lr", &f, &["valley 1.3e-3", "slide 5e-3", "minimum 2e-2", "steep 8e-3"]);
    let f = Chart::new("Calibration")
        .x("probability")
        .y("accuracy")
        .x_range(0.0..=1.0)
        .y_range(0.0..=1.0)
        .bars("accuracy", (0..10).map(|i| (0.05 + 0.1 * f64::from(i), 0.09 * f64::from(i))), 0.1)
        .dashed("perfect", [(0.0, 0.0), (1.0, 1.0)])
        .figure();
    check_figure("chart_bars", &f, &["accuracy", "perfect", "accuracy"]);
    let f = plot_function("sigmoid", |x| 1.0 / (1.0 + (-x).exp()), -6.0..=6.0);
    check_figure("chart_function", &f, &["sigmoid"]);
    // Two marks at one position are both visible: the first is a ring around the second.
    let twice = Chart::new("Twice").line("", [(0.0, 0.0), (1.0, 1.0)]);
    let twice = twice.mark("one", (0.5, 0.5)).mark("other", (0.5, 0.5)).figure();
    let svg = twice.svg().unwrap();
    let of = |color: &str| -> Vec<&str> {
        let circles = svg.split("<circle ").skip(1).filter(|c| c.contains(color));
        circles.filter_map(|c| c.split(" r=\"").nth(1)?.split('"').next()).collect()
    };
    // The last one of each color is in the plot, not in the legend.
    assert_eq!((of("#D55E00").pop(), of("#009E73").pop()), (Some("33"), Some("21")), "{svg}");
    // A chart without points has axes and a title.
    let svg = Chart::new("Nothing").x("x").y("y").figure().svg().unwrap();
    let said: Vec<_> = words(&svg).into_iter().map(|w| w.text).collect();
    assert!(["Nothing", "x", "y"].iter().all(|w| said.iter().any(|s| s == w)), "{said:?}");
    assert!(!svg.contains("#0072B2"), "a curve of nothing");
}

#[test]
fn sizes_and_backgrounds_are_the_requested_ones() {
    let chart = || plot_function("square", |x| x * x, -1.0..=1.0);
    for size in [(320, 240), (1000, 300), (1, 1), (4096, 16)] {
        let image = chart().size(size.0, size.1).image().unwrap();
        assert_eq!((image.width(), image.height()), size);
    }
    for size in [(0, 10), (10, 4097)] {
        let e = chart().size(size.0, size.1).image().unwrap_err().to_string();
        assert!(e.contains("4096"), "{e}");
    }
    let image = chart().background([250, 240, 200]).image().unwrap();
    assert_eq!(image.pixels()[..3], [250, 240, 200]);
    let folder = tempfile::tempdir().unwrap();
    let e = chart().save(folder.path().join("picture.jpg")).unwrap_err().to_string();
    assert!(e.contains(".png or .svg"), "{e}");
}

#[test]
fn extreme_values_are_drawn_and_invalid_options_are_errors() {
    let tiny = f64::from_bits(1);
    let ends = [(tiny, tiny), (1.0, f64::MAX), (0.0, f64::MIN)];
    for ends in [&ends[..1], &ends[..2], &ends[..]] {
        let line = |chart: Chart| chart.line("", ends.to_vec()).figure().size(300, 200);
        line(Chart::new("Ends")).image().unwrap();
        line(Chart::new("Ends").log_x().log_y()).image().unwrap();
    }
    let chart = || Chart::new("").line("", [(0.0, 0.0), (1.0, 1.0)]);
    let (low, high) = (0.0, 1.0);
    for (chart, told) in [
        (chart().x_range(high..=low), "`x_range` is 1 to 0; it must be ascending, finite"),
        (chart().y_range(f64::NAN..=high), "`y_range` is NaN to 1"),
        (chart().log_y().y_range(low..=high), "finite and above 0"),
    ] {
        let e = chart.figure().image().unwrap_err();
        assert!(matches!(e, Error::Config { .. }) && e.to_string().contains(told), "{e}");
    }
    let grid = || Grid::new("", vec![Cell::new(Image::new(2, 1, 3, vec![90; 6]).unwrap())]);
    let (width, height) = grid().side(u32::MAX).figure().dimensions();
    assert!(width <= 4096 && height <= 4096, "{width}x{height}");
    let e = grid().columns(0).figure().image().unwrap_err();
    assert!(matches!(e, Error::Config { option: "columns", .. }), "{e}");
}

#[test]
fn grids() {
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/data/pets/images");
    let mut files: Vec<_> = std::fs::read_dir(photos).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let cells = files.iter().step_by(20).take(9).enumerate().map(|(i, f)| {
        let p = image::open(f).unwrap().to_rgb8();
        let p = Image::new(p.width(), p.height(), 3, p.into_raw()).unwrap();
        let name = f.file_stem().unwrap().to_string_lossy().into_owned();
        let cell = Cell::new(p).line(name.clone());
        if i % 2 == 0 { cell.right(name) } else { cell.wrong("american_pit_bull_terrier_long") }
    });
    let f = Grid::new("Actual above, predicted below", cells.collect()).figure();
    let said = check_figure("grid", &f, &["Actual above, predicted below"]);
    let of = |sign: char, color: [u8; 3]| {
        said.iter().filter(|w| w.text.starts_with(sign) && w.color == hex(color)).count()
    };
    assert_eq!((of('✓', RIGHT), of('✗', WRONG)), (5, 4), "{said:?}");
    assert_eq!(f.svg().unwrap().matches("<image ").count(), 9);
}

#[test]
fn right_is_green_and_wrong_is_red() {
    let gray = || Image::new(2, 1, 3, vec![90; 6]).unwrap();
    let has = |cell: Cell, color: [u8; 3]| {
        let image = Grid::new("", vec![cell]).figure().image().unwrap();
        // Edges of letters are between their color and white.
        let near = |p: &[u8]| p.iter().zip(color).all(|(a, b)| a.abs_diff(b) < 48);
        image.pixels().chunks(3).filter(|p| near(p)).count()
    };
    let name = "american_bulldog";
    assert!(has(Cell::new(gray()).right(name), RIGHT) > 50);
    assert_eq!(has(Cell::new(gray()).right(name), WRONG), 0);
    assert!(has(Cell::new(gray()).wrong(name), WRONG) > 50);
    assert_eq!(has(Cell::new(gray()).wrong(name), RIGHT), 0);
    let plain = Cell::new(gray()).line(name);
    assert_eq!(has(plain.clone(), RIGHT) + has(plain, WRONG), 0);
}

#[test]
fn a_long_name_is_written_smaller_before_it_is_cut() {
    let written = |name: &str| {
        let photo = Image::new(1, 1, 3, vec![90; 3]).unwrap();
        let figure: Figure = Grid::new("", vec![Cell::new(photo).wrong(name)]).figure();
        words(&figure.svg().unwrap()).remove(0)
    };
    let short = written("beagle");
    // Wider than its photo at the font size of shorter names.
    let long = "american_pit_bull_terrier_long";
    let text = written(long);
    assert!(text.text.contains(long) && text.size < short.size, "{text:?}");
    let longer = written(&long.repeat(2));
    assert!(longer.text.ends_with('…') && longer.size == text.size, "{longer:?}");
}

#[test]
fn d15_labels_in_other_scripts_are_drawn_with_an_added_font() {
    let drawn = |label: &str| {
        let photo = Image::new(4, 4, 3, vec![200; 48]).unwrap();
        Grid::new("", vec![Cell::new(photo).line(label)]).figure().image().unwrap()
    };
    finetune::show::add_font(std::fs::read("tests/it/fonts/signs.ttf").unwrap()).unwrap();
    // A private-use character is a box in every font; the glyphs of the added font all differ.
    let labels = ["\u{e000}", "고", "양", "猫", "😺"].map(drawn);
    for (i, one) in labels.iter().enumerate() {
        for other in &labels[..i] {
            assert_ne!(one.pixels(), other.pixels(), "{i}");
        }
    }
    // If the bundled font has every character, it is used alone.
    let svg = |label: &str| {
        let photo = Image::new(4, 4, 3, vec![200; 48]).unwrap();
        Grid::new("", vec![Cell::new(photo).line(label)]).figure().svg().unwrap()
    };
    assert!(svg("cat").contains("DejaVu Sans, Verdana") && !svg("고양이").contains("DejaVu"));
    let e = finetune::show::add_font(b"no font".to_vec()).unwrap_err();
    assert!(e.to_string().contains("add_font"), "{e}");
}
