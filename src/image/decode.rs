//! Files of any format to pixels.

use super::{Image, jpeg, reduced, spare};
use crate::error::{BoxError, Error, Result};
use ::image::{ColorType, DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};
use serde::{Deserialize, Serialize};
use std::{fs, io::Cursor, panic, path::Path};

/// How a file becomes pixels. The format is told by the content, never by the file's name.
///
/// As Pillow's `convert` does it: alpha is dropped, not blended; palettes and CMYK become RGB; gray is
/// 0.299 red, 0.587 green and 0.114 blue; of an animation the first frame counts. Of 16 bits the upper 8
/// are taken. Pillow does so for colors, but cuts 16-bit gray off at 255, which makes it white.
///
/// A JPEG file whose end is missing is an error, as in Pillow. Damage within one that does not keep it
/// from being decoded is not found, also as in Pillow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decode {
    channels: u8,
    orient: bool,
    max_pixels: u64,
    /// The least shorter side that JPEG files are decoded to; none to decode them in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reduce_to: Option<u32>,
}

impl Default for Decode {
    fn default() -> Self {
        Self::new()
    }
}

impl Decode {
    /// RGB, turned upright, at most 2²⁸ pixels.
    #[must_use]
    pub fn new() -> Self {
        Self { channels: 3, orient: true, max_pixels: 1 << 28, reduce_to: None }
    }
    /// 3 for RGB, 1 for gray. Default: 3.
    #[must_use]
    pub fn channels(mut self, channels: u8) -> Self {
        self.channels = channels;
        self
    }
    /// Whether to turn a picture as its EXIF orientation says. fastai does not. Default: true.
    #[must_use]
    pub fn orient(mut self, yes: bool) -> Self {
        self.orient = yes;
        self
    }
    /// Pictures with more pixels are refused before memory is taken for them. Default: 2²⁸.
    #[must_use]
    pub fn max_pixels(mut self, pixels: u64) -> Self {
        self.max_pixels = pixels;
        self
    }

    /// Decodes JPEG files only as large as needed: at a half, a quarter or an eighth of both sides, if the shorter side
    /// still has at least `shorter` pixels. Other formats, CMYK and smaller files are decoded in full.
    ///
    /// It saves time for photos of many megapixels. Take the size of the `Resize` that follows, or twice it for pixels
    /// that are closer to those of full decoding. Default: everything is decoded in full, as fastai does.
    ///
    /// ```
    /// use finetune::image::Decode;
    ///
    /// let decode = Decode::new().reduce_to(460); // 4032x3024 pixels become 1008x756
    /// assert_ne!(decode, Decode::new());
    /// ```
    #[must_use]
    pub fn reduce_to(mut self, shorter: u32) -> Self {
        self.reduce_to = Some(shorter);
        self
    }

    /// The picture in a file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Image`] if it is no picture or too large.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(Error::io(path))?;
        self.read(&bytes, &path.display().to_string())
    }

    /// The picture in a file's bytes; `name` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Image`] if it is no picture or too large.
    pub fn read(&self, bytes: &[u8], name: &str) -> Result<Image> {
        // A decoder that gives up by a panic has met a damaged file like any other.
        let decoded = panic::catch_unwind(|| self.decoded(bytes))
            .unwrap_or_else(|_| Err("the decoder panicked".into()));
        let image = decoded.map_err(|cause| Error::Image { item: name.to_owned(), cause })?;
        self.finish(image)
    }

    /// A decoded picture with the channels wanted.
    ///
    /// # Errors
    /// [`Error::Config`] if the channels wanted are neither 1 nor 3.
    pub fn convert(&self, image: &Image) -> Result<Image> {
        if image.channels() == self.channels {
            return Ok(image.clone());
        }
        self.with_channels(image.width(), image.height(), image.channels(), image.pixels().to_vec())
    }

    fn decoded(&self, bytes: &[u8]) -> Result<DynamicImage, BoxError> {
        // Most files end with the end, so they need not be searched for it.
        let ends = bytes.ends_with(&jpeg::END);
        if !ends && jpeg::markers(bytes).is_some_and(|jpeg| !jpeg.complete) {
            return Err("the file is broken off".into());
        }
        let reduced = self.reduce_to.and_then(|n| reduced::decode(bytes, n, self.max_pixels));
        if let Some(reduced) = reduced {
            let (mut image, orientation) = reduced?;
            if let Some(orientation) = orientation.filter(|_| self.orient) {
                image.apply_orientation(orientation);
            }
            return Ok(image);
        }
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
        let mut limits = Limits::default();
        // Decoders hold the picture once or twice beside the result.
        limits.max_alloc = Some(self.max_pixels.saturating_mul(16));
        reader.limits(limits);
        let mut decoder = reader.into_decoder()?;
        let (w, h) = decoder.dimensions();
        if u64::from(w) * u64::from(h) > self.max_pixels {
            let limit = self.max_pixels;
            return Err(format!("{w}x{h} pixels are more than the limit of {limit}").into());
        }
        let orientation = decoder.orientation().ok().filter(|_| self.orient);
        let mut image = match decoder.color_type() {
            ColorType::Rgb8 => rgb(decoder)?,
            _ => DynamicImage::from_decoder(decoder)?,
        };
        if let Some(orientation) = orientation {
            image.apply_orientation(orientation);
        }
        Ok(image)
    }

    /// To 8 bits, without alpha, in the channels wanted.
    fn finish(&self, image: DynamicImage) -> Result<Image> {
        use DynamicImage as D;
        let (w, h) = (image.width(), image.height());
        let (channels, pixels) = match image {
            D::ImageLuma8(i) => (1, i.into_raw()),
            D::ImageRgb8(i) => (3, i.into_raw()),
            D::ImageLumaA8(i) => (1, first_of(&i, 2, 1, |v| v)),
            D::ImageRgba8(i) => (3, first_of(&i, 4, 3, |v| v)),
            D::ImageLuma16(i) => (1, first_of(&i, 1, 1, upper)),
            D::ImageLumaA16(i) => (1, first_of(&i, 2, 1, upper)),
            D::ImageRgb16(i) => (3, first_of(&i, 3, 3, upper)),
            D::ImageRgba16(i) => (3, first_of(&i, 4, 3, upper)),
            other => (3, other.into_rgb8().into_raw()),
        };
        self.with_channels(w, h, channels, pixels)
    }

    fn with_channels(&self, w: u32, h: u32, channels: u8, pixels: Vec<u8>) -> Result<Image> {
        let pixels = match (channels, self.channels) {
            (1, 1) | (3, 3) => pixels,
            (1, 3) => pixels.into_iter().flat_map(|v| [v; 3]).collect(),
            (3, 1) => pixels.chunks_exact(3).map(|p| gray([p[0], p[1], p[2]])).collect(),
            (_, n) => {
                return Err(Error::config("channels", format!("{n}: images have 1 or 3 channels")));
            }
        };
        Image::new(w, h, self.channels, pixels)
    }
}

/// What most photos are, in memory that was used before.
fn rgb(decoder: impl ImageDecoder) -> Result<DynamicImage, BoxError> {
    let (w, h) = decoder.dimensions();
    let mut pixels = spare::take(w as usize * h as usize * 3);
    // A decoder may leave out what is damaged; no other image is to be seen there.
    pixels.fill(0);
    decoder.read_image(&mut pixels)?;
    let image = RgbImage::from_raw(w, h, pixels).ok_or("the decoder's size is wrong")?;
    Ok(image.into())
}

/// The first `n` of each `of` values.
fn first_of<T: Copy>(raw: &[T], of: usize, n: usize, f: impl Fn(T) -> u8) -> Vec<u8> {
    raw.chunks_exact(of).flat_map(|pixel| &pixel[..n]).map(|v| f(*v)).collect()
}

fn upper(v: u16) -> u8 {
    (v >> 8) as u8
}

/// The weights of ITU-R 601 in Pillow's fixed-point numbers.
fn gray([r, g, b]: [u8; 3]) -> u8 {
    let sum = u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471;
    ((sum + (1 << 15)) >> 16) as u8
}
