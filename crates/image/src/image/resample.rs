//! Cropping, padding and resizing, bit-identical to Pillow.

use super::{
    Image,
    convolve::{self, Area, Kernel, View},
    spare,
};
use crate::{
    error::{Error, Result},
    memory,
};
use serde::{Deserialize, Serialize};

/// The interpolation when the size of an image changes: Pillow's filters, which smooth when they shrink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// Bilinear: a triangle filter.
    #[default]
    Bilinear,
    /// Bicubic: Keys' cubic with a = -1/2.
    Bicubic,
    /// The mean of an area.
    Area,
}

/// The pixels outside of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PadMode {
    /// The mirrored image, without its edge pixels: numpy's `reflect`.
    #[default]
    Reflection,
    /// The nearest edge pixel.
    Border,
    /// Black.
    Zeros,
}

/// The largest side of a resized image. With padding, the weights of a filter take about 200 bytes per pixel of a
/// side, about 3 GiB at this limit.
const LARGEST_RESULT: u32 = 1 << 24;
/// The largest side of an area that is resized. The weights of a filter take up to 16 bytes per pixel of a side, 4 GiB
/// at this limit.
pub(crate) const LARGEST_AREA: u32 = 1 << 28;

/// Returns an error if an image of this size cannot be created.
fn check_size(what: &'static str, (width, height): (u32, u32), channels: u8) -> Result<()> {
    let wrong =
        |why: &str| Err(Error::config(what, format!("the size is {width}x{height}; {why}")));
    if width == 0 || height == 0 {
        return wrong("both sides must be 1 or more");
    }
    let bytes = u128::from(width) * u128::from(height) * u128::from(channels);
    if usize::try_from(bytes).is_ok_and(memory::fits::<u8>) {
        return Ok(());
    }
    wrong("there is not enough memory for such an image")
}

/// As [`check_size`], for an image that is resized from an area.
fn check_resize(area: (u32, u32), size: (u32, u32), channels: u8) -> Result<()> {
    check_size("resize", size, channels)?;
    for (what, (width, height), most) in
        [("size", size, LARGEST_RESULT), ("area", area, LARGEST_AREA)]
    {
        if [width, height].iter().any(|side| !(1..=most).contains(side)) {
            let why = format!(
                "the {what} is {width}x{height}; both sides must be from 1 to {most} pixels"
            );
            return Err(Error::config("resize", why));
        }
    }
    Ok(())
}

/// Returns the position in `0..n` whose pixel is used for `i`; `None` for black.
fn beyond(i: i64, n: i64, mode: PadMode) -> Option<i64> {
    if (0..n).contains(&i) {
        return Some(i);
    }
    match mode {
        PadMode::Zeros => None,
        PadMode::Border => Some(i.clamp(0, n - 1)),
        PadMode::Reflection if n == 1 => Some(0),
        PadMode::Reflection => {
            let period = 2 * (n - 1);
            let at = i.rem_euclid(period);
            Some(if at < n { at } else { period - at })
        }
    }
}

/// Returns the kernel of a filter; `None` for the nearest pixel.
fn kernel(filter: Filter) -> Option<Kernel> {
    match filter {
        Filter::Bilinear => Some(convolve::TRIANGLE),
        Filter::Bicubic => Some(convolve::CUBIC),
        Filter::Area => Some(convolve::BOX),
        Filter::Nearest => None,
    }
}

/// Returns the source pixel of each of `to` pixels. Like Pillow, it adds up the step from pixel to
/// pixel, which decides ties.
fn nearest_sources(from: u32, to: u32) -> impl Iterator<Item = usize> {
    let step = f64::from(from) / f64::from(to);
    let places = std::iter::successors(Some(step * 0.5), move |at| Some(at + step));
    places.take(to as usize).map(move |at| (at as u32).min(from - 1) as usize)
}

impl Image {
    /// Returns the part of `width`×`height` pixels from column `left` and row `top`. Both may be
    /// negative; pixels outside of the image are padded.
    ///
    /// # Errors
    /// [`Error::Config`] if a side is 0, if there is not enough memory, and if the end of the part is beyond the
    /// largest `i64`.
    pub fn crop_pad(
        &self,
        left: i64,
        top: i64,
        width: u32,
        height: u32,
        pad: PadMode,
    ) -> Result<Self> {
        let (w, h) = (i64::from(self.width), i64::from(self.height));
        if (left, top, width, height) == (0, 0, self.width, self.height) {
            return Ok(self.clone());
        }
        check_size("crop_pad", (width, height), self.channels)?;
        let ends = left.checked_add(width.into()).zip(top.checked_add(height.into()));
        let Some((right, bottom)) = ends else {
            let why = format!("column {left} and row {top} are too far from the image");
            return Err(Error::config("crop_pad", why));
        };
        let channels = usize::from(self.channels);
        let mut pixels = spare::take(width as usize * height as usize * channels);
        pixels.clear();
        let inside = left >= 0 && right <= w;
        for y in top..bottom {
            let Some(y) = beyond(y, h, pad) else {
                pixels.resize(pixels.len() + width as usize * channels, 0);
                continue;
            };
            let row = &self.pixels[(y * w) as usize * channels..((y + 1) * w) as usize * channels];
            if inside {
                let from = left as usize * channels;
                pixels.extend_from_slice(&row[from..from + width as usize * channels]);
                continue;
            }
            for x in left..right {
                match beyond(x, w, pad) {
                    Some(x) => {
                        let from = x as usize * channels;
                        pixels.extend_from_slice(&row[from..from + channels]);
                    }
                    None => pixels.resize(pixels.len() + channels, 0),
                }
            }
        }
        Self::new(width, height, self.channels, pixels)
    }

    /// Resizes the image, bit-identical to Pillow.
    ///
    /// # Errors
    /// [`Error::Config`] if a side is 0 or above 2²⁴, and if there is not enough memory.
    pub fn resize(&self, width: u32, height: u32, filter: Filter) -> Result<Self> {
        self.resized_part((0, 0, self.width, self.height), (width, height), filter)
    }

    /// Resizes a part, given by its first column, first row, width and height, all within the image. The
    /// result is the same as after cropping, without the copy.
    pub(crate) fn resized_part(
        &self,
        part: (u32, u32, u32, u32),
        (width, height): (u32, u32),
        filter: Filter,
    ) -> Result<Self> {
        let (left, top, w, h) = part;
        if (w, h) == (width, height) {
            return self.crop_pad(i64::from(left), i64::from(top), w, h, PadMode::Zeros);
        }
        check_resize((w, h), (width, height), self.channels)?;
        let Some(kernel) = kernel(filter) else {
            return self.nearest(part, width, height);
        };
        let channels = usize::from(self.channels);
        let stride = self.width as usize * channels;
        let pixels = &self.pixels[top as usize * stride + left as usize * channels..];
        let part = View { pixels, stride, row: w as usize * channels, height: h, channels };
        Self::new(width, height, self.channels, convolve::resize(part, width, height, kernel))
    }

    /// Resizes an area, which may extend beyond the image. The result is the same as that of
    /// [`crop_pad`](Self::crop_pad) followed by [`resize`](Self::resize), but the padded area is not
    /// allocated: it may be large if a narrow image is padded to a square.
    pub(crate) fn resized_area(
        &self,
        (left, top): (i64, i64),
        size: (u32, u32),
        pad: PadMode,
        (width, height): (u32, u32),
        filter: Filter,
    ) -> Result<Self> {
        if size == (width, height) {
            return self.crop_pad(left, top, width, height, pad);
        }
        check_resize(size, (width, height), self.channels)?;
        let channels = usize::from(self.channels);
        let beyond = |i, n| beyond(i, n, pad);
        if let Some(kernel) = kernel(filter) {
            let row = self.width as usize * channels;
            let from =
                View { pixels: &self.pixels, stride: row, row, height: self.height, channels };
            let area = Area { left, top, size };
            let pixels = convolve::resize_padded(from, area, (width, height), kernel, beyond);
            return Self::new(width, height, self.channels, pixels);
        }
        let place = |start: i64, n: u32| {
            move |at: usize| beyond(start + at as i64, n.into()).map(|at| at as usize)
        };
        let columns = nearest_sources(size.0, width).map(place(left, self.width));
        let columns: Vec<Option<usize>> = columns.collect();
        let mut pixels = Vec::with_capacity(width as usize * height as usize * channels);
        for y in nearest_sources(size.1, height).map(place(top, self.height)) {
            for x in &columns {
                match (x, y) {
                    (Some(x), Some(y)) => {
                        let at = (y * self.width as usize + x) * channels;
                        pixels.extend_from_slice(&self.pixels[at..at + channels]);
                    }
                    _ => pixels.resize(pixels.len() + channels, 0),
                }
            }
        }
        Self::new(width, height, self.channels, pixels)
    }

    fn nearest(
        &self,
        (left, top, w, h): (u32, u32, u32, u32),
        width: u32,
        height: u32,
    ) -> Result<Self> {
        let channels = usize::from(self.channels);
        let columns: Vec<usize> =
            nearest_sources(w, width).map(|x| (left as usize + x) * channels).collect();
        let mut pixels = spare::take(width as usize * height as usize * channels);
        pixels.clear();
        for y in nearest_sources(h, height) {
            let row = &self.pixels[(top as usize + y) * self.width as usize * channels..];
            columns.iter().for_each(|x| pixels.extend_from_slice(&row[*x..*x + channels]));
        }
        Self::new(width, height, self.channels, pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_equals_crop_pad_and_resize() {
        let pixels = |n: usize| (0..n).map(|i| (i * i * 31 % 251) as u8).collect();
        for (w, h, channels) in [(9, 31, 3), (40, 7, 1), (1, 20, 3)] {
            let image =
                Image::new(w, h, channels, pixels((w * h) as usize * usize::from(channels)))
                    .unwrap();
            for pad in [PadMode::Reflection, PadMode::Border, PadMode::Zeros] {
                for filter in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Area] {
                    for (left, top, side) in [(-11, 0, 31), (0, -16, 40), (-3, -50, 60), (2, 3, 12)]
                    {
                        for to in [(5, 5), (31, 8), (64, 64), (40, 3)] {
                            let padded = image.crop_pad(left, top, side, side, pad).unwrap();
                            let wanted = padded.resize(to.0, to.1, filter).unwrap();
                            let found =
                                image.resized_area((left, top), (side, side), pad, to, filter);
                            assert_eq!(
                                found.unwrap().pixels(),
                                wanted.pixels(),
                                "{w}x{h} {pad:?} {filter:?} {side} {to:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}
