//! Facts about an image file without decoding it.

use super::{content, decoded::panicked, gif, jpeg, png, tiff};
use crate::{caught::caught, error::BoxError};
use ::image::{
    AnimationDecoder as _, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits,
    codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder},
    guess_format,
    metadata::Orientation,
};
use std::{ffi::OsStr, io::Cursor, path::Path};

/// Facts about an image file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The format of the content, such as `jpeg`.
    pub format: &'static str,
    /// The width in pixels, before the EXIF orientation is applied.
    pub width: u32,
    /// The height in pixels, before the EXIF orientation is applied.
    pub height: u32,
    /// Whether the image is CMYK.
    pub cmyk: bool,
    /// Whether a channel has more than 8 bits.
    pub deep: bool,
    /// Whether the file has more than one frame. The first one is decoded.
    pub animated: bool,
    /// Whether the EXIF orientation rotates or mirrors the image.
    pub turned: bool,
    /// Whether the file has the end that its format requires: the end marker of JPEG, the last chunk of
    /// PNG, the trailer of GIF. Always true for other formats.
    pub ended: bool,
}

/// The facts from the head of a file.
struct Head {
    size: (u32, u32),
    bits: u16,
    cmyk: bool,
    orientation: Option<Orientation>,
}

/// Returns facts about the image in `bytes`. Pixels are decoded only to find a second frame, and only up
/// to `max_pixels`.
///
/// # Errors
/// The decoder's error if `bytes` is not an image.
pub fn inspect(bytes: &[u8], max_pixels: u64) -> Result<Facts, BoxError> {
    caught(|| facts(bytes, max_pixels)).unwrap_or_else(|e| Err(panicked(e)))
}

fn facts(bytes: &[u8], max_pixels: u64) -> Result<Facts, BoxError> {
    let format = guess_format(bytes).map_err(|_| content::described(bytes))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(max_pixels.saturating_mul(8));
    let head = head(bytes, format, limits.clone())?;
    let (width, height) = head.size;
    let small = u64::from(width) * u64::from(height) <= max_pixels;
    Ok(Facts {
        format: name(format),
        width,
        height,
        cmyk: head.cmyk,
        deep: head.bits > 8,
        animated: small && animated(bytes, format, limits),
        turned: head.orientation.is_some_and(|o| o != Orientation::NoTransforms),
        ended: match format {
            ImageFormat::Jpeg => jpeg::markers(bytes).is_some_and(|jpeg| jpeg.ended),
            ImageFormat::Png => png::chunks(bytes).is_some_and(|(_, whole)| whole),
            ImageFormat::Gif => gif::ended(bytes),
            _ => true,
        },
    })
}

fn head(bytes: &[u8], format: ImageFormat, limits: Limits) -> Result<Head, BoxError> {
    match format {
        ImageFormat::Jpeg => {
            let jpeg = jpeg::markers(bytes).ok_or_else(|| content::described(bytes))?;
            if jpeg.components == 0 {
                return Err("the file is truncated".into());
            }
            let orientation = jpeg::orientation(bytes);
            return Ok(Head { size: jpeg.size, bits: 8, cmyk: jpeg.components == 4, orientation });
        }
        ImageFormat::Gif => {
            let size = gif::size(bytes)?;
            return Ok(Head { size, bits: 8, cmyk: false, orientation: None });
        }
        ImageFormat::Tiff => {
            if let Some(tiff) = tiff::head(bytes, limits.max_alloc.unwrap_or(u64::MAX)) {
                let (size, bits) = ((tiff.width, tiff.height), tiff.bits.into());
                return Ok(Head { size, bits, cmyk: false, orientation: tiff.orientation });
            }
        }
        _ => {}
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let color = decoder.original_color_type();
    Ok(Head {
        size: decoder.dimensions(),
        bits: color.bits_per_pixel() / u16::from(color.channel_count()),
        cmyk: matches!(color, ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16),
        orientation: decoder.orientation().ok(),
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

/// Returns the format that the extension of a file name stands for, or `None` if it is unknown.
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
