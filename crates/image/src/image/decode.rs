//! Files of any format to pixels.

use super::{
    Image, content,
    decoded::{Decoded, within},
    gif, jpeg, png, reduced, spare, tiff,
};
use crate::error::{BoxError, Error, Result};
use ::image::{
    ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage, guess_format,
};
use serde::{Deserialize, Serialize};
use std::{
    any::Any,
    fs,
    io::{self, Cursor},
    panic,
    path::Path,
};

/// How a file becomes pixels. The format is told by the content, never by the file's name.
///
/// Decoded are BMP, GIF, JPEG, PNG, PNM, TIFF and WebP. Other formats, such as AVIF, HEIC and
/// JPEG XL, are errors that name the format, and so are files that are not images: empty ones, HTML
/// pages, Git LFS pointers.
///
/// Pixels are those of Pillow's `convert`: alpha is dropped, not blended; palettes, YCbCr and CMYK become
/// RGB; gray is 0.299 red, 0.587 green and 0.114 blue; the first frame of an animation is taken, on a
/// canvas of the size of the animation. For 16 bits, the upper 8 are taken, where Pillow cuts plain gray
/// off at 255, which makes it white. JPEG decoders round differently: up to 8 levels at single pixels.
///
/// TIFF files may have 1, 2, 4, 8 or 16 bits per sample. Floating-point numbers, signed numbers and
/// 32-bit integers are errors, because their range is unknown; so are Lab colors, and YCbCr with
/// subsampled chroma that is not compressed as JPEG.
///
/// A file that is broken off is an error, as in Pillow. A picture that is whole is decoded although its
/// file lacks the end marker (JPEG), the last chunk (PNG) or the trailer (GIF);
/// [`Facts::ended`](super::Facts::ended) tells of it. (Pillow refuses such a JPEG file if nothing follows the picture.)
/// Damage inside a file that does not keep it from being decoded is not found, also as in Pillow.
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
    /// Whether files may be decoded at less than their size.
    #[must_use]
    pub fn reduces(&self) -> bool {
        self.reduce_to.is_some()
    }

    /// The picture in a file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Image`] if it is no picture or too large.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|e| Error::io(path)(told(path, e)))?;
        self.read(&bytes, &path.display().to_string())
    }

    /// The picture in a file's bytes; `name` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Image`] if it is no picture or too large.
    pub fn read(&self, bytes: &[u8], name: &str) -> Result<Image> {
        // A decoder that gives up by a panic has met a damaged file like any other.
        let decoded = panic::catch_unwind(|| self.decoded(bytes))
            .unwrap_or_else(|panic| Err(format!("the decoder panicked: {}", said(&*panic)).into()));
        let image = decoded.map_err(|cause| Error::Image { item: name.to_owned(), cause })?;
        self.finish(image)
    }

    /// [`read`](Self::read) with the channels that the file has, whatever is wanted.
    pub(super) fn read_native(&self, bytes: &[u8], name: &str) -> Result<Image> {
        let decoded = panic::catch_unwind(|| self.decoded(bytes))
            .unwrap_or_else(|_| Err("the decoder panicked".into()));
        let image = decoded.map_err(|cause| Error::Image { item: name.to_owned(), cause })?;
        let channels = if image.color().has_color() { 3 } else { 1 };
        self.channels(channels).finish(image)
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

    /// A JPEG file by the decoder that its layout needs.
    fn jpeg(&self, bytes: &[u8]) -> Result<Decoded, BoxError> {
        let jpeg = jpeg::markers(bytes).ok_or_else(|| content::described(bytes))?;
        let cut = "the file is broken off";
        if jpeg.components == 0 {
            return Err(cut.into());
        }
        within(jpeg.size, self.max_pixels)?;
        let second = |bytes: &[u8]| jpeg::decode(bytes, jpeg, self.max_pixels);
        let decode = |bytes: &[u8]| match jpeg.rare {
            true => second(bytes),
            false => self.common(bytes).or_else(|e| second(bytes).map_err(|_| e)),
        };
        let reduce = |n| reduced::decode(bytes, jpeg.transform, n, self.max_pixels);
        if let Some(reduced) = self.reduce_to.filter(|_| jpeg.ended).and_then(reduce) {
            return reduced;
        }
        match jpeg.ended {
            true => decode(bytes),
            false if jpeg::is_whole(bytes, jpeg, decode) => decode(&[bytes, &jpeg::END].concat()),
            false => Err(cut.into()),
        }
    }

    /// A file by the decoders of the `image` crate.
    fn common(&self, bytes: &[u8]) -> Result<Decoded, BoxError> {
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
        let mut limits = Limits::default();
        // Decoders hold the picture once or twice beside the result.
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

/// The error of a file that cannot be read, which names a link that leads to nothing.
fn told(path: &Path, e: io::Error) -> io::Error {
    match fs::read_link(path) {
        Ok(to) if e.kind() == io::ErrorKind::NotFound => {
            io::Error::new(e.kind(), format!("a link to {}, which does not exist", to.display()))
        }
        _ => e,
    }
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
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
