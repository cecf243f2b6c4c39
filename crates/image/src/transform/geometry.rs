//! What all batch transforms that move pixels have in common.

use super::{draw::Chance, resampling::Resampling, size::sides};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// What all transforms that move pixels have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Geometry {
    pub(super) chance: Chance,
    /// Width and height.
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
        /// The probability that an image is changed. Default: 0.5.
        #[must_use]
        pub fn p(mut self, p: f64) -> Self {
            self.geometry.chance.p = p;
            self
        }
        /// Whether one draw is for the whole batch. Default: false.
        #[must_use]
        pub fn batch(mut self, yes: bool) -> Self {
            self.geometry.chance.batch = yes;
            self
        }
        /// The side of the square that comes out. Default: the size that goes in.
        #[must_use]
        pub fn size(self, side: u32) -> Self {
            self.size_hw(side, side)
        }
        /// The height and width that come out. Default: those that go in.
        #[must_use]
        pub fn size_hw(mut self, height: u32, width: u32) -> Self {
            self.geometry.size = Some((width, height));
            self
        }
        /// Which pixels make a value between pixels. Default: bilinear.
        #[must_use]
        pub fn mode(mut self, mode: $crate::transform::Mode) -> Self {
            self.geometry.resampling.mode = mode;
            self
        }
        /// What is beyond the edge. Default: the image mirrored.
        #[must_use]
        pub fn pad_mode(mut self, mode: $crate::image::PadMode) -> Self {
            self.geometry.resampling.pad_mode = mode;
            self
        }
        /// Whether the edge of a picture is at the centers of its outer pixels. Default: true.
        #[must_use]
        pub fn align_corners(mut self, yes: bool) -> Self {
            self.geometry.resampling.align_corners = yes;
            self
        }
    };
}
pub(super) use geometry;
