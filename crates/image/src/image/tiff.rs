//! TIFF files that the `image` crate does not read: palettes, 2 and 4 bits, gray with alpha, YCbCr.

use super::decoded::{Decoded, within};
use crate::error::BoxError;
use ::image::{DynamicImage, GrayImage, ImageBuffer, RgbImage, metadata::Orientation};
use std::{borrow::Cow, io::Cursor};
use tiff::{
    ColorType,
    decoder::{Decoder, DecodingResult, Limits},
    tags::Tag,
};

/// The photometric interpretation of palette colors.
const PALETTE: u16 = 3;
/// The number of the tag `PhotometricInterpretation`.
const MEANING: u16 = 262;

/// The facts from the first directory of a file.
#[derive(Debug)]
pub(super) struct Tiff {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) orientation: Option<Orientation>,
    /// The number of bits per sample.
    pub(super) bits: u8,
    color: ColorType,
    palette: Option<Vec<u16>>,
}

/// The error of an image with too few pixels.
const TOO_FEW: &str = "the decoder's size is wrong";

type Reader<'a> = Decoder<Cursor<Cow<'a, [u8]>>>;

/// Reads the first directory. Returns `None` for files of other formats, and for those that the `image`
/// crate reads or that are not supported.
pub(super) fn head(bytes: &[u8], max_bytes: u64) -> Option<Tiff> {
    opened(bytes, max_bytes).map(|(tiff, _)| tiff)
}

fn opened(bytes: &[u8], max_bytes: u64) -> Option<(Tiff, Reader<'_>)> {
    let meaning = meaning(bytes)?;
    let mut whole = Cow::Borrowed(bytes);
    if meaning.value == PALETTE {
        // The decoder does not support palettes. It decodes the indices as gray values instead.
        let black_is_zero = if bytes[0] == b'I' { [1, 0] } else { [0, 1] };
        whole.to_mut()[meaning.at..meaning.at + 2].copy_from_slice(&black_is_zero);
    }
    let mut limits = Limits::default();
    limits.decoding_buffer_size = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let mut reader = Decoder::new(Cursor::new(whole)).ok()?.with_limits(limits);
    let (width, height) = reader.dimensions().ok()?;
    let color = reader.colortype().ok()?;
    let palette = match meaning.value {
        PALETTE => Some(reader.find_tag_unsigned_vec::<u16>(Tag::ColorMap).ok()??),
        _ => None,
    };
    let bits = match color {
        ColorType::Gray(1 | 8) if palette.is_none() => return None,
        ColorType::Gray(bits @ (1 | 2 | 4 | 8))
        | ColorType::Multiband { bit_depth: bits @ (8 | 16), num_samples: 2.. } => bits,
        ColorType::YCbCr(8) => 8,
        _ => return None,
    };
    let whole_numbers = |formats: Vec<u16>| formats.iter().all(|f| *f == 1);
    if !reader.find_tag_unsigned_vec(Tag::SampleFormat).ok()?.is_none_or(whole_numbers) {
        return None;
    }
    let orientation = reader.find_tag_unsigned(Tag::Orientation).ok().flatten();
    let orientation = orientation.and_then(Orientation::from_exif);
    Some((Tiff { width, height, orientation, bits, color, palette }, reader))
}

/// The position and the value of the photometric interpretation in a file.
struct Meaning {
    at: usize,
    value: u16,
}

/// Finds the photometric interpretation in the first directory.
fn meaning(bytes: &[u8]) -> Option<Meaning> {
    let little = match bytes.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let two = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    };
    let four: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
    let directory =
        if little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) } as usize;
    let entry = |k: usize| directory + 2 + 12 * k;
    let at =
        (0..usize::from(short(directory)?)).map(entry).find(|&at| short(at) == Some(MEANING))? + 8;
    Some(Meaning { at, value: short(at)? })
}

/// Decodes a file, if it is of a kind that this module reads.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Option<Result<Decoded, BoxError>> {
    let (tiff, mut reader) = opened(bytes, max_pixels.saturating_mul(16))?;
    let image =
        within((tiff.width, tiff.height), max_pixels).and_then(|()| tiff.pixels(&mut reader));
    Some(image.map(|image| Decoded { image, orientation: tiff.orientation }))
}

impl Tiff {
    fn pixels(&self, reader: &mut Reader<'_>) -> Result<DynamicImage, BoxError> {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut values = DecodingResult::U8(vec![]);
        let layout = reader.read_image_to_buffer(&mut values)?;
        let values: Vec<u8> = match values {
            DecodingResult::U8(values) => values,
            // Only gray with alpha has 16 bits here.
            DecodingResult::U16(values) => {
                let gray = self.first_samples(values, layout.planes > 1);
                let image = ImageBuffer::from_raw(self.width, self.height, gray);
                return image.map(DynamicImage::ImageLuma16).ok_or_else(|| TOO_FEW.into());
            }
            _ => return Err("the samples are not integers of 1 to 16 bits".into()),
        };
        let gray =
            |pixels| GrayImage::from_raw(self.width, self.height, pixels).map(DynamicImage::from);
        let rgb =
            |pixels| RgbImage::from_raw(self.width, self.height, pixels).map(DynamicImage::from);
        let image = match (self.color, &self.palette) {
            (ColorType::Gray(bits), palette) => {
                let row = (width * usize::from(bits)).div_ceil(8);
                let rows = values.chunks_exact(row.max(1)).take(height);
                let indices = rows.flat_map(|row| (0..width).map(|x| sample(row, x, bits)));
                match palette {
                    Some(palette) => rgb(indices.flat_map(|i| color(palette, i)).collect()),
                    None => gray(indices.map(|i| i * (255 / (u8::MAX >> (8 - bits)))).collect()),
                }
            }
            (ColorType::Multiband { .. }, _) => gray(self.first_samples(values, layout.planes > 1)),
            (ColorType::YCbCr(_), _) => {
                rgb(values.chunks_exact(3).flat_map(|p| from_ycbcr([p[0], p[1], p[2]])).collect())
            }
            _ => return Err("the colors are not supported".into()),
        };
        image.ok_or_else(|| TOO_FEW.into())
    }

    /// Returns the first sample of each pixel. `planes` is true if the samples of a pixel are not adjacent.
    fn first_samples<T>(&self, values: Vec<T>, planes: bool) -> Vec<T> {
        let step = match self.color {
            ColorType::Multiband { num_samples, .. } if !planes => usize::from(num_samples),
            _ => 1,
        };
        let pixels = self.width as usize * self.height as usize;
        values.into_iter().step_by(step).take(pixels).collect()
    }
}

/// Returns the number of bits of a gray value, if decoding scales it to 8 bits.
pub(super) fn gray_bits(bytes: &[u8]) -> Option<u8> {
    match Decoder::new(Cursor::new(bytes)).ok()?.colortype().ok()? {
        ColorType::Gray(bits @ (1 | 2 | 4)) => Some(bits),
        _ => None,
    }
}

/// Returns sample `x` of a row of packed samples.
fn sample(row: &[u8], x: usize, bits: u8) -> u8 {
    let bit = x * usize::from(bits);
    (row[bit / 8] << (bit % 8)) >> (8 - bits)
}

/// Returns color `i` of a palette of 16-bit values: all reds, then all greens, then all blues.
fn color(palette: &[u16], i: u8) -> [u8; 3] {
    let n = palette.len() / 3;
    [0, 1, 2].map(|c| {
        palette
            .get(c * n + usize::from(i))
            .filter(|_| usize::from(i) < n)
            .map_or(0, |v| (v >> 8) as u8)
    })
}

/// Converts YCbCr to RGB as JFIF defines it.
fn from_ycbcr([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|v| v.round() as u8)
}
