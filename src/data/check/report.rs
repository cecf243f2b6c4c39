//! The result of `check`.

use crate::image::Image;
use std::fmt;

/// A finding about one item.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The index of the item in the data set.
    pub item: usize,
    /// The file of the item, if it has one.
    pub name: String,
    /// A description of the finding.
    pub what: String,
}

/// Items with exactly the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Duplicates {
    /// The indices of the items in the data set.
    pub items: Vec<usize>,
    /// The files of the items.
    pub names: Vec<String>,
    /// True if some are for training and some for validation, which makes the metrics too optimistic.
    pub across: bool,
    /// True if their labels differ.
    pub contradictory: bool,
}

/// A training and a validation item that look alike, although their files differ: usually the same photo in
/// another size or quality, or two photos of one scene.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NearDuplicate {
    /// The index of the training item in the data set.
    pub train: usize,
    /// The index of the validation item in the data set.
    pub valid: usize,
    /// The files, the training item's first.
    pub names: [String; 2],
    /// The number of the 64 bits in which their perceptual hashes differ, from 0 to 7.
    pub distance: u32,
    /// Both images, at most 200 pixels high and wide, the training item's first. Only for the 24 most
    /// similar pairs.
    pub pictures: Option<[Image; 2]>,
}

/// The number of items of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassCount {
    /// The class.
    pub label: String,
    /// The number of training items.
    pub train: usize,
    /// The number of validation items.
    pub valid: usize,
}

/// The result of [`DataBlock::check`](crate::data::DataBlock::check). Its text is a summary with the first
/// names of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// The number of training items.
    pub train: usize,
    /// The number of validation items.
    pub valid: usize,
    /// Items that cannot be read or decoded, that have more pixels than the block allows, or whose mask has another
    /// size than their image.
    pub undecodable: Vec<Finding>,
    /// Items whose format differs from their extension. They are decoded by content.
    pub misnamed: Vec<Finding>,
    /// CMYK images. They are converted to RGB without their color profile.
    pub cmyk: Vec<Finding>,
    /// Images with more than 8 bits per channel. The upper 8 bits are used.
    pub deep: Vec<Finding>,
    /// Images with more than one frame. The first frame is used.
    pub animated: Vec<Finding>,
    /// Images rotated or flipped by EXIF. The orientation is applied unless the block disables it.
    pub turned: Vec<Finding>,
    /// Images that were decoded, but lack the end marker of their format: the EOI marker of JPEG, the IEND
    /// chunk of PNG, the trailer of GIF.
    pub unended: Vec<Finding>,
    /// Items whose path is not UTF-8, so that it cannot be a label or be matched by name.
    pub not_utf8: Vec<Finding>,
    /// Images whose shorter side is below 32 pixels.
    pub tiny: Vec<Finding>,
    /// Images with more than 2²⁵ pixels, which are slow to decode.
    pub huge: Vec<Finding>,
    /// Items with exactly the same content.
    pub duplicates: Vec<Duplicates>,
    /// Pairs of a training and a validation item that look alike, most similar first.
    pub near_duplicates: Vec<NearDuplicate>,
    /// Labels that differ only by case or white space, in groups.
    pub similar_labels: Vec<Vec<String>>,
    /// Items that are in neither split.
    pub left_out: Vec<Finding>,
    /// Notes on items left out by listing and splitting:
    /// [`DataLoaders::notes`](crate::data::DataLoaders::notes).
    pub notes: Vec<String>,
    /// The number of items of each class, in the order of the vocabulary. Empty if there are no classes.
    pub classes: Vec<ClassCount>,
}

impl CheckReport {
    /// Returns true if every item can be decoded and is in a split, no two items of different splits or
    /// labels have the same content, every class is in both splits, and no labels differ only by case or
    /// white space. Near-duplicates are not considered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.undecodable.is_empty()
            && self.left_out.is_empty()
            && self.similar_labels.is_empty()
            && self.missing_classes().next().is_none()
            && self.duplicates.iter().all(|d| !d.across && !d.contradictory)
    }

    /// Returns the classes without items in a split. If validation is empty, those without training items.
    pub fn missing_classes(&self) -> impl Iterator<Item = &ClassCount> {
        let missing = |c: &&ClassCount| c.train == 0 || (c.valid == 0 && self.valid > 0);
        self.classes.iter().filter(missing)
    }

    /// Returns the classes with 1 to 4 training items, too few to learn from.
    pub fn rare_classes(&self) -> impl Iterator<Item = &ClassCount> {
        self.classes.iter().filter(|c| (1..RARE).contains(&c.train))
    }

    /// Returns the findings by kind, with a description of the kind.
    fn kinds(&self) -> [(&'static str, &[Finding]); 11] {
        [
            ("cannot be decoded", &self.undecodable),
            ("named as another format", &self.misnamed),
            ("in CMYK", &self.cmyk),
            ("with more than 8 bits", &self.deep),
            ("animated", &self.animated),
            ("turned by EXIF", &self.turned),
            ("without an end marker", &self.unended),
            ("with a path that is not UTF-8", &self.not_utf8),
            ("in neither split", &self.left_out),
            ("tiny", &self.tiny),
            ("huge", &self.huge),
        ]
    }
}

/// A class with fewer training items is rare.
const RARE: usize = 5;

/// The number of names shown per kind.
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
        if !self.near_duplicates.is_empty() {
            let n = self.near_duplicates.len();
            writeln!(f, "{n} pairs across the two splits look alike:")?;
            for NearDuplicate { names: [train, valid], distance, .. } in
                self.near_duplicates.iter().take(SHOWN)
            {
                writeln!(f, "  {train} and {valid} ({distance} bits differ)")?;
            }
            more(f, n)?;
        }
        for labels in &self.similar_labels {
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            writeln!(f, "labels that differ only by case or white space: {}", labels.join(", "))?;
        }
        for ClassCount { label, train, valid } in self.missing_classes() {
            let (split, other, n) = match train {
                0 => ("training", "validation", valid),
                _ => ("validation", "training", train),
            };
            writeln!(f, "`{label}` has no {split} items, and {n} {other} items")?;
        }
        for ClassCount { label, train, .. } in self.rare_classes() {
            writeln!(f, "`{label}` has few training items: {train}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
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
