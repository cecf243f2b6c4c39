//! Items by position.

use crate::{
    error::Result,
    sample::{Sample, Target, Task},
};
use std::path::PathBuf;

/// Items by position. Shared by the workers, so it holds paths and targets, and no tensors.
///
/// [`DataBlock`](super::DataBlock) makes one; a type of your own goes to
/// [`DataLoaders::from_dataset`](super::DataLoaders::from_dataset).
pub trait Dataset: Send + Sync {
    /// The number of items.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The image and the target of an item. Called on a worker, any number of times.
    ///
    /// # Errors
    /// Whatever keeps the item from being loaded. It should name the item.
    fn get(&self, index: usize) -> Result<Sample>;

    /// What an item is called in errors and under pictures: its file, if it has one.
    fn name(&self, index: usize) -> String;

    /// What the targets are.
    fn task(&self) -> Task;

    /// The target of an item, without its image where that is possible.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn target(&self, index: usize) -> Result<Target> {
        Ok(self.get(index)?.target)
    }

    /// Whether [`target`](Self::target) is quick, so that the targets of all items can be compared before a run is
    /// resumed. Otherwise up to 64 of them are. Default: false.
    fn targets_in_memory(&self) -> bool {
        false
    }

    /// The file of an item, by which caches and checks know it. `None` if it has none.
    fn file(&self, _index: usize) -> Option<PathBuf> {
        None
    }

    /// What decides beside its file how an image is decoded, in any words: caches know images by it
    /// too.
    fn decoding(&self) -> String {
        String::new()
    }
}
