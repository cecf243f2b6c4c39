//! Parts of images at a fixed size, without a change of scale.

use super::{
    Draw, ItemSpec, ItemTransform,
    motion::{Motion, moved, moved_image},
    size::sides,
};
use crate::{
    error::Result,
    image::{Filter, Image, PadMode},
    sample::{Sample, Split},
    seed::Rng,
};
use serde::{Deserialize, Serialize};

/// Cuts to a size about the center, and pads where the image is smaller: fastai's
/// [`CropPad`](https://docs.fast.ai/vision.augment.html#croppad).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CropPad {
    height: u32,
    width: u32,
    pad_mode: PadMode,
}

impl CropPad {
    /// To a square with sides of `size` pixels.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self::hw(size, size)
    }
    /// To `height`×`width` pixels.
    #[must_use]
    pub fn hw(height: u32, width: u32) -> Self {
        Self { height, width, pad_mode: PadMode::Zeros }
    }
    /// What is beyond the edge. Default: black.
    #[must_use]
    pub fn pad_mode(mut self, mode: PadMode) -> Self {
        self.pad_mode = mode;
        self
    }

    /// The image at the size.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if a side is 0.
    pub fn image(&self, image: &Image) -> Result<Image> {
        moved_image(image, &[self.motion((image.width(), image.height()))?], Filter::default())
    }

    /// [`image`](Self::image) with its target, which moves with it.
    ///
    /// # Errors
    /// As there, and [`Error::Mismatch`](crate::Error::Mismatch) for a mask of another size than its image.
    pub fn sample(&self, sample: Sample) -> Result<Sample> {
        let motion = self.motion((sample.image.width(), sample.image.height()))?;
        moved(sample, &[motion], Filter::default())
    }

    fn motion(&self, (width, height): (u32, u32)) -> Result<Motion> {
        self.check()?;
        let center = |have: u32, want: u32| (i64::from(have) - i64::from(want)).div_euclid(2);
        let start = (center(width, self.width), center(height, self.height));
        Ok(Motion::part(start, (self.width, self.height), self.pad_mode))
    }
}

impl ItemTransform for CropPad {
    fn apply(&self, sample: Sample, _: Split, _: &mut Rng) -> Result<Sample> {
        self.sample(sample)
    }
    fn check(&self) -> Result<()> {
        sides("CropPad", (self.width, self.height))
    }
    fn spec(&self) -> Option<ItemSpec> {
        Some(ItemSpec::CropPad(self.clone()))
    }
}

/// Cuts to a size: anywhere in training, about the center in validation. Where the image is smaller
/// there is black. fastai's [`RandomCrop`](https://docs.fast.ai/vision.augment.html#randomcrop).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RandomCrop {
    height: u32,
    width: u32,
}

impl RandomCrop {
    /// To a square with sides of `size` pixels.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self::hw(size, size)
    }
    /// To `height`×`width` pixels.
    #[must_use]
    pub fn hw(height: u32, width: u32) -> Self {
        Self { height, width }
    }

    /// The image at the size. In training two whole numbers are drawn: the first column, the first
    /// row. On a side that is too small both are below 0, by at most what is missing.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if a side is 0.
    pub fn image(&self, image: &Image, split: Split, draw: &mut dyn Draw) -> Result<Image> {
        let motions = self.motions((image.width(), image.height()), split, draw)?;
        moved_image(image, &motions, Filter::default())
    }

    /// [`image`](Self::image) with its target, which moves with it: a mask by the nearest pixel, points
    /// and boxes exactly.
    ///
    /// # Errors
    /// As there, and [`Error::Mismatch`](crate::Error::Mismatch) for a mask of another size than its image.
    pub fn sample(&self, sample: Sample, split: Split, draw: &mut dyn Draw) -> Result<Sample> {
        let motions = self.motions((sample.image.width(), sample.image.height()), split, draw)?;
        moved(sample, &motions, Filter::default())
    }

    fn motions(
        &self,
        (width, height): (u32, u32),
        split: Split,
        draw: &mut dyn Draw,
    ) -> Result<[Motion; 1]> {
        self.check()?;
        if split == Split::Valid {
            return Ok([CropPad::hw(self.height, self.width).motion((width, height))?]);
        }
        let mut start = |have: u32, want: u32| match i64::from(have) - i64::from(want) {
            spare @ ..0 => draw.integer(spare, -1),
            spare => draw.integer(0, spare),
        };
        let left = start(width, self.width);
        let top = start(height, self.height);
        Ok([Motion::part((left, top), (self.width, self.height), PadMode::Zeros)])
    }
}

impl ItemTransform for RandomCrop {
    fn apply(&self, sample: Sample, split: Split, rng: &mut Rng) -> Result<Sample> {
        self.sample(sample, split, rng)
    }
    fn check(&self) -> Result<()> {
        sides("RandomCrop", (self.width, self.height))
    }
    fn spec(&self) -> Option<ItemSpec> {
        Some(ItemSpec::RandomCrop(self.clone()))
    }
}
