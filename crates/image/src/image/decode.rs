//! Decoding of image files.

use super::{
    Image, content,
    decoded::{Decoded, panicked, within},
    gif, jpeg, png, reduced, spare, tiff,
};
use crate::{
    caught::caught,
    error::{BoxError, Error, Result},
};
use ::image::{
    ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage, guess_format,
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, Cursor},
    path::Path,
};

/// Options for decoding image files. The format is detected from the content, never from the file name.
///
/// Supported formats are BMP, GIF, JPEG, PNG, PNM, TIFF and WebP. Other formats, such as AVIF, HEIC and
/// JPEG XL, are errors that name the format. Files that are not images are errors too: empty files, HTML
/// pages, Git LFS pointers.
///
/// Pixels are those of Pillow's `convert`: alpha is dropped, not blended; palettes, YCbCr and CMYK
/// become RGB; gray is 0.299 red, 0.587 green and 0.114 blue. Of an animation, the first frame is used,
/// on a canvas of the size of the animation. Of 16-bit values, the upper 8 bits are used; Pillow clips
/// gray values at 255, which turns most of them white. Values of a PNM file above its maximum become the
/// maximum. JPEG decoders round differently: single pixels differ by up to 8 levels.
///
/// TIFF files may have 1, 2, 4, 8 or 16 bits per sample. Floating-point numbers, signed numbers and
/// 32-bit integers are errors, because their range is unknown; so are Lab colors, and YCbCr with
/// subsampled chroma that is not compressed as JPEG.
///
/// A truncated file is an error, as in Pillow. A file with a complete image is decoded even if it lacks
/// the end marker (JPEG), the last chunk (PNG) or the trailer (GIF);
/// [`Facts::ended`](super::Facts::ended) is false for it. (Pillow rejects such a JPEG file if nothing
/// follows the image.) Damage that does not prevent decoding is not detected, also as in Pillow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decode {
    channels: u8,
    orient: bool,
    max_pixels: u64,
    /// The minimum shorter side of reduced JPEG files; `None` to decode at full size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reduce_to: Option<u32>,
}

impl Default for Decode {
    fn default() -> Self {
        Self::new()
    }
}

impl Decode {
    /// Creates the default options: RGB, EXIF orientation applied, at most 2²⁸ pixels.
    #[must_use]
    pub fn new() -> Self {
        Self { channels: 3, orient: true, max_pixels: 1 << 28, reduce_to: None }
    }
    /// Sets the number of channels: 3 for RGB, 1 for gray. Default: 3.
    #[must_use]
    pub fn channels(mut self, channels: u8) -> Self {
        self.channels = channels;
        self
    }
    /// If true, the EXIF orientation is applied. fastai ignores it. Default: true.
    #[must_use]
    pub fn orient(mut self, yes: bool) -> Self {
        self.orient = yes;
        self
    }
    /// Sets the maximum number of pixels. Larger images are an error before memory is allocated for
    /// them. Default: 2²⁸.
    #[must_use]
    pub fn max_pixels(mut self, pixels: u64) -> Self {
        self.max_pixels = pixels;
        self
    }

    /// Decodes large JPEG files at a reduced size: at a half, a quarter or an eighth of both sides, as
    /// long as the shorter side has at least `shorter` pixels. Other formats, CMYK, smaller files and files
    /// that the decoder for reduced sizes rejects are decoded at full size.
    ///
    /// This saves time for photos of many megapixels. Use the size of the `Resize` that follows, or
    /// twice that size for pixels that are closer to those of full decoding. Default: full size, as in
    /// fastai.
    ///
    /// The mean difference from full decoding after the `Resize`, in levels from 0 to 255, is below these bounds in small
    /// sharp pictures, baseline, progressive, gray and turned by EXIF:
    ///
    /// | decoded size | at a half or a quarter | at an eighth |
    /// |---|---|---|
    /// | that of the `Resize` | 3 | 3 |
    /// | twice that of the `Resize` | 1 | 2 |
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
    /// Returns true if files may be decoded at a reduced size.
    #[must_use]
    pub fn reduces(&self) -> bool {
        self.reduce_to.is_some()
    }

    /// Decodes a file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Image`] if it is not an image or is too large.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|e| Error::io(path)(with_link_target(path, e)))?;
        self.read(&bytes, &path.display().to_string())
    }

    /// Decodes the bytes of a file. Errors call it `name`.
    ///
    /// # Errors
    /// [`Error::Image`] if it is not an image or is too large.
    pub fn read(&self, bytes: &[u8], name: &str) -> Result<Image> {
        self.finish(self.decoded(bytes, name)?)
    }

    /// Converts a decoded image to the requested channels.
    ///
    /// # Errors
    /// [`Error::Config`] if the number of requested channels is neither 1 nor 3.
    pub fn convert(&self, image: &Image) -> Result<Image> {
        if image.channels() == self.channels {
            return Ok(image.clone());
        }
        self.with_channels(image.width(), image.height(), image.channels(), image.pixels().to_vec())
    }

    /// Decodes the bytes of a file with the channels and the bits of the decoder.
    pub(super) fn decoded(&self, bytes: &[u8], name: &str) -> Result<DynamicImage> {
        let decoded = caught(|| self.by_content(bytes)).unwrap_or_else(|e| Err(panicked(e)));
        decoded.map_err(|cause| Error::Image { item: name.to_owned(), cause })
    }

    fn by_content(&self, bytes: &[u8]) -> Result<DynamicImage, BoxError> {
        let Decoded { mut image, orientation } = match guess_format(bytes) {
            Ok(ImageFormat::Jpeg) => self.jpeg(bytes),
            Ok(ImageFormat::Gif) => gif::decode(bytes, self.max_pixels),
            Ok(ImageFormat::Png) => self.common(bytes).or_else(|e| {
                let repaired = png::repaired(bytes).ok_or(e)?;
                self.common(&repaired)
            }),
            Ok(ImageFormat::Tiff) => {
                tiff::decode(bytes, self.max_pixels).unwrap_or_else(|| self.common(bytes))
            }
            Ok(ImageFormat::Bmp | ImageFormat::Pnm | ImageFormat::WebP) => self.common(bytes),
            _ => Err(content::described(bytes).into()),
        }?;
        if let Some(orientation) = orientation.filter(|_| self.orient) {
            image.apply_orientation(orientation);
        }
        Ok(image)
    }

    /// Decodes a JPEG file with the decoder that its layout needs.
    fn jpeg(&self, bytes: &[u8]) -> Result<Decoded, BoxError> {
        let jpeg = jpeg::markers(bytes).ok_or_else(|| content::described(bytes))?;
        let cut = "the file is truncated";
        if jpeg.components == 0 {
            return Err(cut.into());
        }
        within(jpeg.size, self.max_pixels)?;
        let second = |bytes: &[u8]| jpeg::decode(bytes, jpeg, self.max_pixels);
        let decode = |bytes: &[u8]| match jpeg.rare {
            true => second(bytes),
            false => self.common(bytes).or_else(|e| second(bytes).map_err(|_| e)),
        };
        let reduce = |n| {
            // After a panic, too, decoding at full size may succeed.
            caught(|| reduced::decode(bytes, jpeg.transform, n, self.max_pixels)).ok().flatten()
        };
        if let Some(reduced) = self.reduce_to.filter(|_| jpeg.ended).and_then(reduce) {
            return Ok(reduced);
        }
        match jpeg.ended {
            true => decode(bytes),
            false if jpeg::is_whole(bytes, jpeg, decode) => decode(&[bytes, &jpeg::END].concat()),
            false => Err(cut.into()),
        }
    }

    /// Decodes a file with the decoders of the `image` crate.
    fn common(&self, bytes: &[u8]) -> Result<Decoded, BoxError> {
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
        let mut limits = Limits::default();
        // In addition to the result, decoders hold the image once or twice.
        limits.max_alloc = Some(self.max_pixels.saturating_mul(16));
        reader.limits(limits);
        let mut decoder = reader.into_decoder()?;
        within(decoder.dimensions(), self.max_pixels)?;
        let orientation = decoder.orientation().ok();
        let image = match decoder.color_type() {
            ColorType::Rgb8 => rgb(decoder)?,
            _ => DynamicImage::from_decoder(decoder)?,
        };
        Ok(Decoded { image, orientation })
    }

    /// Converts to 8 bits without alpha, in the requested channels.
    pub(super) fn finish(&self, image: DynamicImage) -> Result<Image> {
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
                return Err(Error::config("channels", format!("is {n}; it must be 1 or 3")));
            }
        };
        Image::new(w, h, self.channels, pixels)
    }
}

/// Adds the target of a broken symbolic link to an error of reading a file.
fn with_link_target(path: &Path, e: io::Error) -> io::Error {
    match fs::read_link(path) {
        Ok(to) if e.kind() == io::ErrorKind::NotFound => {
            io::Error::new(e.kind(), format!("a link to {}, which does not exist", to.display()))
        }
        _ => e,
    }
}

/// Decodes 8-bit RGB, the format of most photos, into reused memory.
fn rgb(decoder: impl ImageDecoder) -> Result<DynamicImage, BoxError> {
    let (w, h) = decoder.dimensions();
    let mut pixels = spare::take(w as usize * h as usize * 3);
    // A decoder may skip damaged parts, which must not show an earlier image.
    pixels.fill(0);
    decoder.read_image(&mut pixels)?;
    let image = RgbImage::from_raw(w, h, pixels).ok_or("the decoder's size is wrong")?;
    Ok(image.into())
}

/// Returns the first `n` of each `of` values, mapped by `f`.
fn first_of<T: Copy>(raw: &[T], of: usize, n: usize, f: impl Fn(T) -> u8) -> Vec<u8> {
    raw.chunks_exact(of).flat_map(|pixel| &pixel[..n]).map(|v| f(*v)).collect()
}

fn upper(v: u16) -> u8 {
    (v >> 8) as u8
}

/// Returns the gray value with the weights of ITU-R 601 in Pillow's fixed-point arithmetic.
fn gray([r, g, b]: [u8; 3]) -> u8 {
    let sum = u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471;
    ((sum + (1 << 15)) >> 16) as u8
}
