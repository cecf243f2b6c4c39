//! Transforms as data, for exported models.

use super::{
    Augment, BatchTransform, Brightness, Contrast, CropPad, Dihedral, DihedralItem, Flip, FlipItem,
    Hue, ItemTransform, Normalize, RandAugment, RandomCrop, RandomErasing, RandomResizedCrop,
    RandomResizedCropGpu, RatioResize, Resize, Rotate, Saturation, TrivialAugment, Warp, Zoom,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

macro_rules! specs {
    ($(#[$doc:meta])* $spec:ident of $kind:ident: $($name:ident,)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "transform", rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum $spec {
            $(#[doc = concat!("[`", stringify!($name), "`].")] $name($name),)*
        }

        impl $spec {
            /// Returns the transform.
            #[must_use]
            pub fn build(&self) -> Arc<dyn $kind> {
                match self {
                    $(Self::$name(tfm) => Arc::new(tfm.clone()),)*
                }
            }
        }
    };
}

specs! {
    /// An item transform as data.
    ItemSpec of ItemTransform:
    Resize,
    RandomResizedCrop,
    RandomCrop,
    CropPad,
    RatioResize,
    FlipItem,
    DihedralItem,
}

specs! {
    /// A batch transform as data.
    BatchSpec of BatchTransform:
    Augment,
    Flip,
    Dihedral,
    Rotate,
    Zoom,
    Warp,
    RandomResizedCropGpu,
    Brightness,
    Contrast,
    Saturation,
    Hue,
    RandomErasing,
    TrivialAugment,
    RandAugment,
    Normalize,
}
