//! Image files whose pixels are codes instead of colors.

use super::{Decode, Image};
use crate::error::{BoxError, Error, Result};
use std::{fs, io::Cursor, path::Path};

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
    /// PNG files with a palette yield the palette indices. Gray values of 1, 2, 4 and 8 bits are not
    /// scaled: 1-bit pixels are 0 and 1. Alpha is dropped. Other formats are decoded as images; the
    /// values of gray ones are the codes.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Image`] if it is not an image, has more than `2^28`
    /// pixels, or has 16-bit values above 255.
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
        if bytes.starts_with(b"\x89PNG") {
            return from_png(bytes).map_err(|cause| Error::Image { item: name.to_owned(), cause });
        }
        Decode::new().read_native(bytes, name).map(Self::of)
    }

    /// Converts an image in memory: one channel holds codes, three channels hold colors.
    #[must_use]
    pub fn of(image: Image) -> Self {
        if image.channels() == 1 { Self::Numbers(image) } else { Self::Colors(image) }
    }
}

/// The maximum number of pixels, as for images.
const MAX_PIXELS: u64 = 1 << 28;

fn from_png(bytes: &[u8]) -> Result<Codes, BoxError> {
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
                    let value = u16::from_be_bytes([pair[0], pair[1]]);
                    let narrow = u8::try_from(value)
                        .map_err(|_| format!("the 16-bit value {value} is not a code; codes must be between 0 and 255"))?;
                    values.push(narrow);
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
        C::Grayscale | C::Indexed => Codes::Numbers(Image::new(width, height, 1, values)?),
        C::GrayscaleAlpha => Codes::Numbers(Image::new(width, height, 1, kept(1))?),
        C::Rgb => Codes::Colors(Image::new(width, height, 3, values)?),
        C::Rgba => Codes::Colors(Image::new(width, height, 3, kept(3))?),
    })
}
