//! Execution of one pass for one image, block by block: positions, pixels, colors, normalization.
//!
//! Every step is a plain loop over short arrays, which compilers turn into vector instructions; only
//! pixels are fetched one at a time. The operations do not depend on the width of these instructions, so
//! that results are bit-identical on every processor.

#![allow(
    clippy::needless_range_loop,
    reason = "one index into several arrays of one known length is what becomes vector instructions"
)]

use super::{
    Color, Matrix, Mode, Resampling,
    pixels::{Pixels, Texel},
    tone::{self, LANES},
};
use crate::image::PadMode;

/// The last step: multiplies values by `scale` and adds `shift`, per channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    pub(super) scale: [f32; 3],
    pub(super) shift: [f32; 3],
}

impl Levels {
    /// Leaves values unchanged.
    pub(super) const SAME: Self = Self { scale: [1.0; 3], shift: [0.0; 3] };
}

/// A block of pixels of a row: first their positions in the source, then their values.
struct Block<const C: usize> {
    px: [f32; LANES],
    py: [f32; LANES],
    /// The fraction of each position that is inside the image, if pixels outside are black.
    cover: [f32; LANES],
    /// The index of the pixel above and to the left, and the distance of the position from it.
    at: [u32; LANES],
    fx: [f32; LANES],
    fy: [f32; LANES],
    /// The values, one plane per channel.
    planes: [[f32; LANES]; C],
}

/// One side of an image, to map positions outside of the image to the inside.
#[derive(Clone, Copy)]
struct Side {
    last: f32,
    /// The position at which mirroring starts, and the length after which it reverses.
    low: f32,
    span: f32,
    fold: Fold,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fold {
    /// No position is outside of the image, or the edge pixels are used there.
    None,
    /// Mirrored at most once.
    Once,
    /// Mirrored any number of times.
    Often,
}

impl Side {
    fn new(n: usize, resampling: Resampling, (least, greatest): (f32, f32)) -> Self {
        let last = n as f32 - 1.0;
        let (low, span) = if resampling.align_corners { (0.0, last) } else { (-0.5, n as f32) };
        let within = least >= 0.0 && greatest <= last;
        let fold = if within || resampling.pad_mode != PadMode::Reflection {
            Fold::None
        } else if least >= low - span && greatest <= low + 2.0 * span {
            Fold::Once
        } else {
            Fold::Often
        };
        Self { last, low, span, fold }
    }

    #[inline(always)]
    fn fold(self, places: &mut [f32; LANES]) {
        let twice = 2.0 * self.span;
        match self.fold {
            Fold::None => {}
            // A single pixel has no neighbor.
            _ if self.span <= 0.0 => places.fill(0.0),
            Fold::Once => {
                for p in places {
                    let t = (*p - self.low).abs();
                    *p = if t > self.span { twice - t } else { t } + self.low;
                }
            }
            Fold::Often => {
                for p in places {
                    let t = (*p - self.low).abs();
                    let t = t - twice * (t / twice).floor();
                    *p = if t > self.span { twice - t } else { t } + self.low;
                }
            }
        }
    }

    /// Multiplies `cover` by the fraction of each position that is inside the image.
    #[inline(always)]
    fn cover(self, places: &[f32; LANES], mode: Mode, cover: &mut [f32; LANES]) {
        for (c, &p) in cover.iter_mut().zip(places) {
            *c *= match mode {
                Mode::Bilinear => {
                    let (from_left, from_right) = (p + 1.0, self.last + 1.0 - p);
                    let least = if from_left < from_right { from_left } else { from_right };
                    least.clamp(0.0, 1.0)
                }
                Mode::Nearest => {
                    let p = p.round_ties_even();
                    if p >= 0.0 && p <= self.last { 1.0 } else { 0.0 }
                }
            };
        }
    }

    /// Returns the pixel before a position and the distance from it. The last position belongs to the
    /// pixel before the last one.
    #[inline(always)]
    fn split(self, p: f32, nearest: bool) -> (i32, f32) {
        // With this comparison, NaN becomes 0.
        let p = if p > 0.0 { p } else { 0.0 };
        let p = if p < self.last { p } else { self.last };
        let p = if nearest { p.round_ties_even() } else { p };
        let before = (self.last as i32 - 1).max(0);
        let i = (p as i32).min(before);
        (i, p - i as f32)
    }
}

/// The start of a row, computed in double precision, and the step to the next pixel.
#[derive(Clone, Copy)]
struct Line {
    step: [f32; 3],
    start: [f32; 3],
    flat: bool,
}

impl Line {
    fn new(map: &Matrix, y: usize) -> Self {
        Self {
            step: map.0.map(|row| row[0] as f32),
            start: map.0.map(|row| (row[1] * y as f64 + row[2]) as f32),
            flat: map.0[2][0] == 0.0 && map.0[2][1] == 0.0,
        }
    }
}

impl<const C: usize> Block<C> {
    fn new() -> Self {
        let zeros = [0.0; LANES];
        let (px, py, cover, fx, fy) = (zeros, zeros, zeros, zeros, zeros);
        Self { px, py, cover, at: [0; LANES], fx, fy, planes: [zeros; C] }
    }

    /// Computes the source positions of the pixels from column `x`, in pixels.
    #[inline(always)]
    fn places(&mut self, line: &Line, x: usize) {
        let (m, start) = (line.step, line.start);
        let x = x as f32;
        if line.flat {
            for i in 0..LANES {
                let x = x + i as f32;
                self.px[i] = m[0] * x + start[0];
                self.py[i] = m[1] * x + start[1];
            }
        } else {
            for i in 0..LANES {
                let x = x + i as f32;
                let inverse = 1.0 / (m[2] * x + start[2]);
                self.px[i] = (m[0] * x + start[0]) * inverse;
                self.py[i] = (m[1] * x + start[1]) * inverse;
            }
        }
    }

    #[inline(always)]
    fn split(&mut self, x: Side, y: Side, stride: usize, nearest: bool) {
        for i in 0..LANES {
            let (ix, dx) = x.split(self.px[i], nearest);
            let (iy, dy) = y.split(self.py[i], nearest);
            self.at[i] = (iy * stride as i32 + ix * C as i32) as u32;
            (self.fx[i], self.fy[i]) = (dx, dy);
        }
    }

    /// Reads the values at the positions.
    #[inline(always)]
    fn fetch<T: Texel>(&mut self, from: &Pixels<'_, T>) {
        match T::bytes(from.pixels) {
            Some(bytes) if C == 3 && from.width > 1 && from.height > 1 => {
                self.fetch_bytes(bytes, from.stride);
            }
            _ => self.fetch_any(from),
        }
    }

    /// Reads RGB bytes: the pixels left and right of a position are six adjacent bytes, read with one
    /// load.
    #[inline(always)]
    fn fetch_bytes(&mut self, bytes: &[u8], stride: usize) {
        // For the neighbors above and below: the first four bytes and the rest.
        let mut words = [[0_u32; LANES]; 4];
        for i in 0..LANES {
            let above = eight(bytes, self.at[i] as usize);
            let below = eight(bytes, self.at[i] as usize + stride);
            (words[0][i], words[1][i]) = (above as u32, (above >> 32) as u32);
            (words[2][i], words[3][i]) = (below as u32, (below >> 32) as u32);
        }
        // Red and blue of the left pixel, and so on: the word and the shift of each.
        let places = [[(0, 0), (0, 24)], [(0, 8), (1, 0)], [(0, 16), (1, 8)]];
        for (plane, [(w, left), (v, right)]) in self.planes.iter_mut().zip(places) {
            let byte = |word: u32, at: u32| ((word >> at) & 255) as i32 as f32;
            for i in 0..LANES {
                let (a, b) = (byte(words[w][i], left), byte(words[v][i], right));
                let (c, d) = (byte(words[w + 2][i], left), byte(words[v + 2][i], right));
                let (top, low) = (a + (b - a) * self.fx[i], c + (d - c) * self.fx[i]);
                plane[i] = (top + (low - top) * self.fy[i]) * u8::SCALE;
            }
        }
    }

    #[inline(always)]
    fn fetch_any<T: Texel>(&mut self, from: &Pixels<'_, T>) {
        let right = if from.width > 1 { C } else { 0 };
        let below = if from.height > 1 { from.stride } else { 0 };
        let mut corners = [[[0.0_f32; LANES]; 4]; C];
        for i in 0..LANES {
            let at = self.at[i] as usize;
            let (top, low) =
                (&from.pixels[at..][..right + C], &from.pixels[at + below..][..right + C]);
            for (c, corners) in corners.iter_mut().enumerate() {
                corners[0][i] = top[c].level();
                corners[1][i] = top[c + right].level();
                corners[2][i] = low[c].level();
                corners[3][i] = low[c + right].level();
            }
        }
        for (plane, [a, b, c, d]) in self.planes.iter_mut().zip(&corners) {
            for i in 0..LANES {
                let (fx, fy) = (self.fx[i], self.fy[i]);
                let (gx, gy) = (1.0 - fx, 1.0 - fy);
                let value = (a[i] * gx + b[i] * fx) * gy + (c[i] * gx + d[i] * fx) * fy;
                plane[i] = value * T::SCALE;
            }
        }
    }

    /// Reads the values of pixels that are not moved.
    #[inline(always)]
    fn copy<T: Texel>(&mut self, pixels: &[T]) {
        for (i, pixel) in pixels.chunks_exact(C).enumerate().take(LANES) {
            for c in 0..C {
                self.planes[c][i] = pixel[c].level() * T::SCALE;
            }
        }
    }

    /// Applies colors and levels, and writes as many pixels as fit.
    #[inline(always)]
    fn finish(&mut self, colors: &[Color], levels: &Levels, out: &mut [f32]) {
        for &color in colors {
            tone::change(color, &mut self.planes);
        }
        for (c, plane) in self.planes.iter_mut().enumerate() {
            let (scale, shift) = (levels.scale[c], levels.shift[c]);
            plane.iter_mut().for_each(|v| *v = *v * scale + shift);
        }
        for (i, to) in out.chunks_exact_mut(C).enumerate().take(LANES) {
            for c in 0..C {
                to[c] = self.planes[c][i];
            }
        }
    }
}

/// Returns eight bytes from `at`, with zeros after the end.
#[inline(always)]
fn eight(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..at + 8).and_then(|b| b.try_into().ok()) {
        Some(b) => u64::from_le_bytes(b),
        None => last(bytes, at),
    }
}

#[cold]
fn last(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().take(8).rev().fold(0, |all, &b| all << 8 | u64::from(b))
}

/// The reading of one image: a map from pixels of the output to pixels of the source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) map: Matrix,
    pub(super) resampling: Resampling,
}

/// Computes one image of (width, height), `[height, width, channels]`. Without a reading, pixels are not
/// moved.
#[inline(always)]
pub(super) fn image<T: Texel, const C: usize>(
    from: &Pixels<'_, T>,
    reading: Option<Reading>,
    (width, height): (usize, usize),
    colors: &[Color],
    levels: &Levels,
    out: &mut [f32],
) {
    let mut block = Block::<C>::new();
    let sides = reading.map(|r| {
        let (x, y) = range(&r.map, (width, height));
        let side = |n, range| Side::new(n, r.resampling, range);
        (r, side(from.width, x), side(from.height, y))
    });
    for (y, row) in out.chunks_exact_mut(width * C).enumerate() {
        let Some((reading, side_x, side_y)) = sides else {
            let pixels = from.pixels[y * from.stride..][..width * C].chunks(LANES * C);
            for (pixels, out) in pixels.zip(row.chunks_mut(LANES * C)) {
                block.copy(pixels);
                block.finish(colors, levels, out);
            }
            continue;
        };
        let line = Line::new(&reading.map, y);
        let Resampling { mode, pad_mode, .. } = reading.resampling;
        for (k, out) in row.chunks_mut(LANES * C).enumerate() {
            block.places(&line, k * LANES);
            if pad_mode == PadMode::Zeros {
                block.cover = [1.0; LANES];
                side_x.cover(&block.px, mode, &mut block.cover);
                side_y.cover(&block.py, mode, &mut block.cover);
            }
            side_x.fold(&mut block.px);
            side_y.fold(&mut block.py);
            match mode {
                Mode::Bilinear => block.split(side_x, side_y, from.stride, false),
                Mode::Nearest => block.split(side_x, side_y, from.stride, true),
            }
            block.fetch(from);
            if pad_mode == PadMode::Zeros {
                for plane in &mut block.planes {
                    plane.iter_mut().zip(&block.cover).for_each(|(v, c)| *v *= c);
                }
            }
            block.finish(colors, levels, out);
        }
    }
}

/// Returns the minimum and maximum position along both sides that an output of (width, height) reads.
fn range(map: &Matrix, (width, height): (usize, usize)) -> ((f32, f32), (f32, f32)) {
    let (right, bottom) = (width as f64 - 1.0, height as f64 - 1.0);
    let corners = [(0.0, 0.0), (right, 0.0), (0.0, bottom), (right, bottom)];
    let depth = |(x, y): (f64, f64)| map.0[2][0] * x + map.0[2][1] * y + map.0[2][2];
    let all = (f32::NEG_INFINITY, f32::INFINITY);
    if corners.into_iter().any(|c| depth(c) <= 0.0) {
        // The horizon of the perspective is inside the image.
        return (all, all);
    }
    let (mut x, mut y) = ((f32::INFINITY, f32::NEG_INFINITY), (f32::INFINITY, f32::NEG_INFINITY));
    for (cx, cy) in corners {
        let (px, py) = map.at(cx, cy);
        x = (x.0.min(px as f32), x.1.max(px as f32));
        y = (y.0.min(py as f32), y.1.max(py as f32));
    }
    (x, y)
}
