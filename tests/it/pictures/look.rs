//! Checks of every figure: its size, ink, words, and legible letters.

use finetune::show::Figure;
use regex::Regex;
use std::{collections::BTreeSet, path::PathBuf};

/// The minimum height of letters in a figure at its own size, in CSS pixels.
const LEGIBLE: f64 = 11.0;

/// A line of text of an SVG.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Words {
    pub(crate) text: String,
    /// The color, `#RRGGBB`.
    pub(crate) color: String,
    /// The font size in pixels of the figure.
    pub(crate) size: f64,
}

/// Elements without an end tag.
const VOID: [&str; 6] = ["meta", "link", "img", "br", "hr", "input"];

/// Checks that every element is closed at the right place, no text has a bare `&`, and every `id` is
/// unique.
pub(crate) fn check_markup(page: &str) {
    let (mut open, mut ids) = (vec![], BTreeSet::new());
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        for entity in text.split('&').skip(1) {
            let end = entity.find(';').unwrap_or(usize::MAX);
            assert!(end < 8, "a bare `&` before {}", &entity[..entity.len().min(40)]);
        }
        let end = rest[start..].find('>').expect("every tag ends") + start;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name: String =
            tag.trim_start_matches('/').chars().take_while(|c| c.is_alphanumeric()).collect();
        if let Some(id) = tag.split(" id=\"").nth(1).and_then(|s| s.split('"').next()) {
            assert!(ids.insert(id.to_owned()), "the id {id} is there twice");
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes of <{tag}>");
        if tag.starts_with(['!', '?']) || tag.ends_with('/') || VOID.contains(&&*name) {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(&*name), "</{name}>");
        } else {
            // Style sheets are not HTML.
            if name == "style" {
                let end = rest.find("</style>").expect("a style ends");
                rest = &rest[end..];
            }
            open.push(name);
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
}

/// Returns the folder in which figures are kept, if any.
pub(crate) fn figure_folder() -> Option<PathBuf> {
    std::env::var_os("FINETUNE_SHOW_DIR").map(PathBuf::from)
}

/// Returns all text of an SVG, in drawing order.
pub(crate) fn words(svg: &str) -> Vec<Words> {
    let outer = Regex::new(r#"<svg width="(\d+)" height="\d+" viewBox="0 0 (\d+) "#).unwrap();
    let outer = outer.captures(svg).expect("the picture has a size and a view box");
    let scale = outer[1].parse::<f64>().unwrap() / outer[2].parse::<f64>().unwrap();
    let text =
        r##"<text [^>]*font-size="([\d.]+)"[^>]*fill="(#\w{6})"[^>]*>\s*([^<]*?)\s*</text>"##;
    let all = Regex::new(text).unwrap();
    let one = |c: regex::Captures<'_>| Words {
        text: c[3].to_owned(),
        color: c[2].to_owned(),
        size: c[1].parse::<f64>().unwrap() * scale,
    };
    let all: Vec<_> = all.captures_iter(svg).map(one).collect();
    assert_eq!(all.len(), svg.matches("<text ").count(), "every text is understood");
    all
}

/// Checks a figure: the PNG has the size of the figure and enough pixels that are not background; the
/// SVG has the same size and contains `wanted`, and no letter is too small.
pub(crate) fn check_figure(name: &str, figure: &Figure, wanted: &[&str]) -> Vec<Words> {
    if let Some(folder) = figure_folder() {
        figure.save(folder.join(name).with_extension("png")).unwrap();
        figure.save(folder.join(name).with_extension("svg")).unwrap();
    }
    let (width, height) = figure.dimensions();
    let png = image::load_from_memory(&figure.png().unwrap()).unwrap().to_rgb8();
    assert_eq!(png.dimensions(), (width, height), "{name}");
    let ink = png.pixels().filter(|p| p.0.iter().any(|v| *v < 200)).count();
    let all = png.pixels().len();
    assert!(ink * 100 > all, "{name}: {ink} of {all} pixels are dark");
    let svg = figure.svg().unwrap();
    check_markup(&svg);
    let size = format!(r#"<svg width="{width}" height="{height}""#);
    assert!(svg.contains(&size), "{name}: the SVG is not {width}x{height}");
    for word in wanted {
        assert!(svg.contains(word), "{name} does not say {word}");
    }
    let words = words(&svg);
    for word in &words {
        assert!(word.size >= LEGIBLE, "{name}: {word:?} is too small to be read");
    }
    words
}
