//! Crops of random size and aspect ratio.

use super::{
    Crop, Draw, ItemSpec, ItemTransform,
    motion::{Motion, moved, moved_image},
    size::sides,
};
use crate::{
    error::{Error, Result},
    image::{Filter, Image, PadMode},
    sample::{Sample, Split},
    seed::Rng,
};
use serde::{Deserialize, Serialize};

/// The range of random crops.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Parts {
    /// The minimum and maximum fraction of the area.
    pub(super) scale: (f64, f64),
    /// The minimum and maximum aspect ratio (width / height).
    pub(super) ratio: (f64, f64),
}

impl Default for Parts {
    fn default() -> Self {
        Self { scale: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0) }
    }
}

impl Parts {
    pub(super) fn check(&self) -> Result<()> {
        let (least, greatest) = self.scale;
        if !(least > 0.0 && least <= greatest && greatest <= 1.0) {
            let why = format!(
                "the range is {least} to {greatest}; it must be ascending, above 0 and up to 1"
            );
            return Err(Error::config("min_scale", why));
        }
        let (least, greatest) = self.ratio;
        if !(least > 0.0 && least <= greatest && greatest.is_finite()) {
            let why = format!(
                "the range is {least} to {greatest}; it must be ascending, above 0 and finite"
            );
            return Err(Error::config("ratio", why));
        }
        Ok(())
    }

    /// Draws the width and height of a crop from an image of (width, height): up to ten times a fraction
    /// of the area and the logarithm of an aspect ratio. Returns `None` if no crop was small enough for
    /// the image.
    pub(super) fn draw(
        &self,
        (width, height): (u32, u32),
        draw: &mut dyn Draw,
    ) -> Option<(u32, u32)> {
        for _ in 0..10 {
            let (least, greatest) = self.scale;
            let area = draw.uniform(least, greatest) * f64::from(width) * f64::from(height);
            let ratio = draw.uniform(self.ratio.0.ln(), self.ratio.1.ln()).exp();
            let w = (area * ratio).sqrt().round_ties_even() as u32;
            let h = (area / ratio).sqrt().round_ties_even() as u32;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                return Some((w, h));
            }
        }
        None
    }

    /// Returns the width and height of the largest crop with an allowed aspect ratio.
    pub(super) fn largest(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let (w, h) = (f64::from(width), f64::from(height));
        let (least, greatest) = self.ratio;
        if w / h < least {
            (width, ((w / least) as u32).max(1))
        } else if w / h > greatest {
            (((h * greatest) as u32).max(1), height)
        } else {
            (width, height)
        }
    }
}

/// Setters for transforms with a field `parts`.
macro_rules! parts {
    () => {
        /// Sets the minimum fraction of the area. Default: 0.08.
        #[must_use]
        pub fn min_scale(mut self, part: f64) -> Self {
            self.parts.scale.0 = part;
            self
        }
        /// Sets the maximum fraction of the area. Default: 1.
        #[must_use]
        pub fn max_scale(mut self, part: f64) -> Self {
            self.parts.scale.1 = part;
            self
        }
        /// Sets the minimum and maximum aspect ratio (width / height). Default: 3/4 and 4/3.
        #[must_use]
        pub fn ratio(mut self, least: f64, greatest: f64) -> Self {
            self.parts.ratio = (least, greatest);
            self
        }
    };
}
pub(super) use parts;

/// Crops a random part of random size and aspect ratio, and resizes it. In validation, the whole image
/// is squeezed to slightly more than the size, and its center is cropped. Corresponds to fastai's
/// [`RandomResizedCrop`](https://docs.fast.ai/vision.augment.html#randomresizedcrop).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RandomResizedCrop {
    height: u32,
    width: u32,
    parts: Parts,
    filter: Filter,
    val_xtra: f64,
}

impl RandomResizedCrop {
    /// Resizes to a square with sides of `size` pixels.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self::hw(size, size)
    }
    /// Resizes to `height`×`width` pixels.
    #[must_use]
    pub fn hw(height: u32, width: u32) -> Self {
        let (parts, filter) = Default::default();
        Self { height, width, parts, filter, val_xtra: 0.14 }
    }
    parts!();
    /// Sets the interpolation. Default: bilinear.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }
    /// Sets the margin that is cut off in validation, as a fraction of the longer side. It is rounded up
    /// to a multiple of 8 pixels. Default: 0.14.
    #[must_use]
    pub fn val_xtra(mut self, part: f64) -> Self {
        self.val_xtra = part;
        self
    }

    /// Draws the part of an image of (width, height) that training keeps: up to ten times a fraction of
    /// the area and the logarithm of an aspect ratio, then the first column and the first row. If no
    /// part was small enough, it is the largest one at the center.
    #[doc(hidden)]
    pub fn part(&self, (width, height): (u32, u32), draw: &mut dyn Draw) -> Crop {
        if let Some((w, h)) = self.parts.draw((width, height), draw) {
            let left = draw.integer(0, i64::from(width - w)) as u32;
            let top = draw.integer(0, i64::from(height - h)) as u32;
            return Crop { top, left, height: h, width: w };
        }
        let (w, h) = self.parts.largest((width, height));
        Crop { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
    }

    /// Applies the transform to an image. See [`part`](Self::part) for the draws of training.
    ///
    /// # Errors
    /// [`Error::Config`] if a side is 0 or an option is invalid.
    pub fn image(&self, image: &Image, split: Split, draw: &mut dyn Draw) -> Result<Image> {
        let motions = self.motions((image.width(), image.height()), split, draw)?;
        moved_image(image, &motions, self.filter)
    }

    /// Applies the transform to an image and its target. Masks use the nearest pixel; points and boxes
    /// are moved exactly.
    ///
    /// # Errors
    /// As [`image`](Self::image), and [`Error::Mismatch`](crate::Error::Mismatch) if a mask differs in
    /// size from its image.
    pub fn sample(&self, sample: Sample, split: Split, draw: &mut dyn Draw) -> Result<Sample> {
        let motions = self.motions((sample.image.width(), sample.image.height()), split, draw)?;
        moved(sample, &motions, self.filter)
    }

    fn motions(&self, from: (u32, u32), split: Split, draw: &mut dyn Draw) -> Result<Vec<Motion>> {
        self.check()?;
        let size = (self.width, self.height);
        if split == Split::Train {
            let Crop { left, top, width, height } = self.part(from, draw);
            let (left, top) = (i64::from(left), i64::from(top));
            return Ok(vec![Motion::Cut { left, top, width, height, pad: PadMode::Zeros, size }]);
        }
        let (width, height) = self.enlarged();
        let start = i64::from((width - self.width) / 2);
        Ok(vec![
            Motion::resize(from, (width, height)),
            Motion::part((start, start), size, PadMode::Zeros),
        ])
    }

    /// Returns the width and height to which validation resizes an image before it crops.
    fn enlarged(&self) -> (u32, u32) {
        let longer = f64::from(self.width.max(self.height));
        let more = ((longer * self.val_xtra / 8.0).ceil() as u32).saturating_mul(8);
        (self.width.saturating_add(more), self.height.saturating_add(more))
    }
}

impl ItemTransform for RandomResizedCrop {
    fn apply(&self, sample: Sample, split: Split, rng: &mut Rng) -> Result<Sample> {
        self.sample(sample, split, rng)
    }
    fn check(&self) -> Result<()> {
        sides("RandomResizedCrop", (self.width, self.height))?;
        self.parts.check()?;
        if !(0.0..=10.0).contains(&self.val_xtra) {
            let why = format!("is {}; it must be between 0 and 10", self.val_xtra);
            return Err(Error::config("val_xtra", why));
        }
        sides("val_xtra", self.enlarged())
    }
    fn spec(&self) -> Option<ItemSpec> {
        Some(ItemSpec::RandomResizedCrop(self.clone()))
    }
}
