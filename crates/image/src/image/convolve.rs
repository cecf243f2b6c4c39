//! Resizing in Pillow's fixed-point arithmetic: one pass along rows and one along columns, each rounded
//! to bytes. The pixels are bit-identical to Pillow's.

use super::spare;
use crate::sys::{Taps, WEIGHT_BITS, weigh_columns, weigh_rows};
use std::collections::BTreeMap;

/// A filter kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    /// The radius of the kernel in source pixels when the size does not shrink.
    support: f64,
    weight: fn(f64) -> f64,
}

/// The mean of an area.
pub(super) const BOX: Kernel =
    Kernel { support: 0.5, weight: |x| if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 } };

/// A triangle (bilinear).
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

/// Returns the source pixels and weights of each of `to` pixels.
fn taps(from: u32, to: u32, kernel: Kernel) -> Taps {
    let scale = f64::from(from) / f64::from(to);
    // When the size shrinks, the kernel is wider by the same factor.
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
        // Pad with weights of 0, on the left at the end of the image.
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
    /// The pixels, from the first one of the part.
    pub(super) pixels: &'a [u8],
    /// The distance between the starts of two rows, in bytes.
    pub(super) stride: usize,
    /// The length of a row in bytes.
    pub(super) row: usize,
    pub(super) height: u32,
    /// The number of bytes per pixel.
    pub(super) channels: usize,
}

impl<'a> View<'a> {
    /// Returns the view of an image whose rows follow each other without a gap.
    fn packed(pixels: &'a [u8], height: u32, channels: usize) -> Self {
        let row = pixels.len() / height as usize;
        Self { pixels, stride: row, row, height, channels }
    }

    fn width(self) -> u32 {
        (self.row / self.channels) as u32
    }
}

/// Returns the taps of an axis that is padded first, without creating the padding. Pixel `k` of the
/// padded axis is pixel `source(k)` of the `n` source pixels, or black.
fn padded_taps(
    padded: u32,
    to: u32,
    kernel: Kernel,
    n: u32,
    source: impl Fn(i64) -> Option<i64>,
) -> Taps {
    let plain = taps(padded, to, kernel);
    let sums =
        plain.first.iter().zip(plain.weights.chunks_exact(plain.each)).map(|(first, weights)| {
            let mut sums = BTreeMap::<usize, i32>::new();
            for (k, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0) {
                if let Some(at) = source((first + k) as i64) {
                    *sums.entry(at as usize).or_default() += weight;
                }
            }
            sums
        });
    let sums: Vec<_> = sums.collect();
    let span = |sums: &BTreeMap<usize, i32>| match (sums.first_key_value(), sums.last_key_value()) {
        (Some((first, _)), Some((last, _))) => last - first + 1,
        _ => 1,
    };
    let each = sums.iter().map(span).max().unwrap_or(1);
    let mut first = Vec::with_capacity(sums.len());
    let mut weights = vec![0; sums.len() * each];
    for (sums, weights) in sums.iter().zip(weights.chunks_exact_mut(each)) {
        let begin = sums.keys().next().copied().unwrap_or(0).min(n as usize - each);
        first.push(begin);
        sums.iter().for_each(|(at, weight)| weights[at - begin] = *weight);
    }
    Taps { first, weights, each }
}

/// Resizes the rows of `from` to `width` pixels.
fn rows(from: View<'_>, width: u32, kernel: Kernel) -> Vec<u8> {
    weighed_rows(from, width, &taps(from.width(), width, kernel))
}

fn weighed_rows(from: View<'_>, width: u32, taps: &Taps) -> Vec<u8> {
    let shape = (from.row, from.stride);
    let mut to = spare::take(from.height as usize * width as usize * from.channels);
    if from.channels == 3 {
        weigh_rows::<3>(from.pixels, shape, taps, &mut to);
    } else {
        weigh_rows::<1>(from.pixels, shape, taps, &mut to);
    }
    to
}

/// Resizes the columns of `from` to `height` pixels.
fn columns(from: View<'_>, height: u32, kernel: Kernel) -> Vec<u8> {
    weighed_columns(from, height, &taps(from.height, height, kernel))
}

fn weighed_columns(from: View<'_>, height: u32, taps: &Taps) -> Vec<u8> {
    let mut to = spare::take(from.row * height as usize);
    weigh_columns(from.pixels, (from.row, from.stride), taps, &mut to);
    to
}

/// Like [`weighed_rows`], but the taps may begin in any order, as with mirrored padding: pixels are
/// computed from left to right and reordered afterwards.
fn weighed_rows_of_any_order(from: View<'_>, width: u32, taps: &Taps) -> Vec<u8> {
    if taps.first.is_sorted() {
        return weighed_rows(from, width, taps);
    }
    let mut order: Vec<usize> = (0..taps.first.len()).collect();
    order.sort_by_key(|&x| taps.first[x]);
    let weights = order.iter().flat_map(|&x| &taps.weights[x * taps.each..][..taps.each]);
    let sorted = Taps {
        first: order.iter().map(|&x| taps.first[x]).collect(),
        weights: weights.copied().collect(),
        each: taps.each,
    };
    let found = weighed_rows(from, width, &sorted);
    let mut to = spare::take(found.len());
    let c = from.channels;
    let row = width as usize * c;
    for (found, to) in found.chunks_exact(row).zip(to.chunks_exact_mut(row)) {
        for (k, &x) in order.iter().enumerate() {
            to[x * c..][..c].copy_from_slice(&found[k * c..][..c]);
        }
    }
    spare::give(found);
    to
}

/// Returns true if columns are resized before rows. The order affects the rounding. Since version 13,
/// Pillow begins with the columns if the height shrinks by more than twice as many pixels as the width.
fn columns_first(from: (u32, u32), to: (u32, u32)) -> bool {
    let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
    lost(from.1, to.1) > (2 * lost(from.0, to.0)).max(0)
}

/// An area of an image: its first column and row, which may be outside of the image, and its size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) left: i64,
    pub(super) top: i64,
    pub(super) size: (u32, u32),
}

/// Resizes an area; the result is the same as after cropping and padding. `beyond` maps a position to
/// one of `n` pixels, or to `None` for black.
pub(super) fn resize_padded(
    from: View<'_>,
    area: Area,
    to: (u32, u32),
    kernel: Kernel,
    beyond: impl Fn(i64, i64) -> Option<i64>,
) -> Vec<u8> {
    let (w, h) = (from.width(), from.height);
    let across = padded_taps(area.size.0, to.0, kernel, w, |x| beyond(area.left + x, w.into()));
    let down = padded_taps(area.size.1, to.1, kernel, h, |y| beyond(area.top + y, h.into()));
    let (first, out) = if columns_first(area.size, to) {
        let flat = weighed_columns(from, to.1, &down);
        let out =
            weighed_rows_of_any_order(View::packed(&flat, to.1, from.channels), to.0, &across);
        (flat, out)
    } else {
        let narrow = weighed_rows_of_any_order(from, to.0, &across);
        let out = weighed_columns(View::packed(&narrow, h, from.channels), to.1, &down);
        (narrow, out)
    };
    spare::give(first);
    out
}

/// Resizes `from` to `width`×`height` pixels.
pub(super) fn resize(from: View<'_>, width: u32, height: u32, kernel: Kernel) -> Vec<u8> {
    if from.height == height {
        return rows(from, width, kernel);
    }
    if from.width() == width {
        return columns(from, height, kernel);
    }
    let (first, out) = if columns_first((from.width(), from.height), (width, height)) {
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
