//! Converts items outside the data set in the same way as a `DataBlock`.

use super::{
    labeled::{Get, Items, Targets, check, encode, label_of, name_of},
    source::{ImageBlock, ImageSource},
};
use crate::{
    data::{
        loading::loader::{Data, Images},
        target::category::TargetBlock,
    },
    error::{Error, Result},
    sample::{Target, Task},
};
use std::{
    any::{Any, type_name},
    sync::Arc,
};

/// The parts of a [`DataBlock`](crate::data::DataBlock) that are needed for later items, without its type
/// parameters: its input, and its functions from an item to a target.
pub(in crate::data) trait TestItems: Send + Sync + std::fmt::Debug {
    /// Returns the decoding of images.
    fn input(&self) -> ImageBlock;

    /// Returns the data set of a boxed `Vec<I>`, with targets if `labeled` is true.
    fn items(&self, items: Box<dyn Any>, labeled: bool, task: Task) -> Result<Data>;
}

/// The implementation of [`TestItems`], with type parameters.
pub(in crate::data) struct Pipeline<Y: TargetBlock, I> {
    pub(in crate::data) input: ImageBlock,
    pub(in crate::data) get_x: Get<I, ImageSource>,
    pub(in crate::data) get_y: Get<I, Y::Label>,
    /// Fitted to the training labels.
    pub(in crate::data) target: Y,
}

impl<Y: TargetBlock, I> std::fmt::Debug for Pipeline<Y, I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pipeline({:?})", self.input)
    }
}

impl<Y: TargetBlock, I: Send + Sync + 'static> TestItems for Pipeline<Y, I> {
    fn input(&self) -> ImageBlock {
        self.input
    }

    fn items(&self, items: Box<dyn Any>, labeled: bool, task: Task) -> Result<Data> {
        let items = *items.downcast::<Vec<I>>().map_err(|_| {
            let why = format!("the items of this data block have the type `{}`", type_name::<I>());
            Error::config("test_dl", why)
        })?;
        let label = |i: usize| label_of(&items, &self.get_x, &self.get_y, i);
        let name = |i: usize| name_of(&items, &self.get_x, i);
        let targets = match labeled {
            true if self.target.deferred() => {
                let checked = |i: usize| {
                    let label = label(i)?;
                    check(&self.target, &label, || name(i))?;
                    Ok(Some(label))
                };
                let labels = (0..items.len()).map(checked).collect::<Result<_>>()?;
                Targets::deferred(&self.target, labels)
            }
            true => {
                let target = |i: usize| encode(&self.target, &label(i)?, || name(i));
                Targets::Made((0..items.len()).map(target).collect::<Result<_>>()?)
            }
            false => Targets::Made(vec![Target::None; items.len()]),
        };
        let (input, get_x) = (self.input, self.get_x.clone());
        Ok(as_data(Items { input, items, get_x, targets, task }))
    }
}

pub(in crate::data) fn as_data<I: Send + Sync + 'static>(items: Items<I>) -> Data {
    Data::Images(Images {
        dataset: Arc::new(items),
        item_tfms: Arc::new([]),
        batch_tfms: Arc::new([]),
        skipped: Arc::default(),
        presized: None,
    })
}
