//! What changes a sample on a worker, and what is planned for a batch and carried out at once.

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

    /// Whether its options can be used. Asked before any work starts. Default: they can.
    ///
    /// # Errors
    /// [`Error::Config`] for an option that cannot be used.
    fn check(&self) -> Result<()> {
        Ok(())
    }

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
    /// [`Error::Config`] for an option that cannot be used.
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()>;

    /// Whether its options can be used. Asked before any work starts. Default: they can.
    ///
    /// # Errors
    /// [`Error::Config`] for an option that cannot be used.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Its place, lowest first: 30 for geometry, 40 for colors, 50 for closures, 99 for normalization,
    /// 100 for erasing. Equal ones keep the order in which they were added.
    fn order(&self) -> i32;

    /// The transforms that it stands for, if it is several. Each takes its own place among the others.
    /// Default: none, it is one.
    fn parts(&self) -> Option<Vec<Arc<dyn BatchTransform>>> {
        None
    }

    /// The transform as data, for an exported model. Default: none, it is code.
    fn spec(&self) -> Option<BatchSpec> {
        None
    }
}

/// Applies item transforms one after the other. `visit` sees the sample after each of them.
///
/// # Errors
/// [`Error::Transform`] that names the transform and, by `item`, the item.
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

/// [`plan`] from an empty plan. `visit` sees the plan after each transform; one that stands for several is visited
/// part by part.
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
