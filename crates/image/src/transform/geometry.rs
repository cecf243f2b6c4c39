//! The common options of batch transforms that move pixels.

use super::{draw::Chance, resampling::Resampling, size::sides};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// The common options of batch transforms that move pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Geometry {
    pub(super) chance: Chance,
    /// The output width and height.
    pub(super) size: Option<(u32, u32)>,
    pub(super) resampling: Resampling,
}

impl Geometry {
    pub(super) fn new() -> Self {
        Self { chance: Chance::new(0.5), size: None, resampling: Resampling::default() }
    }

    pub(super) fn check(&self) -> Result<()> {
        self.chance.check()?;
        self.size.map_or(Ok(()), |size| sides("size", size))
    }
}

macro_rules! geometry {
    () => {
        /// Sets the probability that an image is changed. Default: 0.5.
        #[must_use]
        pub fn p(mut self, p: f64) -> Self {
            self.geometry.chance.p = p;
            self
        }
        /// If true, one draw is used for the whole batch. Default: false.
        #[must_use]
        pub fn batch(mut self, yes: bool) -> Self {
            self.geometry.chance.batch = yes;
            self
        }
        /// Sets the side of the square output in pixels. Default: the size of the input.
        #[must_use]
        pub fn size(self, side: u32) -> Self {
            self.size_hw(side, side)
        }
        /// Sets the height and width of the output in pixels. Default: the size of the input.
        #[must_use]
        pub fn size_hw(mut self, height: u32, width: u32) -> Self {
            self.geometry.size = Some((width, height));
            self
        }
        /// Sets the interpolation between pixels. Default: bilinear.
        #[must_use]
        pub fn mode(mut self, mode: $crate::transform::Mode) -> Self {
            self.geometry.resampling.mode = mode;
            self
        }
        /// Sets the values outside of the image. Default: the mirrored image.
        #[must_use]
        pub fn pad_mode(mut self, mode: $crate::image::PadMode) -> Self {
            self.geometry.resampling.pad_mode = mode;
            self
        }
        /// If true, the corners of an image are the centers of its outer pixels. Default: true.
        #[must_use]
        pub fn align_corners(mut self, yes: bool) -> Self {
            self.geometry.resampling.align_corners = yes;
            self
        }
    };
}
pub(super) use geometry;
