//! The transforms of a data set.

use crate::{
    error::Result,
    transform::{BatchTransform, ItemTransform},
};
use std::sync::Arc;

/// The transforms of the items and of the batches of a data set, for
/// [`DataLoaders::from_dataset`](super::DataLoaders::from_dataset).
///
/// ```
/// use finetune::{data::Transforms, transform::{Resize, aug_transforms}};
///
/// let tfms = Transforms::new().item_tfms(Resize::new(460)).batch_tfms(aug_transforms().size(224));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Transforms {
    pub(super) item: Vec<Arc<dyn ItemTransform>>,
    pub(super) batch: Vec<Arc<dyn BatchTransform>>,
}

impl Transforms {
    /// Returns no transforms.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a transform of single images.
    #[must_use]
    pub fn item_tfms(mut self, tfm: impl ItemTransform + 'static) -> Self {
        self.item.push(Arc::new(tfm));
        self
    }

    /// Adds a transform of batches. Batch transforms run in a fixed order.
    #[must_use]
    pub fn batch_tfms(mut self, tfm: impl BatchTransform + 'static) -> Self {
        self.batch.push(Arc::new(tfm));
        self
    }

    /// Checks the options of all transforms.
    pub(super) fn check(&self) -> Result<()> {
        self.item.iter().try_for_each(|tfm| tfm.check())?;
        self.batch.iter().try_for_each(|tfm| tfm.check())
    }
}
