//! Parts of images at a fixed size, without a change of scale.

use super::{Draw, ItemSpec, ItemTransform};
use crate::{
    error::{Error, Result},
    image::{Image, PadMode},
    sample::{Sample, Split},
    seed::Rng,
};
use serde::{Deserialize, Serialize};

/// A part of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// The first row.
    pub top: u32,
    /// The first column.
    pub left: u32,
    /// The rows.
    pub height: u32,
    /// The columns.
    pub width: u32,
}

/// The most pixels of a result: as many as a file that is decoded may have.
const MAX_PIXELS: u64 = 1 << 28;

/// That both sides are pixels enough, and not too many.
pub(super) fn sides(transform: &'static str, (width, height): (u32, u32)) -> Result<()> {
    if width == 0 || height == 0 {
        let why = format!("{width}x{height} is no size: both sides must be 1 or more");
        return Err(Error::config(transform, why));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let why = format!("{width}x{height} is too large: up to {MAX_PIXELS} pixels can be");
        return Err(Error::config(transform, why));
    }
    Ok(())
}

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
    /// [`Error::Config`] if a side is 0.
    pub fn image(&self, image: &Image) -> Result<Image> {
        self.check()?;
        let center = |have: u32, want: u32| (i64::from(have) - i64::from(want)).div_euclid(2);
        let (left, top) = (center(image.width(), self.width), center(image.height(), self.height));
        image.crop_pad(left, top, self.width, self.height, self.pad_mode)
    }
}

impl ItemTransform for CropPad {
    fn apply(&self, mut sample: Sample, _: Split, _: &mut Rng) -> Result<Sample> {
        sample.image = self.image(&sample.image)?;
        Ok(sample)
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
    /// [`Error::Config`] if a side is 0.
    pub fn image(&self, image: &Image, split: Split, draw: &mut dyn Draw) -> Result<Image> {
        self.check()?;
        if split == Split::Valid {
            return CropPad::hw(self.height, self.width).image(image);
        }
        let mut start = |have: u32, want: u32| match i64::from(have) - i64::from(want) {
            spare @ ..0 => draw.integer(spare, -1),
            spare => draw.integer(0, spare),
        };
        let left = start(image.width(), self.width);
        let top = start(image.height(), self.height);
        image.crop_pad(left, top, self.width, self.height, PadMode::Zeros)
    }
}

impl ItemTransform for RandomCrop {
    fn apply(&self, mut sample: Sample, split: Split, rng: &mut Rng) -> Result<Sample> {
        sample.image = self.image(&sample.image, split, rng)?;
        Ok(sample)
    }
    fn check(&self) -> Result<()> {
        sides("RandomCrop", (self.width, self.height))
    }
    fn spec(&self) -> Option<ItemSpec> {
        Some(ItemSpec::RandomCrop(self.clone()))
    }
}
