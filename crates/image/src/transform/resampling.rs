//! Interpolation and padding.

use crate::image::PadMode;
use serde::{Deserialize, Serialize};

/// The interpolation between pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mode {
    /// The weighted mean of the four nearest pixels.
    #[default]
    Bilinear,
    /// The nearest pixel; ties go to the even index.
    Nearest,
}

/// Options for reading values between pixels and outside of the image, as for libtorch's `grid_sampler`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Resampling {
    /// The interpolation between pixels.
    pub mode: Mode,
    /// The values outside of the image.
    pub pad_mode: PadMode,
    /// If true, the corners of an image are the centers of its outer pixels; otherwise, their outer
    /// edges.
    pub align_corners: bool,
}

impl Default for Resampling {
    fn default() -> Self {
        Self { mode: Mode::Bilinear, pad_mode: PadMode::Reflection, align_corners: true }
    }
}
