//! Closures as transforms of single images.

use super::ItemTransform;
use crate::{
    error::Result,
    sample::{Sample, Split},
    seed::Rng,
};
use std::{fmt, sync::Arc};

type Apply = Arc<dyn Fn(Sample, Split, &mut Rng) -> Result<Sample> + Send + Sync>;

/// A transform of single images by a closure of the caller's own.
///
/// ```
/// use finetune::{image::Image, transform::ItemFn};
///
/// let negative = ItemFn::new("negative", |mut sample, _, _| {
///     let (w, h, c) = (sample.image.width(), sample.image.height(), sample.image.channels());
///     let pixels = sample.image.pixels().iter().map(|v| 255 - v).collect();
///     sample.image = Image::new(w, h, c, pixels)?;
///     Ok(sample)
/// });
/// ```
#[derive(Clone)]
pub struct ItemFn {
    name: String,
    apply: Apply,
}

impl fmt::Debug for ItemFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl ItemFn {
    /// Carried out on the workers, in training and in validation: the closure is told which, and what
    /// it draws should come from the generator. `name` is what `summary` and errors call it.
    pub fn new(
        name: impl Into<String>,
        apply: impl Fn(Sample, Split, &mut Rng) -> Result<Sample> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), apply: Arc::new(apply) }
    }
}

impl ItemTransform for ItemFn {
    fn apply(&self, sample: Sample, split: Split, rng: &mut Rng) -> Result<Sample> {
        (self.apply)(sample, split, rng)
    }
}
