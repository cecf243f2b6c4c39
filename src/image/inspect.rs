//! What a file says of its picture before it is decoded.

use super::jpeg;
use crate::error::BoxError;
use ::image::{
    AnimationDecoder as _, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits,
    codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder},
    metadata::Orientation,
};
use std::{ffi::OsStr, io::Cursor, path::Path};

/// What a file says of its picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The format of the content, such as `jpeg`.
    pub format: &'static str,
    /// The width in pixels, before it is turned.
    pub width: u32,
    /// The height in pixels, before it is turned.
    pub height: u32,
    /// Whether its colors are those of printing.
    pub cmyk: bool,
    /// Whether it has more than 8 bits for each color.
    pub deep: bool,
    /// Whether it has more than one frame, of which the first is taken.
    pub animated: bool,
    /// Whether its EXIF data says that it is to be turned or mirrored.
    pub turned: bool,
}

/// What the bytes of a file say of its picture. Pixels are decoded only to find a second frame, and not
/// more than `max_pixels`.
///
/// # Errors
/// What the decoder says if it is no picture.
pub fn inspect(bytes: &[u8], max_pixels: u64) -> Result<Facts, BoxError> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let format = reader.format().ok_or("the content is of no known format")?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(max_pixels.saturating_mul(8));
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let color = decoder.original_color_type();
    let small = u64::from(width) * u64::from(height) <= max_pixels;
    let bits = color.bits_per_pixel() / u16::from(color.channel_count());
    let turned = decoder.orientation().is_ok_and(|o| o != Orientation::NoTransforms);
    let printed = matches!(color, ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16);
    Ok(Facts {
        format: name(format),
        width,
        height,
        cmyk: printed || jpeg::markers(bytes).is_some_and(|jpeg| jpeg.components == 4),
        deep: bits > 8,
        animated: small && animated(bytes, format, limits),
        turned,
    })
}

fn animated(bytes: &[u8], format: ImageFormat, limits: Limits) -> bool {
    let reader = Cursor::new(bytes);
    match format {
        ImageFormat::Gif => GifDecoder::new(reader).is_ok_and(|mut gif| {
            gif.set_limits(limits).is_ok() && gif.into_frames().take(2).flatten().count() == 2
        }),
        ImageFormat::Png => {
            PngDecoder::with_limits(reader, limits).is_ok_and(|png| png.is_apng().unwrap_or(false))
        }
        ImageFormat::WebP => WebPDecoder::new(reader).is_ok_and(|webp| webp.has_animation()),
        _ => false,
    }
}

/// The format that a file's name promises, if it promises one that is known here.
#[must_use]
pub fn promised_format(path: &Path) -> Option<&'static str> {
    let extension = path.extension().map(OsStr::to_ascii_lowercase)?;
    match extension.to_str()? {
        "apng" => Some("png"),
        "jfif" | "jpe" => Some("jpeg"),
        extension => ImageFormat::from_extension(extension).map(name),
    }
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "jpeg",
        format => format.extensions_str().first().copied().unwrap_or("another"),
    }
}
