//! Skips items that cannot be loaded.

use crate::error::Error;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// The handling of an item whose image cannot be read or decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnError {
    /// The batch is an error that names the item.
    #[default]
    Fail,
    /// The item is skipped, and [`DataLoader::skipped`](crate::data::DataLoader::skipped) of its loader
    /// lists it. An empty batch is dropped, and an empty pass is an error. Errors of transforms and labels
    /// still fail, since they do not concern a single file.
    Skip,
}

/// A skipped item.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedItem {
    /// The index of the item in the data set of its loader.
    pub item: usize,
    /// The name of the item: its file, if it has one.
    pub name: String,
    /// The error, which includes the name.
    pub why: String,
}

/// The skipped items of one loader, by index.
#[derive(Debug, Default)]
pub(in crate::data) struct Skipped(Mutex<BTreeMap<usize, SkippedItem>>);

impl Skipped {
    /// Returns true if an error concerns a single file.
    pub(in crate::data) fn may(e: &Error) -> bool {
        matches!(e, Error::Io { .. } | Error::Image { .. })
    }

    pub(in crate::data) fn add(&self, item: usize, name: impl FnOnce() -> String, e: &Error) {
        let new = || SkippedItem { item, name: name(), why: e.to_string() };
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.entry(item).or_insert_with(new);
    }

    pub(in crate::data) fn list(&self) -> Vec<SkippedItem> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
