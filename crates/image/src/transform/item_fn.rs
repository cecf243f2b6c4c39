//! Closures as item transforms.

use super::ItemTransform;
use crate::{
    error::Result,
    sample::{Sample, Split},
    seed::Rng,
};
use std::{fmt, sync::Arc};

type Apply = Arc<dyn Fn(Sample, Split, &mut Rng) -> Result<Sample> + Send + Sync>;

/// An item transform by a closure of the user.
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
    /// Creates a transform from a closure, which runs on the workers in training and validation. It gets
    /// the split, and a random generator for its draws. `name` is used in `summary` and in errors.
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
