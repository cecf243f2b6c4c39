//! Fonts for text in pictures: the bundled one, those that the caller adds, those of the system.

use crate::error::{Error, Result};
use ab_glyph::{Font as _, FontRef};
use fontdb::{Database, Source, Style};
use plotters::style::{FontStyle, register_font};
use std::{
    collections::HashMap,
    fs,
    sync::{LazyLock, Mutex, PoisonError},
};

/// DejaVu Sans 2.37, cut down to Latin, Greek, Cyrillic, punctuation and a few signs. Its license is
/// beside it.
static BUNDLED: &[u8] = include_bytes!("fonts/DejaVuSans.ttf");

/// The name under which the bundled font is registered. An SVG hands it to the viewer, which takes the
/// first of these families that it has; Verdana has the same widths.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// A font that is registered with `plotters` by its family.
struct Font {
    family: &'static str,
    /// Whether the caller added it, so that it comes before those of the system.
    added: bool,
    face: FontRef<'static>,
}

/// The fonts so far, and which of them is taken for a text.
struct Fonts {
    fonts: Vec<Font>,
    /// The position of the font for each set of characters that the bundled one lacks.
    chosen: HashMap<String, usize>,
    /// The fonts of the system, read when a character is missing for the first time.
    system: Option<Database>,
}

static FONTS: LazyLock<Mutex<Fonts>> = LazyLock::new(|| {
    let mut fonts = Fonts { fonts: vec![], chosen: HashMap::new(), system: None };
    // The bytes are a constant that the tests draw with, so this cannot fail at a user's.
    let _ = fonts.register(FAMILY, BUNDLED, false);
    Mutex::new(fonts)
});

/// Adds a font, the bytes of a TrueType or OpenType file with outlines, for text in pictures: labels, names
/// and titles.
///
/// Text is drawn with the bundled font (DejaVu Sans: Latin, Greek, Cyrillic) as long as it has every
/// character. Otherwise the font that has the most of them is taken: of the added ones, the first added
/// first, then of those that are installed on the system, where fonts for Korean, Chinese, Arabic or emoji
/// usually are. Where none has a character, a box is drawn. In PNG, Arabic letters are not joined and are
/// drawn from left to right; viewers of SVG do better.
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

/// The family that has the most characters of a text.
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

/// Whether a face draws a character, or need not.
fn draws(face: &FontRef<'_>, c: char) -> bool {
    let drawn = |c| {
        let glyph = face.glyph_id(c);
        glyph.0 != 0 && face.outline(glyph).is_some()
    };
    // White space, control characters and modifiers of emoji leave no mark.
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

    /// The position of the font with the most characters of a text: the bundled one, an added one, one of
    /// the system, in this order where they are equal.
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

    /// The installed font with the most characters of a text: how many it has, its family and its bytes.
    fn of_system(&mut self, text: &str) -> Option<(usize, String, Vec<u8>)> {
        let database = self.system.get_or_insert_with(|| {
            let mut database = Database::new();
            database.load_system_fonts();
            database
        });
        // Collections count by their first font, since `plotters` knows no other.
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
