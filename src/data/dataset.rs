//! Items by position.

use super::items::source::{ImageBlock, ImageSource};
use crate::{error::Result, sample::{Sample, Target, Task}};
use std::{path::PathBuf, sync::Arc};

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

/// Reads something from an item.
pub(super) type Get<I, T> = Arc<dyn Fn(&I) -> Result<T> + Send + Sync>;

/// The data set of a [`DataBlock`](super::DataBlock): items of any type, their targets, and how to
/// find their images.
pub(super) struct Items<I> {
    pub(super) input: ImageBlock,
    pub(super) items: Vec<I>,
    pub(super) get_x: Get<I, ImageSource>,
    /// One for each item.
    pub(super) targets: Vec<Target>,
    pub(super) task: Task,
}

/// What item `index` is called.
pub(super) fn name_of<I>(items: &[I], get_x: &Get<I, ImageSource>, index: usize) -> String {
    match get_x(&items[index]) {
        Ok(ImageSource::File(path)) => path.display().to_string(),
        _ => format!("item {index}"),
    }
}

impl<I: Send + Sync> Dataset for Items<I> {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let source = (self.get_x)(&self.items[index])?;
        let image = match &source {
            ImageSource::File(_) => self.input.open(&source, ""),
            source => self.input.open(source, &self.name(index)),
        }?;
        Ok(Sample { image, target: self.targets[index].clone() })
    }

    fn name(&self, index: usize) -> String {
        name_of(&self.items, &self.get_x, index)
    }

    fn task(&self) -> Task {
        self.task.clone()
    }

    fn target(&self, index: usize) -> Result<Target> {
        Ok(self.targets[index].clone())
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        match (self.get_x)(&self.items[index]) {
            Ok(ImageSource::File(path)) => Some(path),
            _ => None,
        }
    }

    fn decoding(&self) -> String {
        format!("{:?}", self.input)
    }
}
