//! Resizing in Pillow's own fixed-point arithmetic: along rows and along columns, each pass rounded to
//! bytes. The pixels are those of Pillow, bit for bit.

use super::spare;
use crate::sys::{Taps, WEIGHT_BITS, weigh_columns, weigh_rows};

/// What weighs the pixels around a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    /// How far it reaches where nothing shrinks.
    support: f64,
    weight: fn(f64) -> f64,
}

/// The mean of an area.
pub(super) const BOX: Kernel =
    Kernel { support: 0.5, weight: |x| if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 } };

/// A triangle.
pub(super) const TRIANGLE: Kernel = Kernel { support: 1.0, weight: |x| (1.0 - x.abs()).max(0.0) };

/// Keys' cubic with a = -1/2.
pub(super) const CUBIC: Kernel = Kernel {
    support: 2.0,
    weight: |x| {
        let (a, x) = (-0.5, x.abs());
        if x < 1.0 {
            ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            (((x - 5.0) * x + 8.0) * x - 4.0) * a
        } else {
            0.0
        }
    },
};

/// What each of `to` pixels is made of.
fn taps(from: u32, to: u32, kernel: Kernel) -> Taps {
    let scale = f64::from(from) / f64::from(to);
    // A shrinking filter is as much wider.
    let wide = scale.max(1.0);
    let (support, narrow) = (kernel.support * wide, 1.0 / wide);
    let center = |i: u32| (f64::from(i) + 0.5) * scale;
    let reach = |center: f64| {
        let first = (center - support + 0.5).max(0.0) as usize;
        (first, ((center + support + 0.5) as usize).min(from as usize))
    };
    let most = (0..to).map(|i| reach(center(i))).map(|(first, end)| end - first).max();
    let each = most.unwrap_or(1).max(1);
    let mut first = Vec::with_capacity(to as usize);
    let mut weights = Vec::with_capacity(to as usize * each);
    for i in 0..to {
        let center = center(i);
        let (start, end) = reach(center);
        let weight = |k: usize| (kernel.weight)((k as f64 - center + 0.5) * narrow);
        let sum: f64 = (start..end).map(weight).sum();
        let fixed = |k| {
            let w = weight(k) / sum * f64::from(1 << WEIGHT_BITS);
            (w + if w < 0.0 { -0.5 } else { 0.5 }) as i32
        };
        // Weights of 0 fill up, to the left where the image ends.
        let missing = (start + each).saturating_sub(from as usize).min(start);
        first.push(start - missing);
        weights.extend(std::iter::repeat_n(0, missing).chain((start..end).map(fixed)));
        weights.resize(first.len() * each, 0);
    }
    Taps { first, weights, each }
}

/// Part of an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// From its first pixel on.
    pub(super) pixels: &'a [u8],
    /// From the start of a row to the start of the next, in bytes.
    pub(super) stride: usize,
    /// The bytes of a row.
    pub(super) row: usize,
    pub(super) height: u32,
    /// The bytes of a pixel.
    pub(super) channels: usize,
}

impl<'a> View<'a> {
    /// An image whose rows follow each other without a gap.
    fn packed(pixels: &'a [u8], height: u32, channels: usize) -> Self {
        let row = pixels.len() / height as usize;
        Self { pixels, stride: row, row, height, channels }
    }

    fn width(self) -> u32 {
        (self.row / self.channels) as u32
    }
}

/// The rows of `from`, each `width` pixels wide.
fn rows(from: View<'_>, width: u32, kernel: Kernel) -> Vec<u8> {
    let taps = &taps(from.width(), width, kernel);
    let shape = (from.row, from.stride);
    let mut to = spare::take(from.height as usize * width as usize * from.channels);
    if from.channels == 3 {
        weigh_rows::<3>(from.pixels, shape, taps, &mut to);
    } else {
        weigh_rows::<1>(from.pixels, shape, taps, &mut to);
    }
    to
}

/// The columns of `from`, each `height` pixels high.
fn columns(from: View<'_>, height: u32, kernel: Kernel) -> Vec<u8> {
    let mut to = spare::take(from.row * height as usize);
    let taps = &taps(from.height, height, kernel);
    weigh_columns(from.pixels, (from.row, from.stride), taps, &mut to);
    to
}

/// The pixels of `from` at another size.
pub(super) fn resize(from: View<'_>, width: u32, height: u32, kernel: Kernel) -> Vec<u8> {
    if from.height == height {
        return rows(from, width, kernel);
    }
    if from.width() == width {
        return columns(from, height, kernel);
    }
    // Which comes first is seen in the rounding. Since version 13 Pillow begins with the columns where
    // the height shrinks by more than twice what the width shrinks by.
    let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
    let (first, out) = if lost(from.height, height) > (2 * lost(from.width(), width)).max(0) {
        let flat = columns(from, height, kernel);
        let out = rows(View::packed(&flat, height, from.channels), width, kernel);
        (flat, out)
    } else {
        let narrow = rows(from, width, kernel);
        let out = columns(View::packed(&narrow, from.height, from.channels), height, kernel);
        (narrow, out)
    };
    spare::give(first);
    out
}
