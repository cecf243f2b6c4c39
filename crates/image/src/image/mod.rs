//! Images in memory: decoding, cropping, padding and resizing, without tensors.

mod codes;
mod content;
mod convolve;
mod decode;
mod decoded;
mod gif;
mod inspect;
mod jpeg;
mod png;
mod reduced;
mod resample;
mod spare;
mod tiff;
mod turn;

pub(crate) use resample::LARGEST_AREA;
pub use {
    codes::Codes,
    decode::Decode,
    inspect::{Facts, inspect, promised_format},
    resample::{Filter, PadMode},
    turn::Turn,
};

use crate::error::{Error, Result};
use ndarray::{Array3, ArrayView3};

/// An 8-bit image with 1 (gray) or 3 (RGB) channels, `[height, width, channels]`, row by row from the
/// upper left corner.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: u32,
    height: u32,
    channels: u8,
    pixels: Vec<u8>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}x{}x{})", self.width, self.height, self.channels)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        spare::give(std::mem::take(&mut self.pixels));
    }
}

impl Image {
    /// Creates an image from its bytes, `[height, width, channels]`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if a side is 0, `channels` is neither 1 nor 3, or the number of bytes is not
    /// the product of the three.
    pub fn new(width: u32, height: u32, channels: u8, pixels: Vec<u8>) -> Result<Self> {
        let bytes = u128::from(width) * u128::from(height) * u128::from(channels);
        let given = pixels.len() as u128;
        if width == 0 || height == 0 || !matches!(channels, 1 | 3) || given != bytes {
            let why = format!("{width}x{height}x{channels} does not fit {} bytes", pixels.len());
            return Err(Error::mismatch("Image::new", why));
        }
        Ok(Self { width, height, channels, pixels })
    }

    /// Returns the width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Returns the height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Returns the number of channels: 1 for gray, 3 for RGB.
    #[must_use]
    pub fn channels(&self) -> u8 {
        self.channels
    }

    /// Returns the bytes, `[height, width, channels]`.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Converts the image into its bytes, `[height, width, channels]`.
    #[must_use]
    pub fn into_pixels(mut self) -> Vec<u8> {
        std::mem::take(&mut self.pixels)
    }

    /// Returns a view of the pixels, `[height, width, channels]`.
    #[must_use]
    pub fn view(&self) -> ArrayView3<'_, u8> {
        let shape = (self.height as usize, self.width as usize, usize::from(self.channels));
        ArrayView3::from_shape(shape, &self.pixels).expect("the constructor checked the shape")
    }

    /// Creates an image from an array, `[height, width, channels]`.
    ///
    /// # Errors
    /// As [`Image::new`].
    pub fn from_array(array: &Array3<u8>) -> Result<Self> {
        let (height, width, channels) = array.dim();
        Self::new(width as u32, height as u32, channels as u8, array.iter().copied().collect())
    }
}
