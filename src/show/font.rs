//! Sizes, colors and styles of text, and fitting text to a width.

use super::fallback;
use crate::error::Error;
use plotters::style::{
    FontDesc, FontFamily, FontStyle, FontTransform, IntoFont as _, RGBColor, TextStyle,
    text_anchor::{HPos, Pos, VPos},
};

/// The number of drawing units per pixel, so that lines and letters are positioned more precisely than
/// whole pixels. PNG averages the units of each pixel; SVG uses them as its view box.
pub(super) const UNITS: u32 = 3;

/// Converts pixels to units.
pub(super) const fn px(pixels: u32) -> u32 {
    pixels * UNITS
}

/// Converts pixels to units, for coordinates.
pub(super) const fn at(pixels: i32) -> i32 {
    pixels * UNITS as i32
}

/// The size of small text, in units.
pub(super) const SMALL: u32 = px(14);
pub(super) const NORMAL: u32 = px(16);
pub(super) const LARGE: u32 = px(20);

/// A color: red, green, blue.
pub(super) type Rgb = [u8; 3];

pub(super) const BLACK: Rgb = [0x22, 0x22, 0x22];
pub(super) const WHITE: Rgb = [255, 255, 255];
/// The color of correct predictions: the bluish green of Okabe and Ito, darkened for text on white. Color-blind
/// readers can distinguish it from [`WRONG`].
pub(super) const RIGHT: Rgb = [0x00, 0x7a, 0x5a];
pub(super) const WRONG: Rgb = [0xc0, 0x3a, 0x00];
/// The line colors of Okabe and Ito ("Color universal design"), without the yellow.
pub(super) const PALETTE: [Rgb; 7] = [
    [0x00, 0x72, 0xb2],
    [0xd5, 0x5e, 0x00],
    [0x00, 0x9e, 0x73],
    [0xcc, 0x79, 0xa7],
    [0xe6, 0x9f, 0x00],
    [0x56, 0xb4, 0xe9],
    [0x55, 0x55, 0x55],
];

pub(super) fn rgb([r, g, b]: Rgb) -> RGBColor {
    RGBColor(r, g, b)
}

/// Returns the font with the most characters of `s`, at a size in units.
pub(super) fn font(s: &str, size: u32) -> FontDesc<'static> {
    (FontFamily::Name(fallback::family(s)), f64::from(size), FontStyle::Normal).into_font()
}

/// Returns a style for the text `s`, anchored at `h`, `v` of its box.
pub(super) fn text(s: &str, size: u32, color: Rgb, h: HPos, v: VPos) -> TextStyle<'static> {
    font(s, size).color(&rgb(color)).pos(Pos::new(h, v))
}

/// As [`text`], rotated to read upwards.
pub(super) fn upwards(s: &str, size: u32, color: Rgb, h: HPos, v: VPos) -> TextStyle<'static> {
    text(s, size, color, h, v).transform(FontTransform::Rotate270)
}

/// Returns the width of `s`, in units.
pub(super) fn width(s: &str, size: u32) -> u32 {
    let ((left, _), (right, _)) = font(s, size).layout_box(s).unwrap_or_default();
    right.abs_diff(left)
}

/// Truncates `s` with an ellipsis if it is wider than `limit` units.
pub(super) fn fit(s: &str, size: u32, limit: u32) -> String {
    let clean: String = s.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if width(&clean, size) <= limit {
        return clean;
    }
    let chars: Vec<char> = clean.chars().collect();
    let cut = |n: usize| chars[..n].iter().collect::<String>().trim_end().to_owned() + "…";
    // Search the longest prefix that fits; widths grow with the length.
    let (mut fits, mut over) = (0, chars.len());
    while over - fits > 1 {
        let middle = usize::midpoint(fits, over);
        if width(&cut(middle), size) <= limit { fits = middle } else { over = middle }
    }
    cut(fits)
}

/// Returns an error of the drawing backend.
pub(super) fn drawing(e: impl std::fmt::Display) -> Error {
    Error::other(format!("drawing failed: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the pixels of a character.
    fn drawn(c: char) -> Vec<(i32, i32)> {
        let mut ink = vec![];
        let pixel = |x, y, a: f32| {
            if a > 0.5 {
                ink.push((x, y));
            }
            Ok::<_, ()>(())
        };
        font(&c.to_string(), 60).draw(&c.to_string(), (0, 0), pixel).unwrap().unwrap();
        ink
    }

    #[test]
    fn the_font_has_the_signs_that_pictures_use() {
        let missing = drawn('\u{e000}');
        assert!(!missing.is_empty());
        for c in "aZ09äøłΩж…–—×±≤≥≈µ°%→✓✗⁻⁵√∞−".chars() {
            assert!(!drawn(c).is_empty() && drawn(c) != missing, "{c}");
        }
    }

    #[test]
    fn long_text_ends_in_an_ellipsis_and_fits() {
        let s = "american_pit_bull_terrier_of_unusual_size";
        let cut = fit(s, SMALL, px(120));
        assert!(cut.ends_with('…') && width(&cut, SMALL) <= px(120), "{cut}");
        assert!(cut.len() > 10, "{cut}");
        assert_eq!(fit("short\nline", SMALL, px(120)), "short line");
        assert_eq!(fit(s, SMALL, 0), "…");
    }
}
