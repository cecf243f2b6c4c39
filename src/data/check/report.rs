//! What `check` found.

use std::fmt;

/// Something about one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its position in the data set.
    pub item: usize,
    /// Its file, if it has one.
    pub name: String,
    /// What was found.
    pub what: String,
}

/// Items with exactly the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicates {
    /// Their positions in the data set.
    pub items: Vec<usize>,
    /// Their files.
    pub names: Vec<String>,
    /// Whether some are for training and some for validation, so that the metrics are too good.
    pub across: bool,
    /// Whether they have different labels.
    pub contradictory: bool,
}

/// How often a class occurs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassCount {
    /// The class.
    pub label: String,
    /// The number of training items.
    pub train: usize,
    /// The number of validation items.
    pub valid: usize,
}

/// What [`DataBlock::check`](crate::data::DataBlock::check) found; as text, a summary with the first names of
/// each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// The number of training items.
    pub train: usize,
    /// The number of validation items.
    pub valid: usize,
    /// Cannot be read or decoded, or has more pixels than the block allows.
    pub undecodable: Vec<Finding>,
    /// The content is of another format than the name says. It is decoded nevertheless.
    pub misnamed: Vec<Finding>,
    /// Colors of printing, converted to RGB without their color profile.
    pub cmyk: Vec<Finding>,
    /// More than 8 bits for each color, of which the upper 8 are taken.
    pub deep: Vec<Finding>,
    /// More than one frame, of which the first is taken.
    pub animated: Vec<Finding>,
    /// Turned or mirrored by EXIF, which is heeded unless the block says otherwise.
    pub turned: Vec<Finding>,
    /// The shorter side is below 32 pixels.
    pub tiny: Vec<Finding>,
    /// More than 2²⁵ pixels: decoding takes long.
    pub huge: Vec<Finding>,
    /// Items with exactly the same content.
    pub duplicates: Vec<Duplicates>,
    /// How often each class occurs, in the order of the vocabulary. Empty where there are no classes.
    pub classes: Vec<ClassCount>,
}

impl CheckReport {
    /// Whether every item can be decoded, and none has its like on the other side or with another label.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.undecodable.is_empty() && self.duplicates.iter().all(|d| !d.across && !d.contradictory)
    }

    /// The findings by kind, with what the kind is called.
    fn kinds(&self) -> [(&'static str, &[Finding]); 8] {
        [
            ("cannot be decoded", &self.undecodable),
            ("named as another format", &self.misnamed),
            ("in CMYK", &self.cmyk),
            ("with more than 8 bits", &self.deep),
            ("animated", &self.animated),
            ("turned by EXIF", &self.turned),
            ("tiny", &self.tiny),
            ("huge", &self.huge),
        ]
    }
}

/// How many names of a kind the text has.
const SHOWN: usize = 10;

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} training and {} validation items", self.train, self.valid)?;
        for (kind, findings) in self.kinds().into_iter().filter(|(_, list)| !list.is_empty()) {
            writeln!(f, "{} {kind}:", findings.len())?;
            for Finding { name, what, .. } in findings.iter().take(SHOWN) {
                match what.contains(name.as_str()) {
                    true => writeln!(f, "  {what}")?,
                    false => writeln!(f, "  {name}: {what}")?,
                }
            }
            more(f, findings.len())?;
        }
        if !self.duplicates.is_empty() {
            let across = self.duplicates.iter().filter(|d| d.across).count();
            let n = self.duplicates.len();
            writeln!(f, "{n} groups with the same content, {across} across the two splits:")?;
            for group in self.duplicates.iter().take(SHOWN) {
                let across = if group.across { " (across)" } else { "" };
                let labels = if group.contradictory { " (different labels)" } else { "" };
                writeln!(f, "  {}{across}{labels}", group.names.join(", "))?;
            }
            more(f, n)?;
        }
        if !self.classes.is_empty() {
            writeln!(f, "{} classes, training and validation:", self.classes.len())?;
            for ClassCount { label, train, valid } in &self.classes {
                writeln!(f, "  {label}: {train} and {valid}")?;
            }
        }
        Ok(())
    }
}

fn more(f: &mut fmt::Formatter<'_>, n: usize) -> fmt::Result {
    match n.saturating_sub(SHOWN) {
        0 => Ok(()),
        left => writeln!(f, "  and {left} more"),
    }
}
