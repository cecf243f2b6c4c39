//! Resizing in Pillow's own fixed-point arithmetic: along rows and along columns, each pass rounded to
//! bytes. The pixels are those of Pillow, bit for bit.

use super::Image;
use crate::sys::{Work, vectorized};

/// The bits behind the point of a weight.
const BITS: u32 = 22;
/// One half.
const HALF: i32 = 1 << (BITS - 1);
/// The bytes of a row that are summed side by side.
const BLOCK: usize = 64;

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

/// For each pixel of the result the first of those that make it, and their weights.
struct Taps {
    first: Vec<usize>,
    /// As many for each.
    weights: Vec<i32>,
    each: usize,
}

impl Taps {
    fn new(from: u32, to: u32, kernel: Kernel) -> Self {
        let scale = f64::from(from) / f64::from(to);
        // A shrinking filter is as much wider.
        let wide = scale.max(1.0);
        let (support, narrow) = (kernel.support * wide, 1.0 / wide);
        let one = |i: u32| {
            let centre = (f64::from(i) + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from as usize);
            let weight = |k: usize| (kernel.weight)((k as f64 - centre + 0.5) * narrow);
            let sum: f64 = (first..end).map(weight).sum();
            let fixed = |w: f64| {
                let w = w / sum * f64::from(1 << BITS);
                (w + if w < 0.0 { -0.5 } else { 0.5 }) as i32
            };
            (first, (first..end).map(|k| fixed(weight(k))).collect::<Vec<_>>())
        };
        let all: Vec<_> = (0..to).map(one).collect();
        let each = all.iter().map(|(_, weights)| weights.len()).max().unwrap_or(1).max(1);
        let mut taps = Self { first: vec![], weights: vec![], each };
        for (first, mut weights) in all {
            // Weights of 0 fill up, to the left where the image ends.
            let missing = (first + each).saturating_sub(from as usize);
            weights.splice(0..0, std::iter::repeat_n(0, missing.min(first)));
            weights.resize(each, 0);
            taps.first.push(first - missing.min(first));
            taps.weights.extend(weights);
        }
        taps
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.first.iter().copied().zip(self.weights.chunks_exact(self.each))
    }
}

#[inline(always)]
fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Every row of `from` at another width; pixels of `C` bytes.
struct Rows<'a, const C: usize> {
    from: &'a [u8],
    stride: usize,
    taps: &'a Taps,
    to: &'a mut [u8],
}

impl<const C: usize> Work for Rows<'_, C> {
    #[inline(always)]
    fn run(self) {
        let out = self.taps.first.len() * C;
        // A pixel is read as four bytes, beyond the last one too.
        let mut padded = vec![0_u8; self.stride + 4];
        for (row, to) in self.from.chunks_exact(self.stride).zip(self.to.chunks_exact_mut(out)) {
            padded[..self.stride].copy_from_slice(row);
            for ((first, weights), to) in self.taps.iter().zip(to.chunks_exact_mut(C)) {
                let pixels = &padded[first * C..first * C + weights.len() * C + 4];
                let mut sums = [HALF; 4];
                for (k, w) in weights.iter().enumerate() {
                    let four: &[u8; 4] = pixels[k * C..].first_chunk().expect("it is padded");
                    for (sum, &v) in sums.iter_mut().zip(four) {
                        *sum += w * i32::from(v);
                    }
                }
                for (to, sum) in to.iter_mut().zip(sums) {
                    *to = byte(sum);
                }
            }
        }
    }
}

/// Every column of `from` at another height.
struct Columns<'a> {
    from: &'a [u8],
    stride: usize,
    taps: &'a Taps,
    to: &'a mut [u8],
}

impl Work for Columns<'_> {
    #[inline(always)]
    fn run(self) {
        for ((first, weights), to) in self.taps.iter().zip(self.to.chunks_exact_mut(self.stride)) {
            let rows = &self.from[first * self.stride..];
            for (block, to) in to.chunks_mut(BLOCK).enumerate() {
                let mut sums = [HALF; BLOCK];
                for (row, w) in rows.chunks_exact(self.stride).zip(weights) {
                    for (sum, &v) in sums.iter_mut().zip(&row[block * BLOCK..][..to.len()]) {
                        *sum += w * i32::from(v);
                    }
                }
                for (to, sum) in to.iter_mut().zip(sums) {
                    *to = byte(sum);
                }
            }
        }
    }
}

/// Pixels of `c` bytes, `from` wide, with rows `to` wide.
fn rows(pixels: &[u8], c: usize, from: u32, to: u32, kernel: Kernel) -> Vec<u8> {
    let (stride, taps) = (from as usize * c, &Taps::new(from, to, kernel));
    let mut out = vec![0; pixels.len() / stride * to as usize * c];
    if c == 3 {
        vectorized(Rows::<3> { from: pixels, stride, taps, to: &mut out });
    } else {
        vectorized(Rows::<1> { from: pixels, stride, taps, to: &mut out });
    }
    out
}

/// Rows of `stride` bytes, `from` of them, with columns `to` high.
fn columns(pixels: &[u8], stride: usize, from: u32, to: u32, kernel: Kernel) -> Vec<u8> {
    let mut out = vec![0; stride * to as usize];
    let taps = &Taps::new(from, to, kernel);
    vectorized(Columns { from: pixels, stride, taps, to: &mut out });
    out
}

/// The pixels of `image` at another size.
pub(super) fn resize(image: &Image, width: u32, height: u32, kernel: Kernel) -> Vec<u8> {
    let (w, h, c) = (image.width, image.height, usize::from(image.channels));
    if h == height {
        return rows(&image.pixels, c, w, width, kernel);
    }
    if w == width {
        return columns(&image.pixels, w as usize * c, h, height, kernel);
    }
    // Which comes first is seen in the rounding. Since version 13 Pillow begins with the columns where
    // the height shrinks by more than twice what the width shrinks by.
    let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
    if lost(h, height) > (2 * lost(w, width)).max(0) {
        let flat = columns(&image.pixels, w as usize * c, h, height, kernel);
        rows(&flat, c, w, width, kernel)
    } else {
        let narrow = rows(&image.pixels, c, w, width, kernel);
        columns(&narrow, width as usize * c, h, height, kernel)
    }
}
