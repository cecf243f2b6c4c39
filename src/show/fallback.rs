//! Fonts for text in figures: the bundled one, added ones, and system fonts.

use crate::error::{Error, Result};
use ab_glyph::{Font as _, FontRef};
use fontdb::{Database, Source, Style};
use plotters::style::{FontStyle, register_font};
use std::{
    collections::HashMap,
    fs,
    sync::{LazyLock, Mutex, PoisonError},
};

/// DejaVu Sans 2.37, reduced to Latin, Greek, Cyrillic, punctuation and some symbols. Its license is in the
/// same folder.
static BUNDLED: &[u8] = include_bytes!("fonts/DejaVuSans.ttf");

/// The name under which the bundled font is registered. An SVG passes it to the viewer, which uses the
/// first available family; Verdana has the same widths.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// A font that is registered with `plotters` by its family.
struct Font {
    family: &'static str,
    /// True if the user added it, so that it is preferred to system fonts.
    added: bool,
    face: FontRef<'static>,
}

/// The registered fonts, and the selected font for each text.
struct Fonts {
    fonts: Vec<Font>,
    /// The index of the font for each set of characters that the bundled one lacks.
    chosen: HashMap<String, usize>,
    /// The system fonts, loaded when a character is missing for the first time.
    system: Option<Database>,
}

static FONTS: LazyLock<Mutex<Fonts>> = LazyLock::new(|| {
    let mut fonts = Fonts { fonts: vec![], chosen: HashMap::new(), system: None };
    // The bytes are a constant that the tests use, so this cannot fail for a user.
    let _ = fonts.register(FAMILY, BUNDLED, false);
    Mutex::new(fonts)
});

/// Adds a font for text in figures, such as labels, names and titles: the bytes of a TrueType or OpenType
/// file with outlines.
///
/// Text is drawn with the bundled font (DejaVu Sans: Latin, Greek, Cyrillic) if it contains every
/// character. Otherwise, the font with the most of them is used: first the added fonts, in order, then the
/// system fonts, which usually include fonts for Korean, Chinese, Arabic or emoji. A character that no font
/// contains is drawn as a box. In PNG files, Arabic letters are not joined and are drawn from left to
/// right; SVG viewers lay out the text correctly.
///
/// Added fonts stay in memory until the program ends.
///
/// # Errors
/// [`Error::Config`] if the bytes are not a font with outlines.
///
/// ```no_run
/// finetune::show::add_font(std::fs::read("NotoSansKR-Regular.ttf").unwrap())?;
/// # Ok::<(), finetune::Error>(())
/// ```
pub fn add_font(bytes: Vec<u8>) -> Result<()> {
    let mut fonts = FONTS.lock().unwrap_or_else(PoisonError::into_inner);
    let family = format!("font {}, sans-serif", fonts.fonts.len());
    let wrong = |why: String| Error::config("add_font", why);
    FontRef::try_from_slice(&bytes).map_err(|e| wrong(format!("not a font: {e}")))?;
    fonts
        .register(family.leak(), bytes.leak(), true)
        .map_err(|()| wrong("not a font".to_owned()))?;
    fonts.chosen.clear();
    Ok(())
}

/// Returns the family with the most characters of a text.
pub(super) fn family(text: &str) -> &'static str {
    let mut fonts = FONTS.lock().unwrap_or_else(PoisonError::into_inner);
    let bundled = fonts.fonts.first().map_or(FAMILY, |font| font.family);
    let mut missing: Vec<char> = text.chars().filter(|c| !fonts.has(0, *c)).collect();
    if missing.is_empty() {
        return bundled;
    }
    missing.sort_unstable();
    missing.dedup();
    let key: String = missing.into_iter().collect();
    if let Some(&chosen) = fonts.chosen.get(&key) {
        return fonts.fonts.get(chosen).map_or(bundled, |font| font.family);
    }
    let chosen = fonts.choose(text);
    fonts.chosen.insert(key, chosen);
    fonts.fonts.get(chosen).map_or(bundled, |font| font.family)
}

/// Returns true if a face has a glyph for a character, or if the character is invisible.
fn draws(face: &FontRef<'_>, c: char) -> bool {
    let drawn = |c| {
        let glyph = face.glyph_id(c);
        glyph.0 != 0 && face.outline(glyph).is_some()
    };
    // White space, control characters and emoji modifiers are invisible.
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
        || drawn(c)
}

fn count(face: &FontRef<'_>, text: &str) -> usize {
    text.chars().filter(|c| draws(face, *c)).count()
}

impl Fonts {
    fn register(
        &mut self,
        family: &'static str,
        bytes: &'static [u8],
        added: bool,
    ) -> Result<usize, ()> {
        let face = FontRef::try_from_slice(bytes).map_err(|_| ())?;
        register_font(family, FontStyle::Normal, bytes).map_err(|_| ())?;
        self.fonts.push(Font { family, added, face });
        Ok(self.fonts.len() - 1)
    }

    fn has(&self, font: usize, c: char) -> bool {
        self.fonts.get(font).is_some_and(|font| draws(&font.face, c))
    }

    /// Returns the index of the font with the most characters of a text: on a tie, the bundled one, then an
    /// added one, then a system font.
    fn choose(&mut self, text: &str) -> usize {
        let all = text.chars().count();
        let mut order: Vec<usize> = (0..self.fonts.len()).collect();
        order.sort_by_key(|&k| (k != 0, !self.fonts[k].added));
        let best = order.into_iter().map(|k| (count(&self.fonts[k].face, text), k)).rev();
        let (most, at) = best.max_by_key(|(n, _)| *n).unwrap_or((0, 0));
        if most == all {
            return at;
        }
        let Some((n, family, bytes)) = self.of_system(text) else { return at };
        if n <= most {
            return at;
        }
        self.register(family.leak(), bytes.leak(), false).unwrap_or(at)
    }

    /// Returns the system font with the most characters of a text: their number, its family and its bytes.
    fn of_system(&mut self, text: &str) -> Option<(usize, String, Vec<u8>)> {
        let database = self.system.get_or_insert_with(|| {
            let mut database = Database::new();
            database.load_system_fonts();
            database
        });
        // Collections are represented by their first font, since `plotters` supports only that.
        let mut faces: Vec<_> = database.faces().filter(|f| f.index == 0).collect();
        let plain = |f: &fontdb::FaceInfo| (f.style != Style::Normal, f.weight.0.abs_diff(400));
        faces.sort_by_cached_key(|f| (plain(f), f.post_script_name.clone()));
        let mut best: Option<(usize, &fontdb::FaceInfo)> = None;
        for face in faces {
            let n = database.with_face_data(face.id, |bytes, _| {
                FontRef::try_from_slice(bytes).map_or(0, |face| count(&face, text))
            });
            let n = n.unwrap_or(0);
            if n > best.map_or(0, |(most, _)| most) {
                best = Some((n, face));
            }
        }
        let (n, face) = best?;
        let bytes = match &face.source {
            Source::File(path) | Source::SharedFile(path, _) => fs::read(path).ok()?,
            Source::Binary(bytes) => bytes.as_ref().as_ref().to_vec(),
        };
        let family = face.families.first().map_or("sans-serif", |(name, _)| name);
        Some((n, format!("{family}, sans-serif"), bytes))
    }
}
