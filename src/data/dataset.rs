//! The trait of data sets.

use crate::{
    error::{Error, Result},
    sample::{Sample, Target, Task},
};
use std::path::PathBuf;

/// Returns the error of an index that is not below the number of items.
pub(super) fn beyond(index: usize) -> Error {
    Error::config("item", format!("index {index} is beyond the data set"))
}

/// A data set: items by index. Shared by the workers, so it holds paths and targets, and no tensors.
///
/// [`DataBlock`](super::DataBlock) builds one; pass your own to
/// [`DataLoaders::from_dataset`](super::DataLoaders::from_dataset):
///
/// ```no_run
/// use finetune::data::{DataLoaders, Dataset, LoaderOptions, Splits, Transforms};
/// use finetune::{
///     Result,
///     image::Decode,
///     sample::{Sample, Target, Task},
///     transform::Resize,
/// };
///
/// /// The photos `0.jpg` to `299.jpg`; the first 100 show cats.
/// struct Photos;
///
/// impl Dataset for Photos {
///     fn len(&self) -> usize {
///         300
///     }
///     fn get(&self, index: usize) -> Result<Sample> {
///         let image = Decode::new().open(self.name(index))?;
///         Ok(Sample::new(image, self.target(index)?))
///     }
///     fn target(&self, index: usize) -> Result<Target> {
///         Ok(Target::Category(usize::from(index < 100)))
///     }
///     fn name(&self, index: usize) -> String {
///         format!("photos/{index}.jpg")
///     }
///     fn task(&self) -> Task {
///         Task::Category { vocab: ["other".to_owned(), "cat".to_owned()].into() }
///     }
/// }
///
/// let (valid, train): (Vec<_>, Vec<_>) = (0..300_usize).partition(|index| index % 5 == 0);
/// let splits = Splits { train, valid };
/// let tfms = Transforms::new().item_tfms(Resize::new(224));
/// let dls = DataLoaders::from_dataset(Photos, splits, tfms, LoaderOptions::new())?;
/// # Ok::<(), finetune::Error>(())
/// ```
pub trait Dataset: Send + Sync {
    /// Returns the number of items.
    fn len(&self) -> usize;

    /// Returns true if there are no items.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the image and the target of an item. Called on a worker, any number of times.
    ///
    /// # Errors
    /// Any error that occurs when the item is loaded. It should name the item. The data sets of this crate return
    /// [`Error::Config`] for an index that is not below [`len`](Self::len).
    fn get(&self, index: usize) -> Result<Sample>;

    /// Returns the name of an item for errors and figures: its file, if it has one.
    fn name(&self, index: usize) -> String;

    /// Returns the task, which describes the targets.
    fn task(&self) -> Task;

    /// Returns the target of an item, without loading its image if possible.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn target(&self, index: usize) -> Result<Target> {
        Ok(self.get(index)?.target)
    }

    /// Returns true if [`target`](Self::target) is fast, so that all targets are compared before a run is
    /// resumed. Otherwise up to 64 of them are compared. Default: false.
    fn targets_in_memory(&self) -> bool {
        false
    }

    /// Returns the file of an item, which identifies it in caches and checks; `None` if it has none.
    fn file(&self, _index: usize) -> Option<PathBuf> {
        None
    }

    /// Returns a string that identifies the decoding options. Caches use it, together with the file, as
    /// part of their key.
    fn decoding(&self) -> String {
        String::new()
    }
}
