//! The markers of a JPEG file, and a second decoder for rare layouts.
//!
//! The decoder of the `image` crate is fast, but it decodes some legal layouts to wrong pixels without an
//! error: a sequential file with one scan per component, or chroma that is sampled more finely than luma.
//! Such files are found by their markers and decoded by `jpeg-decoder`.

use super::decoded::Decoded;
use crate::error::BoxError;
use ::image::{DynamicImage, GrayImage, RgbImage, metadata::Orientation};
use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};

/// The facts from the markers of a JPEG file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Jpeg {
    /// The number of components: 1 for gray, 3 for color, 4 for CMYK.
    pub(super) components: u8,
    /// The width and height in pixels, before the EXIF orientation is applied.
    pub(super) size: (u32, u32),
    /// Whether the file has the end marker.
    pub(super) ended: bool,
    /// Whether the fast decoder is known to misread the layout.
    pub(super) rare: bool,
    /// Whether the scans contain every coefficient in full precision.
    scanned: bool,
    /// The color space of the components.
    pub(super) transform: ColorTransform,
}

/// The end marker.
pub(super) const END: [u8; 2] = [0xff, 0xd9];

/// A component of a frame.
#[derive(Debug, Clone, Copy, Default)]
struct Component {
    id: u8,
    /// Horizontal and vertical sampling factors.
    sampling: (u8, u8),
    /// The coefficients that are present in full precision, one bit each.
    coefficients: u64,
}

/// Reads the markers of a JPEG file. Returns `None` for files of other formats.
pub(super) fn markers(bytes: &[u8]) -> Option<Jpeg> {
    if !bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return None;
    }
    let (mut at, mut ended, mut rare) = (2, false, false);
    let (mut jfif, mut adobe, mut began, mut progressive) = (false, None, false, false);
    let (mut size, mut components) = ((0, 0), vec![]);
    loop {
        // Between segments there may be fill bytes. Within a scan there is image data, which may contain
        // 0xff 0x00.
        at += bytes
            .get(at..)
            .and_then(|rest| rest.iter().position(|b| *b == 0xff))
            .unwrap_or(usize::MAX / 2);
        let Some(&marker) = bytes.get(at + 1) else { break };
        match marker {
            // An end marker before the first scan does not end the image.
            0xd9 if began => {
                ended = true;
                break;
            }
            0xff => at += 1,
            0x00 | 0x01 | 0xd0..=0xd9 => at += 2,
            marker => {
                let segment = bytes.get(at + 2..).unwrap_or_default();
                let [high, low, ..] = *segment else { break };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let body = segment.get(2..length.min(segment.len())).unwrap_or_default();
                match marker {
                    0xe0 => jfif |= body.starts_with(b"JFIF\0"),
                    0xee if body.starts_with(b"Adobe") => adobe = body.get(11).copied(),
                    // The markers of frames. The other three of this range are tables.
                    0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => {
                        progressive = marker == 0xc2;
                        (size, components) = frame(body);
                    }
                    0xda => {
                        began = true;
                        rare |= !progressive
                            && body.first().is_some_and(|n| usize::from(*n) < components.len());
                        scan(body, &mut components);
                        // Most files end with the end marker, so that no search for it is needed.
                        if bytes.ends_with(&END) {
                            ended = true;
                            break;
                        }
                    }
                    _ => {}
                }
                at += 2 + length;
            }
        }
    }
    Some(Jpeg {
        components: components.len() as u8,
        size,
        ended,
        rare: rare || unusual(&components),
        scanned: began && components.iter().all(|c| c.coefficients == u64::MAX),
        transform: transform(&components, jfif, adobe),
    })
}

/// Returns the size and the components of a start-of-frame segment.
fn frame(body: &[u8]) -> ((u32, u32), Vec<Component>) {
    let side = |at: usize| match body.get(at..at + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]).into(),
        _ => 0,
    };
    let listed = body.get(6..).unwrap_or_default().chunks_exact(3);
    let component =
        |c: &[u8]| Component { id: c[0], sampling: (c[1] >> 4, c[1] & 15), coefficients: 0 };
    let n = body.get(5).copied().unwrap_or(0);
    ((side(3), side(1)), listed.take(n.into()).map(component).collect())
}

/// Marks the coefficients that a scan completes.
fn scan(body: &[u8], components: &mut [Component]) {
    let n = usize::from(body.first().copied().unwrap_or(0));
    let [first, last, precision, ..] = *body.get(1 + 2 * n..).unwrap_or_default() else { return };
    // The lower four bits are the number of bits that are left for later scans.
    if precision & 15 != 0 || first > last || last > 63 {
        return;
    }
    let band = (u64::MAX >> (63 - (last - first))) << first;
    for id in body[1..].chunks_exact(2).take(n).map(|c| c[0]) {
        for component in components.iter_mut().filter(|c| c.id == id) {
            component.coefficients |= band;
        }
    }
}

/// Returns true unless the sampling factors are those that cameras use: luma at least as fine as the
/// other components, powers of two, and at most ten blocks per unit, the limit of the standard.
fn unusual(components: &[Component]) -> bool {
    let [first, .., _] = components else { return false };
    let finer = |c: &Component| c.sampling.0 > first.sampling.0 || c.sampling.1 > first.sampling.1;
    let odd =
        |c: &Component| ![1, 2, 4].contains(&c.sampling.0) || ![1, 2, 4].contains(&c.sampling.1);
    let blocks: u32 =
        components.iter().map(|c| u32::from(c.sampling.0) * u32::from(c.sampling.1)).sum();
    blocks > 10 || components.iter().any(|c| finer(c) || odd(c))
}

/// Returns the color space of the components by the rules of libjpeg.
fn transform(components: &[Component], jfif: bool, adobe: Option<u8>) -> ColorTransform {
    let ids: Vec<u8> = components.iter().map(|c| c.id).collect();
    match (ids.as_slice(), adobe) {
        ([_], _) => ColorTransform::Grayscale,
        ([_, _, _], _) if jfif => ColorTransform::YCbCr,
        ([_, _, _], Some(0)) | (b"RGB", None) => ColorTransform::RGB,
        ([_, _, _], _) => ColorTransform::YCbCr,
        ([_, _, _, _], Some(0) | None) => ColorTransform::CMYK,
        ([_, _, _, _], _) => ColorTransform::YCCK,
        _ => ColorTransform::Unknown,
    }
}

/// Decodes a file of any layout.
pub(super) fn decode(bytes: &[u8], jpeg: Jpeg, max_pixels: u64) -> Result<Decoded, BoxError> {
    let mut decoder = Decoder::new(bytes);
    let most = usize::try_from(max_pixels.saturating_mul(4)).unwrap_or(usize::MAX);
    decoder.set_max_decoding_buffer_size(most);
    decoder.set_color_transform(jpeg.transform);
    let pixels = decoder.decode()?;
    let info = decoder.info().ok_or("the file has no frame")?;
    let (w, h) = (u32::from(info.width), u32::from(info.height));
    let image = match info.pixel_format {
        PixelFormat::L8 => GrayImage::from_raw(w, h, pixels).map(DynamicImage::from),
        PixelFormat::RGB24 => RgbImage::from_raw(w, h, pixels).map(DynamicImage::from),
        PixelFormat::CMYK32 => RgbImage::from_raw(w, h, from_cmyk(&pixels)).map(DynamicImage::from),
        PixelFormat::L16 => {
            return Err("more than 8 bits per sample are not supported in JPEG".into());
        }
    };
    let orientation = decoder.exif_data().and_then(Orientation::from_exif_chunk);
    Ok(Decoded { image: image.ok_or("the decoder's size is wrong")?, orientation })
}

/// Converts CMYK to RGB. Adobe stores inverted values, which Pillow assumes too; the decoder has
/// inverted them.
fn from_cmyk(pixels: &[u8]) -> Vec<u8> {
    let pixel = |p: &[u8]| {
        let white = u32::from(255 - p[3]);
        [p[0], p[1], p[2]].map(|ink| ((u32::from(255 - ink) * white + 127) / 255) as u8)
    };
    pixels.chunks_exact(4).flat_map(pixel).collect()
}

/// Returns the EXIF orientation.
pub(super) fn orientation(bytes: &[u8]) -> Option<Orientation> {
    let mut decoder = Decoder::new(bytes);
    decoder.read_info().ok()?;
    decoder.exif_data().and_then(Orientation::from_exif_chunk)
}

/// Returns true if a file without an end marker contains its complete image. `decode` is called for the
/// file with different endings: if the image depends on the missing data, the results differ.
pub(super) fn is_whole(
    bytes: &[u8],
    jpeg: Jpeg,
    decode: impl Fn(&[u8]) -> Result<Decoded, BoxError>,
) -> bool {
    if !jpeg.scanned {
        return false;
    }
    let end = bytes.iter().rposition(|b| *b != 0xff).map_or(0, |last| last + 1);
    let with = |filler: u8| {
        let tail = std::iter::repeat_n(filler, 64).chain(END);
        let bytes: Vec<u8> = bytes[..end].iter().copied().chain(tail).collect();
        decode(&bytes).map(|decoded| decoded.image.into_bytes())
    };
    let Ok(first) = with(0x00) else { return false };
    [0x55, 0xaa, 0xfe].into_iter().all(|filler| with(filler).is_ok_and(|other| other == first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_marker_before_the_image_is_ignored() {
        let head = [0xff, 0xd8, 0xff, 0xe0, 0, 6, 0xff, 0xd9, 1, 2];
        let frame = [0xff, 0xc0, 0, 8, 8, 0, 3, 0, 2, 0];
        let scan = [0xff, 0xda, 0, 2, 7, 0xff, 0, 0xff, 0xd1, 9];
        let whole = [&head[..], &frame, &scan, &[0xff, 0xff, 0xd9]].concat();
        let jpeg = markers(&whole).unwrap();
        assert_eq!((jpeg.size, jpeg.ended), ((2, 3), true));
        for cut in 3..whole.len() {
            assert!(!markers(&whole[..cut]).unwrap().ended, "{cut}");
        }
        assert_eq!(markers(b"GIF89a"), None);
    }
}
