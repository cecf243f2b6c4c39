//! Crops without resizing.

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

/// Crops the center of an image, and pads smaller images. Corresponds to fastai's
/// [`CropPad`](https://docs.fast.ai/vision.augment.html#croppad).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CropPad {
    height: u32,
    width: u32,
    pad_mode: PadMode,
}

impl CropPad {
    /// Crops to a square with sides of `size` pixels.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self::hw(size, size)
    }
    /// Crops to `height`×`width` pixels.
    #[must_use]
    pub fn hw(height: u32, width: u32) -> Self {
        Self { height, width, pad_mode: PadMode::Zeros }
    }
    /// Sets the padding. Default: black.
    #[must_use]
    pub fn pad_mode(mut self, mode: PadMode) -> Self {
        self.pad_mode = mode;
        self
    }

    /// Applies the transform to an image.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if a side is 0.
    pub fn image(&self, image: &Image) -> Result<Image> {
        moved_image(image, &[self.motion((image.width(), image.height()))?], Filter::default())
    }

    /// Applies the transform to an image and its target.
    ///
    /// # Errors
    /// As [`image`](Self::image), and [`Error::Mismatch`](crate::Error::Mismatch) if a mask differs in
    /// size from its image.
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

/// Crops a random part in training and the center in validation. Smaller images are padded with black.
/// Corresponds to fastai's [`RandomCrop`](https://docs.fast.ai/vision.augment.html#randomcrop).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RandomCrop {
    height: u32,
    width: u32,
}

impl RandomCrop {
    /// Crops to a square with sides of `size` pixels.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self::hw(size, size)
    }
    /// Crops to `height`×`width` pixels.
    #[must_use]
    pub fn hw(height: u32, width: u32) -> Self {
        Self { height, width }
    }

    /// Applies the transform to an image. In training, two integers are drawn: the first column, then
    /// the first row. They are negative if the image is smaller than the crop.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if a side is 0.
    pub fn image(&self, image: &Image, split: Split, draw: &mut dyn Draw) -> Result<Image> {
        let motions = self.motions((image.width(), image.height()), split, draw)?;
        moved_image(image, &motions, Filter::default())
    }

    /// Applies the transform to an image and its target. Masks use the nearest pixel; points and boxes
    /// are moved exactly.
    ///
    /// # Errors
    /// As [`image`](Self::image), and [`Error::Mismatch`](crate::Error::Mismatch) if a mask differs in
    /// size from its image.
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
