//! What changes a sample on a worker, and what is planned for a batch and carried out at once.

mod affine;
mod augment;
mod execute;
mod lighting;
mod normalize;
mod plan;
mod resize;

pub use {
    affine::{Flip, RandomResizedCropGpu, Rotate, Warp, Zoom},
    augment::{Augment, aug_transforms},
    lighting::{Brightness, Contrast},
    normalize::Normalize,
    plan::{Crop, Plan},
    resize::{Method, Resize},
};

use crate::{
    error::Result,
    image::Image,
    sample::{Sample, Split},
    seed::Rng,
};
use serde::{Deserialize, Serialize};
use std::{fmt::Debug, sync::Arc};
use tch::Tensor;

/// Changes one sample, on a worker thread.
///
/// It has no state: what is drawn comes from `rng` and ends with the call, so one transform serves
/// every thread. Its `Debug` is its description in `summary`.
pub trait ItemTransform: Debug + Send + Sync {
    /// The changed sample.
    ///
    /// # Errors
    /// Whatever keeps the transform from its work; the loader adds the item's name.
    fn apply(&self, sample: Sample, split: Split, rng: &mut Rng) -> Result<Sample>;

    /// What a cache may keep of an image in place of it, if this is the first transform: an image from
    /// which `apply` makes what it makes of the image itself, as nearly as whole pixels allow. It must
    /// be the same each time. Default: the image itself.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    fn presize(&self, _image: &Image, _split: Split) -> Result<Option<Image>> {
        Ok(None)
    }

    /// The transform as data, for an exported model. Default: none, it is code.
    fn spec(&self) -> Option<ItemSpec> {
        None
    }
}

/// Plans what is to be done to a batch, without touching a pixel.
pub trait BatchTransform: Debug + Send + Sync {
    /// Writes what is wanted for every image of a batch into `plan`. What is drawn comes from `rng`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for an option that cannot be used.
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()>;

    /// Its place, lowest first: 30 for geometry, 40 for colours, 99 for normalization. Equal ones keep
    /// the order in which they were added.
    fn order(&self) -> i32;

    /// What validation and prediction need of the transform as data, for an exported model. Default:
    /// none, it is code.
    fn spec(&self) -> Option<BatchSpec> {
        None
    }
}

/// An item transform as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "transform", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ItemSpec {
    /// [`Resize`].
    Resize(Resize),
}

impl ItemSpec {
    /// The transform.
    #[must_use]
    pub fn build(&self) -> Arc<dyn ItemTransform> {
        match self {
            Self::Resize(resize) => Arc::new(resize.clone()),
        }
    }
}

/// A batch transform as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "transform", rename_all = "snake_case")]
#[non_exhaustive]
pub enum BatchSpec {
    /// [`Augment`].
    Augment(Augment),
    /// [`Normalize`].
    Normalize(Normalize),
}

impl BatchSpec {
    /// The transform.
    #[must_use]
    pub fn build(&self) -> Arc<dyn BatchTransform> {
        match self {
            Self::Augment(augment) => Arc::new(augment.clone()),
            Self::Normalize(normalize) => Arc::new(normalize.clone()),
        }
    }
}

/// What `tfms` want for a batch of `n` images of `size` (width, height).
///
/// # Errors
/// As [`BatchTransform::plan`].
pub fn plan(
    tfms: &[Arc<dyn BatchTransform>],
    n: usize,
    size: (u32, u32),
    channels: u8,
    split: Split,
    rng: &mut Rng,
) -> Result<Plan> {
    let mut plan = Plan::new(n, size, channels);
    let mut sorted: Vec<_> = tfms.iter().collect();
    sorted.sort_by_key(|t| t.order());
    for tfm in sorted {
        tfm.plan(&mut plan, split, rng)?;
    }
    Ok(plan)
}

/// A batch as pictures to look at: values from 0 to 1, whatever normalization `tfms` ended in.
pub fn denormalize(tfms: &[Arc<dyn BatchTransform>], x: &Tensor) -> Tensor {
    let normalize = tfms.iter().rev().find_map(|t| match t.spec() {
        Some(BatchSpec::Normalize(n)) => Some(n),
        _ => None,
    });
    normalize.map_or_else(|| x.shallow_clone(), |n| n.undo(x)).clamp(0.0, 1.0)
}
