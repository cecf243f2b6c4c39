//! Items with their images and targets: the data set of a `DataBlock`.

use super::{
    names::shown,
    source::{ImageBlock, ImageSource},
};
use crate::{
    data::{
        caught::{self, caught, position},
        dataset::{Dataset, beyond},
        target::category::TargetBlock,
    },
    error::{Error, Result},
    sample::{Sample, Target, Task},
};
use std::{path::PathBuf, sync::Arc};

/// Reads something from an item.
pub(in crate::data) type Get<I, T> = Arc<dyn Fn(&I) -> Result<T> + Send + Sync>;

/// The data set of a [`DataBlock`](crate::data::DataBlock): items of any type, their targets, and a
/// function that returns their images.
pub(in crate::data) struct Items<I> {
    pub(in crate::data) input: ImageBlock,
    pub(in crate::data) items: Vec<I>,
    pub(in crate::data) get_x: Get<I, ImageSource>,
    pub(in crate::data) targets: Targets,
    pub(in crate::data) task: Task,
}

/// The targets of all items.
pub(in crate::data) enum Targets {
    /// Built before the first batch, one for each item.
    Made(Vec<Target>),
    /// Built each time an item is loaded; see [`TargetBlock::deferred`].
    Each(Arc<dyn Fn(usize) -> Result<Target> + Send + Sync>),
}

impl Targets {
    /// Creates targets that are built from their labels each time. An item without a label has none.
    pub(in crate::data) fn deferred<Y: TargetBlock>(
        block: &Y,
        labels: Vec<Option<Y::Label>>,
    ) -> Self {
        let block = block.clone();
        Self::Each(Arc::new(move |i| match &labels[i] {
            Some(label) => block.encode(label),
            None => Ok(Target::None),
        }))
    }

    fn get(&self, index: usize) -> Result<Target> {
        match self {
            Self::Made(targets) => Ok(targets[index].clone()),
            Self::Each(make) => make(index),
        }
    }
}

/// Returns the name of item `index`. `get_x` is user code, which may panic.
pub(in crate::data) fn name_of<I>(
    items: &[I],
    get_x: &Get<I, ImageSource>,
    index: usize,
) -> String {
    let name = |index| match get_x(&items[index]) {
        Ok(ImageSource::File(path)) => shown(&path),
        _ => position(index),
    };
    caught::name(name, index)
}

impl<I> Items<I> {
    fn item(&self, index: usize) -> Result<&I> {
        self.items.get(index).ok_or_else(|| beyond(index))
    }
}

impl<I: Send + Sync> Dataset for Items<I> {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let source = (self.get_x)(self.item(index)?)?;
        let image = match &source {
            ImageSource::File(_) => self.input.open(&source, ""),
            source => self.input.open(source, &self.name(index)),
        }?;
        Ok(Sample::new(image, self.target(index)?))
    }

    fn name(&self, index: usize) -> String {
        name_of(&self.items, &self.get_x, index)
    }

    fn task(&self) -> Task {
        self.task.clone()
    }

    fn targets_in_memory(&self) -> bool {
        matches!(self.targets, Targets::Made(_))
    }

    fn target(&self, index: usize) -> Result<Target> {
        self.item(index)?;
        naming(self.targets.get(index), || self.name(index))
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        match (self.get_x)(self.items.get(index)?) {
            Ok(ImageSource::File(path)) => Some(path),
            _ => None,
        }
    }

    fn decoding(&self) -> String {
        format!("{:?}", self.input)
    }
}

/// Returns the label of an item. A user's error gets the item's name.
pub(in crate::data) fn label_of<I, L>(
    items: &[I],
    get_x: &Get<I, ImageSource>,
    get_y: &Get<I, L>,
    i: usize,
) -> Result<L> {
    let name = || name_of(items, get_x, i);
    caught(|| get_y(&items[i]), name, || position(i)).map_err(|e| match e {
        e @ (Error::Label { .. } | Error::Worker { .. }) => e,
        e => Error::transform(&format_args!("get_y"), name_of(items, get_x, i))(e),
    })
}

/// Returns the target of a label, with the item's name in the error.
pub(in crate::data) fn encode<Y: TargetBlock>(
    target: &Y,
    label: &Y::Label,
    name: impl Fn() -> String,
) -> Result<Target> {
    naming(caught(|| target.encode(label), &name, an_item), name)
}

/// Checks whether the target of a label can be built, with the item's name in the error.
pub(in crate::data) fn check<Y: TargetBlock>(
    target: &Y,
    label: &Y::Label,
    name: impl Fn() -> String,
) -> Result<()> {
    naming(caught(|| target.check(label), &name, an_item), name)
}

fn an_item() -> String {
    "an item".to_owned()
}

/// Adds the item's name to the error of a label.
fn naming<T>(done: Result<T>, name: impl FnOnce() -> String) -> Result<T> {
    done.map_err(|e| match e {
        Error::Label { why, .. } => Error::label(name(), why),
        // A mask in memory has no name of its own.
        Error::Image { item, cause, .. } => Error::image(format!("{item} of {}", name()), cause),
        e => e,
    })
}
