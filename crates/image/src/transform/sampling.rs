//! The source positions of one pass, for both executors.

use super::{Crop, Matrix, Mode, Plan, Resampling};
use crate::image::PadMode;

/// One resampling of a batch.
#[derive(Debug, Clone)]
pub(super) struct Sampling<'a> {
    plan: &'a Plan,
    /// The map from pixels of the output to -1..1, before the maps of the images.
    unit: Matrix,
    /// Whether the images have maps of their own.
    moved: bool,
    /// The part of the input that is read.
    pub(super) window: Crop,
    /// The width and height of the output.
    pub(super) size: (u32, u32),
    pub(super) resampling: Resampling,
    /// The width and height to which the window is shrunk first, by area means.
    pub(super) shrunk: Option<(u32, u32)>,
}

/// Returns the map from pixels of a side of `n` to -1..1, as (scale, shift).
fn to_unit(n: u32, align_corners: bool) -> (f64, f64) {
    let n = f64::from(n);
    match align_corners {
        // A single pixel is in the middle.
        true if n == 1.0 => (0.0, 0.0),
        true => (2.0 / (n - 1.0), -1.0),
        false => (2.0 / n, 1.0 / n - 1.0),
    }
}

/// Returns the map from -1..1 to pixels of a side of `n`, as (scale, shift).
fn to_pixels(n: u32, align_corners: bool) -> (f64, f64) {
    let n = f64::from(n);
    let scale = if align_corners { (n - 1.0) / 2.0 } else { n / 2.0 };
    (scale, (n - 1.0) / 2.0)
}

/// Returns the map from pixels of a side of `n` to those of a part of `part` pixels from `start`, as
/// (scale, shift).
fn to_part(n: u32, start: u32, part: u32) -> (f64, f64) {
    let last = f64::from(part) - 1.0;
    if n == 1 {
        return (0.0, f64::from(start) + last / 2.0);
    }
    (last / (f64::from(n) - 1.0), f64::from(start))
}

impl<'a> Sampling<'a> {
    /// Returns the resampling of `plan`; `None` if pixels are not moved.
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
            // For a crop alone, pixels outside of it are not used.
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
        // The size of the input region that the crop shows.
        let seen = |part: u32, all: u32, between: u32| {
            (f64::from(part) * f64::from(all) / f64::from(between)).round() as u32
        };
        let seen = (seen(part.width, input.0, between.0), seen(part.height, input.1, between.1));
        new.shrunk = new.shrink(seen, &full);
        Some(new)
    }

    /// Returns the map from pixels of the output of image `i` to positions in the window, from -1 to 1.
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

    /// Returns the map from pixels of the output of image `i` to pixels of the window, after shrinking.
    pub(super) fn to_source(&self, i: usize) -> Matrix {
        let (w, h) = self.shrunk.unwrap_or((self.window.width, self.window.height));
        let align = self.resampling.align_corners;
        Matrix::stretch(to_pixels(w, align), to_pixels(h, align)).times(&self.map(i))
    }

    /// Prevents aliasing as fastai does: if the output has less than half the pixels of `seen` along
    /// both sides and the maps do not zoom in as much, the window is shrunk first. (fastai itself uses
    /// the last two dimensions of the grid, which are width and 2, instead of its sides.)
    fn shrink(&self, seen: (u32, u32), full: &Matrix) -> Option<(u32, u32)> {
        let ratio = |a: u32, b: u32| f64::from(a) / f64::from(b);
        let by = ratio(seen.0, self.size.0).min(ratio(seen.1, self.size.1)) / 2.0;
        if self.resampling.mode != Mode::Bilinear || by <= 1.0 || by <= self.zoom(full) {
            return None;
        }
        // In fastai's order of operations, truncated to whole pixels.
        let less = |n: u32| ((f64::from(n) * (1.0 / by)) as u32).max(1);
        Some((less(self.window.width), less(self.window.height)))
    }

    /// Returns the zoom of all maps of the batch without a crop: 2 divided by the extent of the
    /// positions that they read, x and y together. Above 1 they zoom in.
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

/// Returns the map from pixels of an image to -1..1 in both directions.
fn unit((width, height): (u32, u32), align_corners: bool) -> Matrix {
    Matrix::stretch(to_unit(width, align_corners), to_unit(height, align_corners))
}
