//! Converts panics in user code to errors that name the item.

use super::dataset::Dataset;
use crate::{
    error::{Error, Result},
    sample::Target,
};
use finetune_image::Panic;

/// Calls `f`. A panic becomes [`Error::Worker`] with its message, the item's `name` and its place. A panic of
/// `name` itself is caught too; `otherwise` is used as the name then.
pub(in crate::data) fn caught<T>(
    f: impl FnOnce() -> Result<T>,
    name: impl FnOnce() -> String,
    otherwise: impl FnOnce() -> String,
) -> Result<T> {
    finetune_image::caught(f).unwrap_or_else(|Panic { why, place, .. }| {
        let name = finetune_image::caught(name).unwrap_or_else(|_| otherwise());
        Err(Error::worker(format!("{why} (on {name}) at {place}")))
    })
}

/// Returns the name of item `index`, or its index if that panics.
pub(in crate::data) fn name(name: impl FnOnce(usize) -> String, index: usize) -> String {
    finetune_image::caught(|| name(index)).unwrap_or_else(|_| position(index))
}

/// Returns the target of item `index` of a data set.
pub(in crate::data) fn target(dataset: &dyn Dataset, index: usize) -> Result<Target> {
    caught(|| dataset.target(index), || dataset.name(index), || position(index))
}

/// Returns the name of an item by its index.
pub(in crate::data) fn position(index: usize) -> String {
    format!("item {index}")
}
