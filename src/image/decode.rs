//! Files of any format to pixels.

use super::Image;
use crate::error::{BoxError, Error, Result};
use ::image::{DynamicImage, ImageDecoder as _, ImageReader, Limits};
use serde::{Deserialize, Serialize};
use std::{fs, io::Cursor, path::Path};

/// How a file becomes pixels. The format is told by the content, never by the file's name.
///
/// Alpha is dropped, not blended; palettes, CMYK and 16-bit pictures become 8-bit RGB; of an animation
/// the first frame counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decode {
    channels: u8,
    orient: bool,
    max_pixels: u64,
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
        Self { channels: 3, orient: true, max_pixels: 1 << 28 }
    }
    /// 3 for RGB, 1 for grey. Default: 3.
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
        let wrong = |source: BoxError| Error::Image { item: name.to_owned(), source };
        self.decoded(bytes).map_err(wrong).and_then(|image| self.finish(image))
    }

    /// A decoded picture with the channels wanted.
    ///
    /// # Errors
    /// [`Error::Config`] if the channels wanted are neither 1 nor 3.
    pub fn convert(&self, image: &Image) -> Result<Image> {
        if image.channels() == self.channels {
            return Ok(image.clone());
        }
        let (w, h, pixels) = (image.width(), image.height(), image.pixels().to_vec());
        let image = match image.channels() {
            1 => ::image::GrayImage::from_raw(w, h, pixels).map(DynamicImage::ImageLuma8),
            _ => ::image::RgbImage::from_raw(w, h, pixels).map(DynamicImage::ImageRgb8),
        };
        self.finish(image.expect("an image has as many bytes as its shape says"))
    }

    fn decoded(&self, bytes: &[u8]) -> Result<DynamicImage, BoxError> {
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
        let mut image = DynamicImage::from_decoder(decoder)?;
        if let Some(orientation) = orientation {
            image.apply_orientation(orientation);
        }
        Ok(image)
    }

    fn finish(&self, image: DynamicImage) -> Result<Image> {
        let (w, h) = (image.width(), image.height());
        match self.channels {
            1 => Image::new(w, h, 1, image.into_luma8().into_raw()),
            3 => Image::new(w, h, 3, image.into_rgb8().into_raw()),
            n => Err(Error::config("channels", format!("{n}: images have 1 or 3 channels"))),
        }
    }
}
