//! What changes a sample on a worker, and what is planned for a batch and carried out at once.

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

/// Returns a batch as pictures to look at: values from 0 to 1, whatever normalization `tfms` ended in.
///
/// # Errors
/// What libtorch reports, such as that the channels do not fit.
pub fn denormalize(tfms: &[Arc<dyn BatchTransform>], x: &Tensor) -> Result<Tensor> {
    let normalize = tfms.iter().rev().find_map(|t| match t.spec() {
        Some(BatchSpec::Normalize(n)) => Some(n),
        _ => None,
    });
    // `f_clamp` panics where it fails: tch reads the error of the call as one of its scalars'.
    caught(|| {
        let x = match normalize {
            Some(normalize) => normalize.undo(x)?,
            None => x.shallow_clone(),
        };
        Ok(x.f_clamp(0.0, 1.0)?)
    })
}
