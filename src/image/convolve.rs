//! Resizing in Pillow's own fixed-point arithmetic: along rows and along columns, each pass rounded to
//! bytes. The pixels are those of Pillow, bit for bit.

use super::spare;
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
        let centre = |i: u32| (f64::from(i) + 0.5) * scale;
        let reach = |centre: f64| {
            let first = (centre - support + 0.5).max(0.0) as usize;
            (first, ((centre + support + 0.5) as usize).min(from as usize))
        };
        let most = (0..to).map(|i| reach(centre(i))).map(|(first, end)| end - first).max();
        let each = most.unwrap_or(1).max(1);
        let mut first = Vec::with_capacity(to as usize);
        let mut weights = Vec::with_capacity(to as usize * each);
        for i in 0..to {
            let centre = centre(i);
            let (start, end) = reach(centre);
            let weight = |k: usize| (kernel.weight)((k as f64 - centre + 0.5) * narrow);
            let sum: f64 = (start..end).map(weight).sum();
            let fixed = |k| {
                let w = weight(k) / sum * f64::from(1 << BITS);
                (w + if w < 0.0 { -0.5 } else { 0.5 }) as i32
            };
            // Weights of 0 fill up, to the left where the image ends.
            let missing = (start + each).saturating_sub(from as usize).min(start);
            first.push(start - missing);
            weights.extend(std::iter::repeat_n(0, missing).chain((start..end).map(fixed)));
            weights.resize(first.len() * each, 0);
        }
        Self { first, weights, each }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.first.iter().copied().zip(self.weights.chunks_exact(self.each))
    }
}

#[inline(always)]
fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
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

    fn rows(self) -> impl Iterator<Item = &'a [u8]> {
        self.pixels.chunks(self.stride).take(self.height as usize).map(move |r| &r[..self.row])
    }

    fn width(self) -> u32 {
        (self.row / self.channels) as u32
    }
}

/// Every row of `from` at another width; pixels of `C` bytes.
struct Rows<'a, const C: usize> {
    from: View<'a>,
    taps: &'a Taps,
    /// With room for four bytes beyond the last pixel.
    to: &'a mut [u8],
}

impl<const C: usize> Work for Rows<'_, C> {
    #[inline(always)]
    fn run(self) {
        match self.taps.each {
            1 => self.each::<1>(),
            2 => self.each::<2>(),
            3 => self.each::<3>(),
            4 => self.each::<4>(),
            _ => self.with(sum::<C>),
        }
    }
}

impl<const C: usize> Rows<'_, C> {
    #[inline(always)]
    fn each<const T: usize>(self) {
        self.with(|pixels, weights| {
            let weights: &[i32; T] = weights.first_chunk().expect("as many as there are taps");
            sum::<C>(pixels, weights)
        });
    }

    #[inline(always)]
    fn with(self, sum: impl Fn(&[u8], &[i32]) -> [i32; 4]) {
        let out = self.taps.first.len() * C;
        // A pixel is read as four bytes, beyond the last one too.
        let mut padded = vec![0_u8; self.from.row + 4];
        for (y, row) in self.from.rows().enumerate() {
            padded[..row.len()].copy_from_slice(row);
            let to = &mut self.to[y * out..][..out + 4];
            for (x, (first, weights)) in self.taps.iter().enumerate() {
                // The pixel is written as four bytes too; the next one overwrites what is too much.
                let four: &mut [u8; 4] = to[x * C..].first_chunk_mut().expect("it is padded");
                *four = sum(&padded[first * C..], weights).map(byte);
            }
        }
    }
}

#[inline(always)]
fn sum<const C: usize>(pixels: &[u8], weights: &[i32]) -> [i32; 4] {
    let pixels = &pixels[..weights.len() * C - C + 4];
    let mut sums = [HALF; 4];
    for (k, w) in weights.iter().enumerate() {
        let four: &[u8; 4] = pixels[k * C..].first_chunk().expect("it is padded");
        for (sum, &v) in sums.iter_mut().zip(four) {
            *sum += w * i32::from(v);
        }
    }
    sums
}

/// Every column of `from` at another height.
struct Columns<'a> {
    from: View<'a>,
    taps: &'a Taps,
    to: &'a mut [u8],
}

impl Work for Columns<'_> {
    #[inline(always)]
    fn run(self) {
        let View { pixels, stride, row, .. } = self.from;
        for ((first, weights), to) in self.taps.iter().zip(self.to.chunks_exact_mut(row)) {
            let rows = &pixels[first * stride..];
            let (blocks, rest) = to.as_chunks_mut::<BLOCK>();
            let done = blocks.len() * BLOCK;
            for (block, to) in blocks.iter_mut().enumerate() {
                let mut sums = [HALF; BLOCK];
                for (row, w) in rows.chunks(stride).zip(weights) {
                    let from: &[u8; BLOCK] =
                        row[block * BLOCK..].first_chunk().expect("it is as long");
                    for (sum, &v) in sums.iter_mut().zip(from) {
                        *sum += w * i32::from(v);
                    }
                }
                *to = sums.map(byte);
            }
            for (x, to) in rest.iter_mut().enumerate() {
                let column = rows.iter().skip(done + x).step_by(stride);
                *to = byte(column.zip(weights).fold(HALF, |sum, (&v, w)| sum + w * i32::from(v)));
            }
        }
    }
}

/// The rows of `from`, each `width` pixels wide.
fn rows(from: View<'_>, width: u32, kernel: Kernel) -> Vec<u8> {
    let taps = &Taps::new(from.width(), width, kernel);
    let n = from.height as usize * width as usize * from.channels;
    let mut out = spare::take(n + 4);
    if from.channels == 3 {
        vectorized(Rows::<3> { from, taps, to: &mut out });
    } else {
        vectorized(Rows::<1> { from, taps, to: &mut out });
    }
    out.truncate(n);
    out
}

/// The columns of `from`, each `height` pixels high.
fn columns(from: View<'_>, height: u32, kernel: Kernel) -> Vec<u8> {
    let mut out = spare::take(from.row * height as usize);
    let taps = &Taps::new(from.height, height, kernel);
    vectorized(Columns { from, taps, to: &mut out });
    out
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
