//! Image files whose pixels are codes instead of colors.

use super::{Decode, Image, decoded::panicked, tiff};
use crate::{
    caught::caught,
    error::{BoxError, Error, Result},
};
use ::image::{
    DynamicImage, ImageFormat,
    codecs::pnm::{ArbitraryHeader, ArbitraryTuplType, PnmDecoder, PnmSubtype, SampleEncoding},
    guess_format,
};
use std::{borrow::Cow, fs, io::Cursor, path::Path};

/// The pixels of a file as codes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codes {
    /// One code per pixel: the index into a palette, or the value of a gray pixel.
    Numbers(Image),
    /// The file has colors: three channels.
    Colors(Image),
}

impl Codes {
    /// Reads a file of codes.
    ///
    /// PNG files with a palette yield the palette indices. The gray values of PNG, TIFF and PNM files are not
    /// scaled: 1-bit pixels are 0 and 1, and 16-bit values keep their numbers. Alpha is dropped. Other
    /// formats are decoded as images; the values of gray ones are the codes. Palettes of other formats, such
    /// as BMP, GIF and TIFF, become colors.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Image`] if it is not an image, has more than `2^28`
    /// pixels, has 16-bit values above 255, or is a PNM file with gray values above its maximum.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(Error::io(path))?;
        Self::read(&bytes, &path.display().to_string())
    }

    /// Reads the bytes of a file, as [`open`](Self::open) does. Errors call it `name`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn read(bytes: &[u8], name: &str) -> Result<Self> {
        if bytes.starts_with(PNG) {
            return Self::read_png(bytes, name, false);
        }
        let decode = Decode::new();
        let (file, maximum): (Cow<'_, [u8]>, _) = match unscaled(bytes) {
            Some((file, maximum)) => (Cow::Owned(file), Some(maximum)),
            None => (Cow::Borrowed(bytes), None),
        };
        let image = decode.decoded(&file, name)?;
        if image.color().has_color() {
            return decode.finish(image).map(Self::Colors);
        }
        let (width, height) = (image.width(), image.height());
        let scaled = if maximum.is_some() { None } else { largest(bytes) };
        let codes = stored(image, scaled).and_then(|codes| match maximum {
            Some(maximum) => within_maximum(codes, maximum),
            None => Ok(codes),
        });
        let codes = codes.map_err(|cause| Error::Image { item: name.to_owned(), cause })?;
        Image::new(width, height, 1, codes).map(Self::Numbers)
    }

    /// Reads a file of colors: as [`read`](Self::read), but a PNG file with a palette yields colors instead of
    /// palette indices.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_colors(bytes: &[u8], name: &str) -> Result<Self> {
        match bytes.starts_with(PNG) {
            true => Self::read_png(bytes, name, true),
            false => Self::read(bytes, name),
        }
    }

    fn read_png(bytes: &[u8], name: &str, colors: bool) -> Result<Self> {
        let codes = caught(|| from_png(bytes, colors)).unwrap_or_else(|e| Err(panicked(e)));
        codes.map_err(|cause| Error::Image { item: name.to_owned(), cause })
    }

    /// Converts an image in memory: one channel holds codes, three channels hold colors.
    #[must_use]
    pub fn of(image: Image) -> Self {
        if image.channels() == 1 { Self::Numbers(image) } else { Self::Colors(image) }
    }
}

/// The first bytes of a PNG file.
const PNG: &[u8] = b"\x89PNG";

/// The maximum number of pixels, as for images.
const MAX_PIXELS: u64 = 1 << 28;

/// Returns a PNM file of gray values with the maximum of its type, so that decoding neither scales nor clips
/// them, and its own maximum. Returns `None` for other files.
fn unscaled(bytes: &[u8]) -> Option<(Vec<u8>, u32)> {
    let (raster, header) = PnmDecoder::new(Cursor::new(bytes)).ok()?.into_inner();
    let maximum = header.maximal_sample();
    let white = if maximum > u32::from(u8::MAX) { u16::MAX } else { u16::from(u8::MAX) };
    let (width, height) = (header.width(), header.height());
    let head = match (header.subtype(), header.as_arbitrary()) {
        (PnmSubtype::Graymap(SampleEncoding::Ascii), _) => format!("P2 {width} {height} {white}\n"),
        (PnmSubtype::Graymap(SampleEncoding::Binary), _) => {
            format!("P5 {width} {height} {white}\n")
        }
        (_, Some(ArbitraryHeader { depth, tupltype, .. })) => {
            use ArbitraryTuplType as T;
            let kind = match (*depth, tupltype) {
                (1, None | Some(T::Grayscale)) => "GRAYSCALE",
                (2, None | Some(T::GrayscaleAlpha)) => "GRAYSCALE_ALPHA",
                _ => return None,
            };
            format!(
                "P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL {white}\n\
                 TUPLTYPE {kind}\nENDHDR\n"
            )
        }
        _ => return None,
    };
    let at = usize::try_from(raster.position()).ok()?;
    Some(([head.as_bytes(), bytes.get(at..)?].concat(), maximum))
}

/// Returns an error if a code is above the maximum that its file states.
fn within_maximum(codes: Vec<u8>, maximum: u32) -> Result<Vec<u8>, BoxError> {
    match codes.iter().find(|code| u32::from(**code) > maximum) {
        Some(code) => {
            Err(format!("a pixel is {code}, above {maximum}, the maximum of the file").into())
        }
        None => Ok(codes),
    }
}

/// Returns the largest gray value that a file can store, if decoding scales it to white.
fn largest(bytes: &[u8]) -> Option<u32> {
    match guess_format(bytes).ok()? {
        ImageFormat::Pnm => {
            let decoder = PnmDecoder::new(Cursor::new(bytes)).ok()?;
            Some(decoder.header().maximal_sample())
        }
        ImageFormat::Tiff => tiff::gray_bits(bytes).map(|bits| (1 << bits) - 1),
        _ => None,
    }
}

/// Returns the gray values as a file stores them. `largest` is the value that was scaled to white, if any.
fn stored(image: DynamicImage, largest: Option<u32>) -> Result<Vec<u8>, BoxError> {
    use DynamicImage as D;
    let wide = |values: Vec<u8>| values.into_iter().map(u16::from).collect();
    let (white, samples, values): (u32, usize, Vec<u16>) = match image {
        D::ImageLuma8(i) => (u8::MAX.into(), 1, wide(i.into_raw())),
        D::ImageLumaA8(i) => (u8::MAX.into(), 2, wide(i.into_raw())),
        D::ImageLuma16(i) => (u16::MAX.into(), 1, i.into_raw()),
        D::ImageLumaA16(i) => (u16::MAX.into(), 2, i.into_raw()),
        other => return Err(format!("{:?} is not gray", other.color()).into()),
    };
    let scale = f64::from(largest.unwrap_or(white)) / f64::from(white);
    let unscaled = |v: u16| code((f64::from(v) * scale).round() as u32);
    values.into_iter().step_by(samples).map(unscaled).collect()
}

/// Returns a gray value as a code.
fn code(value: u32) -> Result<u8, BoxError> {
    u8::try_from(value).map_err(|_| {
        format!("the 16-bit value {value} is not a code; codes must be between 0 and 255").into()
    })
}

/// Reads a PNG file. If `colors` is true, the indices of a palette become its colors.
fn from_png(bytes: &[u8], colors: bool) -> Result<Codes, BoxError> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    // The stored values, without palette and scaling.
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info()?;
    let (width, height) = (reader.info().width, reader.info().height);
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("{width}x{height} pixels are more than {MAX_PIXELS}").into());
    }
    let size = reader.output_buffer_size().ok_or("the image is too large")?;
    let mut raw = vec![0; size];
    let info = reader.next_frame(&mut raw)?;
    raw.truncate(info.buffer_size());
    let samples = info.color_type.samples();
    let bits = info.bit_depth as usize;
    let row = width as usize * samples;
    let mut values = Vec::with_capacity(row * height as usize);
    for line in raw.chunks(info.line_size) {
        match bits {
            8 => values.extend_from_slice(&line[..row]),
            16 => {
                for pair in line[..row * 2].chunks_exact(2) {
                    values.push(code(u16::from_be_bytes([pair[0], pair[1]]).into())?);
                }
            }
            few => {
                let mask = (1_u8 << few) - 1;
                let each = 8 / few;
                values
                    .extend((0..row).map(|x| line[x / each] >> (8 - few * (x % each + 1)) & mask));
            }
        }
    }
    let kept = |n: usize| -> Vec<u8> {
        values.chunks_exact(samples).flat_map(|pixel| pixel[..n].to_vec()).collect()
    };
    use png::ColorType as C;
    Ok(match info.color_type {
        C::Indexed if colors => {
            let palette = reader.info().palette.as_deref().ok_or("the palette is missing")?;
            let mut all = Vec::with_capacity(values.len() * 3);
            for index in values {
                let at = usize::from(index) * 3;
                let color = palette.get(at..at + 3);
                let color = color.ok_or_else(|| format!("the palette has no color {index}"))?;
                all.extend_from_slice(color);
            }
            Codes::Colors(Image::new(width, height, 3, all)?)
        }
        C::Grayscale | C::Indexed => Codes::Numbers(Image::new(width, height, 1, values)?),
        C::GrayscaleAlpha => Codes::Numbers(Image::new(width, height, 1, kept(1))?),
        C::Rgb => Codes::Colors(Image::new(width, height, 3, values)?),
        C::Rgba => Codes::Colors(Image::new(width, height, 3, kept(3))?),
    })
}
