//! What to do with items that cannot be loaded, and what was done.

use crate::error::Error;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// What to do with an item whose image cannot be read or decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnError {
    /// The batch is an error that names the item.
    #[default]
    Fail,
    /// The batch goes on without the item, and
    /// [`DataLoaders::skipped`](crate::data::DataLoaders::skipped) tells of it. A batch of which nothing is
    /// left is left out. Errors of transforms and labels still fail: they are not of one file.
    Skip,
}

/// An item that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedItem {
    /// Its position in the data set.
    pub item: usize,
    /// Why, with its name.
    pub why: String,
}

/// The items that were left out so far.
#[derive(Debug, Default)]
pub(in crate::data) struct Skipped(Mutex<BTreeMap<usize, String>>);

impl Skipped {
    /// Whether an error is of a single file.
    pub(in crate::data) fn may(e: &Error) -> bool {
        matches!(e, Error::Io { .. } | Error::Image { .. })
    }

    pub(in crate::data) fn add(&self, item: usize, e: &Error) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.entry(item).or_insert_with(|| e.to_string());
    }

    pub(in crate::data) fn list(&self) -> Vec<SkippedItem> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.iter().map(|(&item, why)| SkippedItem { item, why: why.clone() }).collect()
    }
}
