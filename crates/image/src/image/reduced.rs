//! Decoding of JPEG files at a reduced size.
//!
//! A JPEG file stores the frequencies of blocks of 8x8 pixels. A decoder that transforms only the low
//! ones returns a half, a quarter or an eighth of the pixels of each side, in a fraction of the time.

use super::decoded::Decoded;
use ::image::{DynamicImage, GrayImage, RgbImage, metadata::Orientation};
use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};

/// Returns the largest of 8, 4 and 2 that leaves at least `least` pixels on the shorter side.
fn divisor(width: u16, height: u16, least: u32) -> Option<u16> {
    let shorter = u32::from(width.min(height));
    [8, 4, 2].into_iter().find(|divisor| shorter / u32::from(*divisor) >= least)
}

/// Decodes a JPEG file at the smallest size whose shorter side has at least `least` pixels. `transform`
/// is the color space of its components. Returns `None` for CMYK, if only the full size is large enough, and
/// if the decoder rejects the file: decoding at full size may succeed, and otherwise returns the error.
pub(super) fn decode(
    bytes: &[u8],
    transform: ColorTransform,
    least: u32,
    max_pixels: u64,
) -> Option<Decoded> {
    let mut decoder = Decoder::new(bytes);
    decoder.set_color_transform(transform);
    decoder.read_info().ok()?;
    let info = decoder.info()?;
    let whole = u64::from(info.width) * u64::from(info.height);
    if !matches!(info.pixel_format, PixelFormat::RGB24 | PixelFormat::L8) || whole > max_pixels {
        return None;
    }
    let divisor = divisor(info.width, info.height, least)?;
    let (width, height) =
        decoder.scale(info.width.div_ceil(divisor), info.height.div_ceil(divisor)).ok()?;
    let pixels = decoder.decode().ok()?;
    let (width, height) = (width.into(), height.into());
    let image = match info.pixel_format {
        PixelFormat::L8 => GrayImage::from_raw(width, height, pixels).map(Into::into),
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
    };
    let orientation = decoder.exif_data().and_then(Orientation::from_exif_chunk);
    Some(Decoded { image: image?, orientation })
}

#[cfg(test)]
mod tests {
    use super::divisor;

    #[test]
    fn the_shorter_side_keeps_the_minimum() {
        assert_eq!(divisor(4032, 3024, 460), Some(4));
        assert_eq!(divisor(3024, 4032, 1512), Some(2));
        assert_eq!(divisor(4032, 3024, 1513), None);
        assert_eq!(divisor(4032, 3024, 100), Some(8));
        assert_eq!(divisor(500, 300, 224), None);
    }
}
