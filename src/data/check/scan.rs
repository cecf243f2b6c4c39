//! `check`: examines a data set before training.

use super::{
    near::{Print, near_duplicates},
    report::{CheckReport, ClassCount, Duplicates, Finding},
};
use crate::{
    data::{
        block::DataBlock,
        caught::{self, caught, position},
        dataset::Dataset,
        loaders::DataLoaders,
        loading::{loader::Data, pass::fitting},
        target::category::TargetBlock,
    },
    error::{Error, Result},
    image::{Facts, inspect, promised_format},
    sample::{Split, Target, Task},
};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// A side below this many pixels is tiny.
pub(in crate::data) const TINY: u32 = 32;

/// An image with more pixels is huge.
pub(in crate::data) const HUGE: u64 = 1 << 25;

/// The findings about one item.
struct Seen {
    item: usize,
    split: Split,
    content: Option<[u8; 32]>,
    print: Option<Print>,
    findings: Vec<(Kind, Finding)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Undecodable,
    Misnamed,
    Cmyk,
    Deep,
    Animated,
    Turned,
    Unended,
    NotUtf8,
    Tiny,
    Huge,
}

impl<Y: TargetBlock, I: Send + Sync + 'static> DataBlock<Y, I> {
    /// Opens every image of `source` once and reports problems; see [`CheckReport`]. Uses all processors,
    /// and writes nothing.
    ///
    /// # Errors
    /// As [`dataloaders`](Self::dataloaders). Problems of single files are in the report.
    pub fn check(&self, source: impl AsRef<Path>) -> Result<CheckReport> {
        self.dataloaders(source)?.check()
    }
}

impl DataLoaders {
    /// Opens every image of both splits once; see [`DataBlock::check`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the data are arrays, and errors of reading targets.
    pub fn check(&self) -> Result<CheckReport> {
        if matches!(self.train().data(), Data::Arrays(_)) {
            return Err(Error::unsupported("check", "the data are arrays, not images"));
        }
        let dataset = self.train().dataset();
        let (train, valid) = (self.train().items(), self.valid().items());
        let all: Vec<_> = train
            .iter()
            .map(|&i| (i, Split::Train))
            .chain(valid.iter().map(|&i| (i, Split::Valid)))
            .collect();
        let seen: Vec<_> = all.par_iter().map(|&(i, split)| look(dataset, i, split)).collect();
        let classes = classes(dataset, &all)?;
        let near = seen.iter().filter_map(|s| Some((s.item, s.split, s.content?, s.print?)));
        let mut report = CheckReport {
            train: train.len(),
            valid: valid.len(),
            duplicates: duplicates(dataset, &seen),
            near_duplicates: near_duplicates(dataset, near.collect()),
            similar_labels: similar(&classes),
            left_out: left_out(dataset, &all),
            notes: self.notes().to_vec(),
            classes,
            ..CheckReport::default()
        };
        for (kind, finding) in seen.into_iter().flat_map(|s| s.findings) {
            let list = match kind {
                Kind::Undecodable => &mut report.undecodable,
                Kind::Misnamed => &mut report.misnamed,
                Kind::Cmyk => &mut report.cmyk,
                Kind::Deep => &mut report.deep,
                Kind::Animated => &mut report.animated,
                Kind::Turned => &mut report.turned,
                Kind::Unended => &mut report.unended,
                Kind::NotUtf8 => &mut report.not_utf8,
                Kind::Tiny => &mut report.tiny,
                Kind::Huge => &mut report.huge,
            };
            list.push(finding);
        }
        Ok(report)
    }
}

/// Returns the name of an item.
fn name(dataset: &dyn Dataset, item: usize) -> String {
    caught::name(|item| dataset.name(item), item)
}

/// Returns the items that are in neither split.
fn left_out(dataset: &dyn Dataset, all: &[(usize, Split)]) -> Vec<Finding> {
    let used: BTreeSet<usize> = all.iter().map(|(item, _)| *item).collect();
    let unused = (0..dataset.len()).filter(|item| !used.contains(item));
    let finding =
        |item| Finding { item, name: name(dataset, item), what: "in neither split".into() };
    unused.map(finding).collect()
}

/// Returns the labels that differ only by case or white space.
fn similar(classes: &[ClassCount]) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ClassCount { label, .. } in classes {
        let alike: String = label.split_whitespace().collect::<String>().to_lowercase();
        groups.entry(alike).or_default().push(label.clone());
    }
    groups.into_values().filter(|labels| labels.len() > 1).collect()
}

/// Returns the findings about one item.
fn look(dataset: &dyn Dataset, item: usize, split: Split) -> Seen {
    let name = name(dataset, item);
    let mut seen = Seen { item, split, content: None, print: None, findings: vec![] };
    let mut find = |kind, what: String| {
        seen.findings.push((kind, Finding { item, name: name.clone(), what }));
    };
    let whole = || {
        let sample = dataset.get(item)?;
        fitting(&sample, "the image", || name.clone())?;
        Ok(sample)
    };
    let sample = caught(whole, || name.clone(), || position(item));
    let image = match &sample {
        Ok(sample) => Some(&sample.image),
        Err(e) => {
            find(Kind::Undecodable, e.to_string());
            None
        }
    };
    // A panic of user code was reported above.
    let file = caught(|| Ok(dataset.file(item)), || name.clone(), || position(item)).ok().flatten();
    let bytes = file.and_then(|path| Some((fs::read(&path).ok()?, path)));
    match bytes {
        Some((bytes, path)) => {
            if path.to_str().is_none() {
                find(Kind::NotUtf8, "the path is not UTF-8".into());
            }
            if let Ok(facts) = inspect(&bytes, HUGE) {
                judge(&facts, &path, &mut find);
            }
            seen.content = Some(Sha256::digest(&bytes).into());
        }
        None => {
            if let Some(image) = image {
                judge_size(image.width(), image.height(), &mut find);
                seen.content = Some(Sha256::digest(image.pixels()).into());
            }
        }
    }
    seen.print = image.and_then(Print::of);
    seen
}

fn judge(facts: &Facts, path: &Path, find: &mut impl FnMut(Kind, String)) {
    if let Some(promised) = promised_format(path).filter(|p| *p != facts.format) {
        find(
            Kind::Misnamed,
            format!("the content is {}, the extension says {promised}", facts.format),
        );
    }
    let flags = [
        (facts.cmyk, Kind::Cmyk, "CMYK"),
        (facts.deep, Kind::Deep, "more than 8 bits per channel"),
        (facts.animated, Kind::Animated, "animated: the first frame is used"),
        (facts.turned, Kind::Turned, "rotated by its EXIF orientation"),
        (!facts.ended, Kind::Unended, "the end marker is missing, so it may be truncated"),
    ];
    for (is, kind, what) in flags {
        if is {
            find(kind, what.into());
        }
    }
    judge_size(facts.width, facts.height, find);
}

fn judge_size(width: u32, height: u32, find: &mut impl FnMut(Kind, String)) {
    let what = format!("{width}x{height}");
    if width.min(height) < TINY {
        find(Kind::Tiny, what);
    } else if u64::from(width) * u64::from(height) > HUGE {
        find(Kind::Huge, what);
    }
}

/// Returns the groups of items with the same content, in the order of their first items.
fn duplicates(dataset: &dyn Dataset, seen: &[Seen]) -> Vec<Duplicates> {
    let mut groups: BTreeMap<[u8; 32], Vec<&Seen>> = BTreeMap::new();
    for one in seen {
        if let Some(content) = one.content {
            groups.entry(content).or_default().push(one);
        }
    }
    let mut found: Vec<_> = groups
        .into_values()
        .filter(|group| group.iter().map(|s| s.item).collect::<BTreeSet<_>>().len() > 1)
        .map(|mut group| {
            group.sort_by_key(|s| s.item);
            let items: Vec<_> = group.iter().map(|s| s.item).collect();
            let targets: Vec<_> = items.iter().map(|&i| caught::target(dataset, i).ok()).collect();
            Duplicates {
                names: items.iter().map(|&i| name(dataset, i)).collect(),
                across: group.iter().any(|s| s.split != group[0].split),
                contradictory: targets.iter().any(|t| *t != targets[0]),
                items,
            }
        })
        .collect();
    found.sort_by_key(|group| group.items[0]);
    found
}

/// Returns the number of items of each class in each split, in the order of the vocabulary.
fn classes(dataset: &dyn Dataset, all: &[(usize, Split)]) -> Result<Vec<ClassCount>> {
    let (Task::Category { vocab } | Task::Categories { vocab }) = dataset.task() else {
        return Ok(vec![]);
    };
    let mut counts: Vec<_> =
        vocab.iter().map(|label| ClassCount { label: label.clone(), train: 0, valid: 0 }).collect();
    for &(item, split) in all {
        let labels = match caught::target(dataset, item)? {
            Target::Category(label) => vec![label],
            Target::Categories(labels) => labels,
            _ => vec![],
        };
        for label in labels {
            let Some(count) = counts.get_mut(label) else { continue };
            match split {
                Split::Train => count.train += 1,
                Split::Valid => count.valid += 1,
            }
        }
    }
    Ok(counts)
}
