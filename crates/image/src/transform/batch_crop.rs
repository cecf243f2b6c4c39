//! One random crop for all images of a batch.

use super::{
    BatchSpec, BatchTransform, Crop, Draw, Mode, Plan,
    resized_crop::{Parts, parts},
    size::sides,
};
use crate::{
    error::{Error, Result},
    sample::Split,
    seed::Rng,
};
use serde::{Deserialize, Serialize};

/// Crops the same random part of every image of a batch, and resizes it. Validation keeps the largest
/// part with an allowed aspect ratio at the center. Corresponds to fastai's
/// [`RandomResizedCropGPU`](https://docs.fast.ai/vision.augment.html#randomresizedcropgpu).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RandomResizedCropGpu {
    width: u32,
    height: u32,
    parts: Parts,
    mode: Mode,
    valid_scale: f64,
}

impl RandomResizedCropGpu {
    /// Resizes to a square with sides of `size` pixels.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self::hw(size, size)
    }
    /// Resizes to `height`×`width` pixels.
    #[must_use]
    pub fn hw(height: u32, width: u32) -> Self {
        let (parts, mode) = Default::default();
        Self { width, height, parts, mode, valid_scale: 1.0 }
    }
    parts!();
    /// Sets the interpolation between pixels. Default: bilinear.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }
    /// Sets the fraction of each side that validation keeps. Default: 1.
    #[must_use]
    pub fn valid_scale(mut self, part: f64) -> Self {
        self.valid_scale = part;
        self
    }

    /// Draws the part that is kept of images of (width, height). Training draws a fraction of the area
    /// and the logarithm of an aspect ratio up to ten times, then the first row and the first column. If
    /// no part was small enough, it is the largest one at the center.
    #[doc(hidden)]
    pub fn part(&self, (width, height): (u32, u32), split: Split, draw: &mut dyn Draw) -> Crop {
        if split == Split::Train
            && let Some((w, h)) = self.parts.draw((width, height), draw)
        {
            let top = draw.integer(0, i64::from(height - h)) as u32;
            let left = draw.integer(0, i64::from(width - w)) as u32;
            return Crop { top, left, height: h, width: w };
        }
        let (mut w, mut h) = self.parts.largest((width, height));
        if split == Split::Valid {
            let less = |n: u32| ((f64::from(n) * self.valid_scale) as u32).max(1);
            (w, h) = (less(w), less(h));
        }
        Crop { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
    }
}

impl BatchTransform for RandomResizedCropGpu {
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
        self.check()?;
        let part = self.part(plan.size_so_far(), split, rng);
        plan.crop(part, (self.width, self.height), self.mode)
    }
    fn check(&self) -> Result<()> {
        sides("RandomResizedCropGpu", (self.width, self.height))?;
        self.parts.check()?;
        let fits = self.valid_scale > 0.0 && self.valid_scale <= 1.0;
        let why = || format!("is {}; it must be above 0 and at most 1", self.valid_scale);
        if fits { Ok(()) } else { Err(Error::config("valid_scale", why())) }
    }
    fn order(&self) -> i32 {
        30
    }
    fn spec(&self) -> Option<BatchSpec> {
        Some(BatchSpec::RandomResizedCropGpu(self.clone()))
    }
}
