//! Item transforms, which change one sample on a worker thread, and batch transforms, which are planned
//! and executed together.

mod affine;
mod area;
mod augment;
mod auto_augment;
mod batch_crop;
#[cfg(feature = "torch")]
mod batch_fn;
mod color;
mod crop;
mod draw;
mod erase;
mod execute;
mod flip_item;
mod geometry;
mod item_fn;
mod kernel;
mod lighting;
mod matrix;
mod motion;
mod normalize;
mod pixels;
mod plan;
mod region;
mod resampling;
mod resize;
mod resized_crop;
mod sampling;
mod size;
mod spec;
mod targets;
#[cfg(feature = "torch")]
mod tensor;
mod tone;
mod warp;
mod whole;

#[cfg(feature = "torch")]
pub use batch_fn::BatchFn;
pub use {
    affine::{Dihedral, Flip, Rotate, Zoom},
    augment::{Augment, aug_transforms},
    auto_augment::{AugmentOp, RandAugment, TrivialAugment},
    batch_crop::RandomResizedCropGpu,
    color::Color,
    crop::{CropPad, RandomCrop},
    draw::{Draw, DrawnValues},
    erase::RandomErasing,
    flip_item::{DihedralItem, FlipItem},
    item_fn::ItemFn,
    lighting::{Brightness, Contrast, Hue, Saturation},
    matrix::Matrix,
    normalize::Normalize,
    plan::{ImagePlan, Plan},
    region::{Crop, Erased, Noise},
    resampling::{Mode, Resampling},
    resize::{Method, RatioResize, Resize},
    resized_crop::RandomResizedCrop,
    spec::{BatchSpec, ItemSpec},
    targets::{MaskPlan, clip_boxes},
    warp::Warp,
};

use crate::{
    error::{Error, Result},
    image::Image,
    sample::{Sample, Split},
    seed::Rng,
};
use std::{fmt::Debug, sync::Arc};

/// A transform of one sample, applied on a worker thread.
///
/// It has no state: random numbers come from `rng`, so that all threads can share it. `summary` shows
/// its `Debug` text.
pub trait ItemTransform: Debug + Send + Sync {
    /// Returns the transformed sample.
    ///
    /// # Errors
    /// Any error of the transform. The loader adds the item's name.
    fn apply(&self, sample: Sample, split: Split, rng: &mut Rng) -> Result<Sample>;

    /// Validates the options. Called before any work starts. Default: `Ok`.
    ///
    /// # Errors
    /// [`Error::Config`] if an option is invalid.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Returns the image that a cache may store in place of `image` if this is the first transform.
    /// `apply` must return the same result for it as for `image`, up to rounding to whole pixels. Calls
    /// with the same image must return the same result. Default: `None`, the cache stores `image`.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    fn presize(&self, _image: &Image, _split: Split) -> Result<Option<Image>> {
        Ok(None)
    }

    /// Returns the transform as data, for an exported model. Default: `None`, the transform cannot be
    /// exported.
    fn spec(&self) -> Option<ItemSpec> {
        None
    }
}

/// A transform of a batch. It is planned first, and executed together with the other transforms.
pub trait BatchTransform: Debug + Send + Sync {
    /// Adds the changes of every image of a batch to `plan`. Random numbers come from `rng`.
    ///
    /// # Errors
    /// [`Error::Config`] if an option is invalid.
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()>;

    /// Validates the options. Called before any work starts. Default: `Ok`.
    ///
    /// # Errors
    /// [`Error::Config`] if an option is invalid.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Returns the position among the transforms, lowest first: 30 for geometry, 40 for colors, 50 for
    /// closures, 99 for normalization, 100 for erasing. Transforms with equal numbers keep the order in
    /// which they were added.
    fn order(&self) -> i32;

    /// Returns the transforms of which this one is composed. Each is sorted by its own
    /// [`order`](Self::order). Default: `None`, it is a single transform.
    fn parts(&self) -> Option<Vec<Arc<dyn BatchTransform>>> {
        None
    }

    /// Returns the transform as data, for an exported model. Default: `None`, the transform cannot be
    /// exported.
    fn spec(&self) -> Option<BatchSpec> {
        None
    }
}

/// Applies item transforms in order. `visit` is called with the sample after each of them.
///
/// # Errors
/// [`Error::Transform`], which names the transform, and the item as `item` returns it.
pub fn apply_item_tfms(
    tfms: &[Arc<dyn ItemTransform>],
    mut sample: Sample,
    split: Split,
    rng: &mut Rng,
    item: impl Fn() -> String,
    mut visit: impl FnMut(&dyn ItemTransform, &Sample),
) -> Result<Sample> {
    for tfm in tfms {
        sample = tfm.apply(sample, split, rng).map_err(|e| Error::transform(tfm, item())(e))?;
        visit(&**tfm, &sample);
    }
    Ok(sample)
}

/// Returns the plan of `tfms` for a batch of `n` images of `size` (width, height).
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
    plan_visited(tfms, Plan::new(n, size, channels), split, rng, |_, _| {})
}

/// Like [`plan`], but with an empty plan from the caller. `visit` is called with the plan after each
/// transform, for composed transforms after each part.
///
/// # Errors
/// As [`plan`].
pub fn plan_visited(
    tfms: &[Arc<dyn BatchTransform>],
    mut plan: Plan,
    split: Split,
    rng: &mut Rng,
    mut visit: impl FnMut(&dyn BatchTransform, &Plan),
) -> Result<Plan> {
    fn parts(tfm: &Arc<dyn BatchTransform>) -> Vec<Arc<dyn BatchTransform>> {
        match tfm.parts() {
            Some(all) => all.iter().flat_map(parts).collect(),
            None => vec![tfm.clone()],
        }
    }
    let mut sorted: Vec<_> = tfms.iter().flat_map(parts).collect();
    sorted.sort_by_key(|t| t.order());
    for tfm in sorted {
        tfm.plan(&mut plan, split, rng)?;
        visit(&*tfm, &plan);
    }
    Ok(plan)
}
