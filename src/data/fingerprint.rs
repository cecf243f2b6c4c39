//! Identifies the data of a run, so that a checkpoint is resumed only with the same data.

use super::{
    DataLoaders, caught,
    dataset::Dataset,
    digest::digest,
    loading::loader::{Data, DataLoader},
};
use crate::{error::Result, sample::Split};
use std::path::{Path, PathBuf};

/// The maximum number of targets compared for a user's data set, which may have to load images for them.
const SAMPLED_TARGETS: usize = 64;

/// Identifies the data of a run. Each text contains what a reader can compare, and a digest of the rest.
#[derive(Debug)]
pub(crate) struct DataFingerprint {
    pub(crate) items: String,
    pub(crate) labels: String,
    pub(crate) vocab: String,
    pub(crate) split: String,
    pub(crate) batches: String,
    pub(crate) item_tfms: String,
    pub(crate) batch_tfms: String,
}

/// Returns the common folder of all files. Names are relative to it, so that data may be moved.
fn common_folder(names: &[String]) -> PathBuf {
    let folder = |name: &String| Path::new(name).parent().map(Path::to_owned).unwrap_or_default();
    let Some(mut common) = names.first().map(folder) else { return PathBuf::new() };
    for name in names {
        while !Path::new(name).starts_with(&common) {
            if !common.pop() {
                return common;
            }
        }
    }
    common
}

impl DataLoaders {
    /// Returns the fingerprint of the data.
    ///
    /// # Errors
    /// Errors of reading a target.
    pub(crate) fn fingerprint(&self) -> Result<DataFingerprint> {
        let train = self.train();
        let dataset = train.dataset();
        let n = dataset.len();
        let items = match train.data() {
            Data::Arrays(arrays) => format!("{n} rows, {}", arrays.digest()),
            Data::Images(_) => {
                let names: Vec<String> = (0..n).map(|i| dataset.name(i)).collect();
                let common = common_folder(&names);
                let below = |name: &String| {
                    let path = Path::new(name).strip_prefix(&common).unwrap_or(Path::new(name));
                    // Sorted by path components, so that separators do not matter.
                    path.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>().join("/")
                };
                format!("{n} items, {}", digest(names.iter().map(below)))
            }
        };
        let task = self.task();
        let vocab = match task.vocab() {
            [] => format!("{task:?}"),
            vocab => format!("{} classes: {}", vocab.len(), shortened(&vocab.join(", "))),
        };
        let valid = self.valid();
        let positions =
            |loader: &DataLoader| digest(loader.items().iter().map(|&i| (i as u64).to_le_bytes()));
        let split = format!(
            "{} training and {} validation items, {}-{}",
            train.len(),
            valid.len(),
            positions(train),
            positions(valid)
        );
        let batches = [train, valid].map(DataLoader::batching);
        Ok(DataFingerprint {
            items,
            labels: labels(dataset)?,
            vocab,
            split,
            batches: batches.join("; "),
            item_tfms: described(self.item_tfms()),
            batch_tfms: described(self.batch_tfms()),
        })
    }
}

fn labels(dataset: &dyn Dataset) -> Result<String> {
    let n = dataset.len();
    let step = if dataset.targets_in_memory() { 1 } else { n.div_ceil(SAMPLED_TARGETS).max(1) };
    let mut parts = vec![];
    for i in (0..n).step_by(step) {
        // `Debug` prints every field, and floats without loss.
        parts.push(format!("{:?}", caught::target(dataset, i)?));
    }
    Ok(format!("{} labels, {}", parts.len(), digest(parts)))
}

/// Describes transforms, in order.
fn described<T: std::fmt::Debug + ?Sized>(tfms: &[std::sync::Arc<T>]) -> String {
    let all: Vec<String> = tfms.iter().map(|tfm| format!("{tfm:?}")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// Returns a text of at most 120 characters; a longer one as its start and a digest.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(120) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…, {}", &text[..end], digest([text])),
    }
}

impl DataLoader {
    /// Describes the batching. The number of workers is not included, since it changes no results.
    fn batching(&self) -> String {
        let settings = self.settings();
        let side = match settings.split {
            Split::Train => "training",
            Split::Valid => "validation",
        };
        let mut text = format!("{side} batches of {}", settings.bs);
        if settings.shuffle {
            text.push_str(", shuffled");
        }
        if settings.drop_last() {
            text.push_str(", the last partial one dropped");
        }
        if let Some(sums) = self.weight_sums() {
            let sums = digest(sums.iter().map(|s| s.to_le_bytes()));
            text.push_str(&format!(", drawn by weight ({sums})"));
        }
        text
    }
}
