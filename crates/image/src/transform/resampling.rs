//! How pixels are read between and beyond pixels.

use crate::image::PadMode;
use serde::{Deserialize, Serialize};

/// Which pixels make a value where the place is between pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The four about it, each the more the nearer it is.
    #[default]
    Bilinear,
    /// The nearest one; of two as near, the one with the even number.
    Nearest,
}

/// How values are read at places between pixels and beyond the edge: the options of libtorch's
/// `grid_sampler`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resampling {
    /// Between pixels.
    pub mode: Mode,
    /// Beyond the edge.
    pub pad_mode: PadMode,
    /// Whether the edge of a picture is at the centers of its outer pixels, or at their outer sides.
    pub align_corners: bool,
}

impl Default for Resampling {
    fn default() -> Self {
        Self { mode: Mode::Bilinear, pad_mode: PadMode::Reflection, align_corners: true }
    }
}
