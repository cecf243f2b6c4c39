//! Where the pixels of one pass come from, worked out for both executors.

use super::{Crop, Matrix, Mode, Plan, Resampling};
use crate::image::PadMode;

/// One resampling of a batch.
#[derive(Debug, Clone)]
pub(super) struct Sampling<'a> {
    plan: &'a Plan,
    /// From pixels of the output to -1 to 1, before the maps of the images.
    unit: Matrix,
    /// Whether the images have maps of their own.
    moved: bool,
    /// The part of the input that is read.
    pub(super) window: Crop,
    /// Width and height of what comes out.
    pub(super) size: (u32, u32),
    pub(super) resampling: Resampling,
    /// The width and height to which the window shrinks first, by the mean of areas.
    pub(super) shrunk: Option<(u32, u32)>,
}

/// From pixels of a side of `n` to -1 to 1, as (scale, shift).
fn to_unit(n: u32, align_corners: bool) -> (f64, f64) {
    let n = f64::from(n);
    match align_corners {
        // A single pixel is in the middle.
        true if n == 1.0 => (0.0, 0.0),
        true => (2.0 / (n - 1.0), -1.0),
        false => (2.0 / n, 1.0 / n - 1.0),
    }
}

/// From -1 to 1 to pixels of a side of `n`.
fn to_pixels(n: u32, align_corners: bool) -> (f64, f64) {
    let n = f64::from(n);
    let scale = if align_corners { (n - 1.0) / 2.0 } else { n / 2.0 };
    (scale, (n - 1.0) / 2.0)
}

/// From pixels of a side of `n` to those of a part of `part` pixels from `start` on.
fn to_part(n: u32, start: u32, part: u32) -> (f64, f64) {
    let last = f64::from(part) - 1.0;
    if n == 1 {
        return (0.0, f64::from(start) + last / 2.0);
    }
    (last / (f64::from(n) - 1.0), f64::from(start))
}

impl<'a> Sampling<'a> {
    /// What `plan` resamples; none where pixels stay where they are.
    pub(super) fn new(plan: &'a Plan) -> Option<Self> {
        let input = plan.input;
        let whole = Crop { top: 0, left: 0, width: input.0, height: input.1 };
        let size = plan.output_size();
        let between = plan.size.unwrap_or(input);
        let moved = between != input || !plan.images.iter().all(super::ImagePlan::is_still);
        let Some(crop) = plan.crop else {
            if !moved {
                return None;
            }
            let resampling = plan.resampling.unwrap_or_default();
            let unit = unit(size, resampling.align_corners);
            let mut new = Self { plan, unit, moved, window: whole, size, resampling, shrunk: None };
            new.shrunk = new.shrink(input, &unit);
            return Some(new);
        };
        let part = crop.part;
        if !moved {
            // Nothing but a crop: what is outside of it is not seen.
            let resampling =
                Resampling { mode: crop.mode, pad_mode: PadMode::Border, align_corners: true };
            let unit = unit(size, true);
            let mut new = Self { plan, unit, moved, window: part, size, resampling, shrunk: None };
            new.shrunk = new.shrink((part.width, part.height), &unit);
            return Some(new);
        }
        let default = Resampling { mode: crop.mode, ..Resampling::default() };
        let resampling = plan.resampling.unwrap_or(default);
        let full = unit(between, resampling.align_corners);
        let to_part = Matrix::stretch(
            to_part(size.0, part.left, part.width),
            to_part(size.1, part.top, part.height),
        );
        let unit = full.times(&to_part);
        let mut new = Self { plan, unit, moved, window: whole, size, resampling, shrunk: None };
        // The part of the input that the crop shows.
        let seen = |part: u32, all: u32, between: u32| {
            (f64::from(part) * f64::from(all) / f64::from(between)).round() as u32
        };
        let seen = (seen(part.width, input.0, between.0), seen(part.height, input.1, between.1));
        new.shrunk = new.shrink(seen, &full);
        Some(new)
    }

    /// From pixels of the output of image `i` to places in the window, -1 to 1 both ways.
    pub(super) fn map(&self, i: usize) -> Matrix {
        self.through(i, &self.unit)
    }

    fn through(&self, i: usize, unit: &Matrix) -> Matrix {
        if !self.moved {
            return *unit;
        }
        let image = &self.plan.images[i];
        image.warp.times(&image.affine.with_aspect(self.plan.input)).times(unit)
    }

    /// From pixels of the output of image `i` to pixels of the window, shrunk if it shrinks.
    pub(super) fn to_source(&self, i: usize) -> Matrix {
        let (w, h) = self.shrunk.unwrap_or((self.window.width, self.window.height));
        let align = self.resampling.align_corners;
        Matrix::stretch(to_pixels(w, align), to_pixels(h, align)).times(&self.map(i))
    }

    /// fastai's guard against aliasing: where the output has less than half the pixels of both sides of
    /// what is `seen` and nothing is zoomed by more, the window shrinks first. (fastai itself takes the
    /// sides of the grid for its last two dimensions, which are width and 2.)
    fn shrink(&self, seen: (u32, u32), full: &Matrix) -> Option<(u32, u32)> {
        let ratio = |a: u32, b: u32| f64::from(a) / f64::from(b);
        let by = ratio(seen.0, self.size.0).min(ratio(seen.1, self.size.1)) / 2.0;
        if self.resampling.mode != Mode::Bilinear || by <= 1.0 || by <= self.zoom(full) {
            return None;
        }
        // In fastai's order of operations, and whole.
        let less = |n: u32| ((f64::from(n) * (1.0 / by)) as u32).max(1);
        Some((less(self.window.width), less(self.window.height)))
    }

    /// 2 over the width of all places that the maps of the batch read, x and y together, without a
    /// crop: above 1 they zoom in.
    fn zoom(&self, full: &Matrix) -> f64 {
        if !self.moved {
            return 1.0;
        }
        let (w, h) = self.plan.size.unwrap_or(self.plan.input);
        let (right, bottom) = (f64::from(w) - 1.0, f64::from(h) - 1.0);
        let corners = [(0.0, 0.0), (right, 0.0), (0.0, bottom), (right, bottom)];
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for i in 0..self.plan.len() {
            let map = self.through(i, full);
            for (x, y) in corners {
                let (x, y) = map.at(x, y);
                low = low.min(x).min(y);
                high = high.max(x).max(y);
            }
        }
        2.0 / (high - low)
    }
}

/// From pixels of a picture to -1 to 1 both ways.
fn unit((width, height): (u32, u32), align_corners: bool) -> Matrix {
    Matrix::stretch(to_unit(width, align_corners), to_unit(height, align_corners))
}
