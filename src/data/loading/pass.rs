//! State shared by all batches of a pass over a data set.

use super::{
    buffers::Buffers,
    skip::{OnError, Skipped},
};
use crate::{
    data::{cache::presized::Presized, caught, dataset::Dataset},
    error::{Error, Result},
    image::Image,
    sample::{Sample, Split, Target, Task},
    seed::{Seed, Stream},
    transform::{BatchTransform, ItemTransform, apply_item_tfms},
};
use std::sync::Arc;

/// State shared by all batches of a pass.
pub(in crate::data) struct Pass {
    pub(in crate::data) dataset: Arc<dyn Dataset>,
    pub(in crate::data) item_tfms: Arc<[Arc<dyn ItemTransform>]>,
    pub(in crate::data) batch_tfms: Arc<[Arc<dyn BatchTransform>]>,
    pub(in crate::data) presized: Option<Presized>,
    pub(in crate::data) split: Split,
    pub(in crate::data) seed: Seed,
    pub(in crate::data) pass: u64,
    pub(in crate::data) task: Task,
    pub(in crate::data) on_error: OnError,
    pub(in crate::data) skipped: Arc<Skipped>,
    /// True if the batch transforms are executed on the workers instead of the device.
    pub(in crate::data) on_workers: bool,
    pub(in crate::data) buffers: Arc<Buffers>,
}

/// One use of an item.
#[derive(Debug, Clone, Copy)]
pub(in crate::data) struct Draw {
    pub(in crate::data) item: usize,
    /// 0 for the first use of an item in a pass. Counts repeated draws, so that each is transformed
    /// differently.
    pub(in crate::data) again: u32,
}

/// Checks that a mask has the size of its image.
pub(in crate::data) fn fitting(
    sample: &Sample,
    image: &str,
    name: impl FnOnce() -> String,
) -> Result<()> {
    let Target::Mask(mask) = &sample.target else { return Ok(()) };
    let size = |image: &Image| (image.width(), image.height());
    let (own, wanted) = (size(mask), size(&sample.image));
    if own == wanted && mask.channels() == 1 {
        return Ok(());
    }
    let why = format!(
        "its mask has {}x{}x{} pixels, but {image} has {}x{}: both must have the same size, and a mask \
         must have one channel",
        own.0,
        own.1,
        mask.channels(),
        wanted.0,
        wanted.1
    );
    Err(Error::label(name(), why))
}

impl Pass {
    /// Returns the name of an item. Names are computed by user code, which may panic.
    pub(in crate::data) fn name(&self, item: usize) -> String {
        caught::name(|item| self.dataset.name(item), item)
    }

    /// Returns the transformed sample of an item.
    pub(in crate::data) fn sample(&self, draw: Draw) -> Result<Sample> {
        let sample = match &self.presized {
            Some(presized) => presized.get(&*self.dataset, draw.item, self.split)?,
            None => self.dataset.get(draw.item)?,
        };
        let pass = self.pass | u64::from(draw.again) << 40;
        let mut rng = self.seed.rng(Stream::Item { pass, index: draw.item as u64 });
        let name = || self.name(draw.item);
        fitting(&sample, "the image", name)?;
        let tfms = &self.item_tfms;
        let sample = apply_item_tfms(tfms, sample, self.split, &mut rng, name, |_, _| {})?;
        fitting(&sample, "the image after the item transforms", name)?;
        Ok(sample)
    }
}
