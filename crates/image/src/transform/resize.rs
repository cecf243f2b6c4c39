//! Resizing of images of any shape.

use super::{
    Draw, ItemSpec, ItemTransform,
    motion::{Motion, moved, moved_image},
    size::sides,
};
use crate::{
    error::{Error, Result},
    image::{Filter, Image, LARGEST_AREA, PadMode},
    sample::{Sample, Split},
    seed::Rng,
};
use serde::{Deserialize, Serialize};

/// The treatment of images whose aspect ratio differs from that of the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// Crops the largest part of the right shape: at a random position in training, at the center in
    /// validation.
    #[default]
    Crop,
    /// Pads to the right shape: the image is at a random position in training, at the center in
    /// validation.
    Pad,
    /// Squeezes the image to the right shape.
    Squish,
}

/// Resizes every image to one size. Corresponds to fastai's
/// [`Resize`](https://docs.fast.ai/vision.augment.html#resize).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Resize {
    height: u32,
    width: u32,
    method: Method,
    #[serde(skip_serializing_if = "Option::is_none")]
    pad_mode: Option<PadMode>,
    filter: Filter,
}

/// The serialized form of a [`Resize`]. The first versions wrote `pad_mode` for every method.
#[derive(Deserialize)]
struct Written {
    height: u32,
    width: u32,
    method: Method,
    pad_mode: Option<PadMode>,
    filter: Filter,
}

impl From<Written> for Resize {
    fn from(w: Written) -> Self {
        let pad_mode = w.pad_mode.filter(|_| w.method == Method::Pad);
        Self { height: w.height, width: w.width, method: w.method, pad_mode, filter: w.filter }
    }
}

impl Resize {
    /// Resizes to a square with sides of `size` pixels.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self::hw(size, size)
    }
    /// Resizes to `height`×`width` pixels.
    #[must_use]
    pub fn hw(height: u32, width: u32) -> Self {
        let (method, pad_mode, filter) = Default::default();
        Self { height, width, method, pad_mode, filter }
    }
    /// Sets the treatment of images with another aspect ratio. Default: crop.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }
    /// Sets the padding of [`Method::Pad`]; an error with another method. Default: the mirrored image.
    #[must_use]
    pub fn pad_mode(mut self, mode: PadMode) -> Self {
        self.pad_mode = Some(mode);
        self
    }
    /// Sets the interpolation. Default: bilinear.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Applies the transform to an image. In training, two fractions are drawn unless the method is
    /// [`Method::Squish`]; see [`at`](Self::at).
    ///
    /// # Errors
    /// [`Error::Config`] if a side is 0, if [`pad_mode`](Self::pad_mode) is set without [`Method::Pad`], or if the
    /// padded image would have a side above 2²⁸.
    pub fn image(&self, image: &Image, split: Split, draw: &mut dyn Draw) -> Result<Image> {
        let motions = self.motions((image.width(), image.height()), split, draw)?;
        moved_image(image, &motions, self.filter)
    }

    /// Applies the transform to an image and its target. Masks use the nearest pixel; points and boxes
    /// are moved exactly.
    ///
    /// # Errors
    /// As [`image`](Self::image), and [`Error::Mismatch`] if a mask differs in size from its image.
    pub fn sample(&self, sample: Sample, split: Split, draw: &mut dyn Draw) -> Result<Sample> {
        let motions = self.motions((sample.image.width(), sample.image.height()), split, draw)?;
        moved(sample, &motions, self.filter)
    }

    fn motions(&self, from: (u32, u32), split: Split, draw: &mut dyn Draw) -> Result<[Motion; 1]> {
        let at = match split {
            Split::Train if self.method != Method::Squish => {
                (draw.uniform(0.0, 1.0), draw.uniform(0.0, 1.0))
            }
            _ => (0.5, 0.5),
        };
        Ok([self.motion(from, at)?])
    }

    /// Applies the transform to an image at a given position. Both fractions are between 0 and 1: 0 is
    /// left or top, 0.5 is the center.
    ///
    /// # Errors
    /// [`Error::Config`] if a side is 0, if [`pad_mode`](Self::pad_mode) is set without [`Method::Pad`], or if the
    /// padded image would have a side above 2²⁸.
    pub fn at(&self, image: &Image, (x, y): (f64, f64)) -> Result<Image> {
        moved_image(image, &[self.motion((image.width(), image.height()), (x, y))?], self.filter)
    }

    fn motion(&self, from: (u32, u32), (x, y): (f64, f64)) -> Result<Motion> {
        self.check()?;
        let size = (self.width, self.height);
        if self.method == Method::Squish {
            return Ok(Motion::resize(from, size));
        }
        let (w, h) = (f64::from(from.0), f64::from(from.1));
        let (sw, sh) = (f64::from(self.width), f64::from(self.height));
        let (rw, rh) = (w / sw, h / sh);
        let by_width = if self.method == Method::Pad { rw > rh } else { rw < rh };
        let m = if by_width { rw } else { rh };
        // Truncated in this order, like fastai: some sizes are one pixel smaller than exact.
        let (cw, ch) = ((m * sw) as i64, (m * sh) as i64);
        if cw.max(ch) > i64::from(LARGEST_AREA) {
            let why = format!(
                "an image of {}x{} pixels would be padded to {cw}x{ch} for the shape of {}x{}; at most \
                 {LARGEST_AREA} pixels are allowed on each side",
                from.0, from.1, self.width, self.height
            );
            return Err(Error::config("Resize", why));
        }
        let left = (x * (i64::from(from.0) - cw) as f64) as i64;
        let top = (y * (i64::from(from.1) - ch) as f64) as i64;
        let (width, height) = (cw.max(1) as u32, ch.max(1) as u32);
        Ok(Motion::Cut { left, top, width, height, pad: self.pad_mode.unwrap_or_default(), size })
    }
}

impl ItemTransform for Resize {
    fn apply(&self, sample: Sample, split: Split, rng: &mut Rng) -> Result<Sample> {
        self.sample(sample, split, rng)
    }
    /// Returns the resized image in validation. In training, returns the whole image, scaled so that the crop
    /// or padding needs no further scaling, or `None` if the scaled image would need more than four times the
    /// memory of the original.
    fn presize(&self, image: &Image, split: Split) -> Result<Option<Image>> {
        if split == Split::Valid || self.method == Method::Squish {
            return self.at(image, (0.5, 0.5)).map(Some);
        }
        let (w, h) = (f64::from(image.width()), f64::from(image.height()));
        let (rw, rh) = (w / f64::from(self.width), h / f64::from(self.height));
        let by = if self.method == Method::Pad { rw.max(rh) } else { rw.min(rh) };
        if by < 0.5 {
            return Ok(None);
        }
        let size = |side: f64| ((side / by).round() as u32).max(1);
        image.resize(size(w), size(h), self.filter).map(Some)
    }
    fn check(&self) -> Result<()> {
        if self.pad_mode.is_some() && self.method != Method::Pad {
            let why = format!("has no effect with {:?}: use `method(Method::Pad)`", self.method);
            return Err(Error::config("Resize::pad_mode", why));
        }
        sides("Resize", (self.width, self.height))
    }
    fn spec(&self) -> Option<ItemSpec> {
        Some(ItemSpec::Resize(self.clone()))
    }
}

/// Resizes the longer side of every image to one size and keeps the aspect ratio. The sizes of the
/// results differ, so that batches need another transform that makes them equal. Corresponds to fastai's
/// [`RatioResize`](https://docs.fast.ai/vision.augment.html#ratioresize).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatioResize {
    max_sz: u32,
    filter: Filter,
}

impl RatioResize {
    /// Resizes the longer side to `max_sz` pixels.
    #[must_use]
    pub fn new(max_sz: u32) -> Self {
        Self { max_sz, filter: Filter::default() }
    }
    /// Sets the interpolation. Default: bilinear.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Applies the transform to an image. Sizes are rounded to whole pixels, which may cut one pixel off
    /// the other side. In training, two fractions are drawn that decide on which side, as in [`Resize`].
    ///
    /// # Errors
    /// [`Error::Config`] if the size is 0.
    pub fn image(&self, image: &Image, split: Split, draw: &mut dyn Draw) -> Result<Image> {
        let motions = self.motions((image.width(), image.height()), split, draw)?;
        moved_image(image, &motions, self.filter)
    }

    /// Applies the transform to an image and its target. Masks use the nearest pixel; points and boxes
    /// are moved exactly.
    ///
    /// # Errors
    /// As [`image`](Self::image), and [`Error::Mismatch`] if a mask differs in size from its image.
    pub fn sample(&self, sample: Sample, split: Split, draw: &mut dyn Draw) -> Result<Sample> {
        let motions = self.motions((sample.image.width(), sample.image.height()), split, draw)?;
        moved(sample, &motions, self.filter)
    }

    fn motions(&self, from: (u32, u32), split: Split, draw: &mut dyn Draw) -> Result<[Motion; 1]> {
        self.check()?;
        let (w, h) = (f64::from(from.0), f64::from(from.1));
        let longer = f64::from(self.max_sz);
        let (width, height) =
            if w >= h { (longer, h * longer / w) } else { (w * longer / h, longer) };
        let (width, height) = ((width as u32).max(1), (height as u32).max(1));
        Resize::hw(height, width).motions(from, split, draw)
    }
}

impl ItemTransform for RatioResize {
    fn apply(&self, sample: Sample, split: Split, rng: &mut Rng) -> Result<Sample> {
        self.sample(sample, split, rng)
    }
    fn check(&self) -> Result<()> {
        sides("RatioResize", (self.max_sz, self.max_sz))
    }
    fn spec(&self) -> Option<ItemSpec> {
        Some(ItemSpec::RatioResize(self.clone()))
    }
}
