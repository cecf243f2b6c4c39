//! Item transforms, which change one sample on a worker thread, and batch transforms, which are planned
//! and executed together.

pub use finetune_image::transform::{
    Augment, AugmentOp, BatchFn, BatchSpec, BatchTransform, Brightness, Color, Contrast, Crop,
    CropPad, Dihedral, DihedralItem, Draw, DrawnValues, Erased, Flip, FlipItem, Hue, ImagePlan,
    ItemFn, ItemSpec, ItemTransform, MaskPlan, Matrix, Method, Mode, Noise, Normalize, Plan,
    RandAugment, RandomCrop, RandomErasing, RandomResizedCrop, RandomResizedCropGpu, RatioResize,
    Resampling, Resize, Rotate, Saturation, TrivialAugment, Warp, Zoom, aug_transforms, clip_boxes,
    plan,
};

pub(crate) use finetune_image::transform::{apply_item_tfms, plan_visited};

use crate::{error::Result, sys::caught};
use std::sync::Arc;
use tch::Tensor;

/// Returns a batch `[N, C, H, W]` for display: reverts the last normalization in `tfms`, if there is one, and
/// clamps the values to the range from 0 to 1.
///
/// # Errors
/// [`Error::Torch`](crate::Error::Torch) if libtorch reports an error, for example if the channels do not match.
pub fn denormalize(tfms: &[Arc<dyn BatchTransform>], x: &Tensor) -> Result<Tensor> {
    let normalize = normalization(tfms);
    // `f_clamp` panics instead of returning an error of libtorch: tch mistakes it for an error of its scalars.
    caught(|| {
        let x = match normalize {
            Some(normalize) => normalize.undo(x)?,
            None => x.shallow_clone(),
        };
        Ok(x.f_clamp(0.0, 1.0)?)
    })
}

/// Returns the last normalization in `tfms`.
pub(crate) fn normalization(tfms: &[Arc<dyn BatchTransform>]) -> Option<Normalize> {
    tfms.iter().rev().find_map(|t| match t.spec() {
        Some(BatchSpec::Normalize(n)) => Some(n),
        _ => None,
    })
}
