use super::affine::Matrix;
use crate::{
    error::{Error, Result},
    image::PadMode,
};
use std::sync::Arc;
use tch::Tensor;

/// A step of the caller's own on whole batches, N×C×H×W.
pub(super) type TensorStep = Arc<dyn Fn(Tensor) -> Result<Tensor> + Send + Sync>;

/// The part of a picture that is kept, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// The first row.
    pub top: u32,
    /// The first column.
    pub left: u32,
    /// The rows.
    pub height: u32,
    /// The columns.
    pub width: u32,
}

/// What is to be done to one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Image {
    /// Flips, rotations and zooms, from output to input, in coordinates from -1 to 1.
    pub(super) affine: Matrix,
    /// The perspective after them.
    pub(super) warp: Matrix,
    /// Added to the logit of each value, then multiplied with it.
    pub(super) lighting: Option<(f64, f64)>,
}

/// What is to be done to a batch, as data: nothing is done until it is carried out, and then at once.
#[derive(derive_more::Debug, Clone)]
pub struct Plan {
    pub(super) input: (u32, u32),
    pub(super) channels: u8,
    pub(super) images: Vec<Image>,
    pub(super) size: Option<(u32, u32)>,
    pub(super) crop: Option<Crop>,
    pub(super) pad_mode: PadMode,
    /// Mean and standard deviation of each channel.
    pub(super) normalize: Option<(Vec<f32>, Vec<f32>)>,
    #[debug("{}", steps.len())]
    pub(super) steps: Vec<TensorStep>,
}

impl Plan {
    /// Nothing, for `n` images of `size` (width, height).
    #[must_use]
    pub fn new(n: usize, size: (u32, u32), channels: u8) -> Self {
        let image = Image { affine: Matrix::ONE, warp: Matrix::ONE, lighting: None };
        Self {
            input: size,
            channels,
            images: vec![image; n],
            size: None,
            crop: None,
            pad_mode: PadMode::default(),
            normalize: None,
            steps: vec![],
        }
    }

    /// Forgets all images but the `kept` ones, given by position in order. What was drawn for the batch
    /// as a whole stays.
    pub fn keep(&mut self, kept: &[usize]) {
        self.images = kept.iter().map(|&i| self.images[i]).collect();
    }

    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The width and height of the images before.
    #[must_use]
    pub fn input_size(&self) -> (u32, u32) {
        self.input
    }

    /// The width and height of the images after.
    #[must_use]
    pub fn output_size(&self) -> (u32, u32) {
        self.size.or_else(|| self.crop.map(|c| (c.width, c.height))).unwrap_or(self.input)
    }

    pub(super) fn resize(&mut self, (width, height): (u32, u32)) -> Result<()> {
        if width == 0 || height == 0 {
            let why = format!("{width}x{height}: both sides must be 1 or more");
            return Err(Error::config("size", why));
        }
        self.size = Some((width, height));
        Ok(())
    }

    /// From pixels of the output of image `i` to pixels of its input.
    pub(super) fn map(&self, i: usize) -> Matrix {
        let (out, whole) = (self.output_size(), self.input);
        let crop = self.crop.unwrap_or(Crop { top: 0, left: 0, width: whole.0, height: whole.1 });
        let last = |n: u32| f64::from(n.saturating_sub(1));
        let ratio = |a: u32, b: u32| if b > 1 { last(a) / last(b) } else { 0.0 };
        // Output pixels to pixels of the whole, to -1..1, through the map, to input pixels.
        let to_whole = Matrix([
            [ratio(crop.width, out.0), 0.0, f64::from(crop.left)],
            [0.0, ratio(crop.height, out.1), f64::from(crop.top)],
            [0.0, 0.0, 1.0],
        ]);
        let side = |n: u32| last(n).max(1.0) / 2.0;
        let (sx, sy) = (side(whole.0), side(whole.1));
        let to_unit = Matrix([[1.0 / sx, 0.0, -1.0], [0.0, 1.0 / sy, -1.0], [0.0, 0.0, 1.0]]);
        let to_pixels = Matrix([[sx, 0.0, sx], [0.0, sy, sy], [0.0, 0.0, 1.0]]);
        let image = &self.images[i];
        let affine = image.affine.with_aspect(whole);
        to_pixels.times(&image.warp).times(&affine).times(&to_unit).times(&to_whole)
    }

    /// By how much the input shrinks first, by the mean of areas: fastai's guard against aliasing. It
    /// sets in where the output has less than half the pixels of a side and nothing is zoomed by more.
    pub(super) fn shrink(&self) -> Option<f64> {
        let (out, crop) = (self.output_size(), self.crop);
        let from = crop.map_or(self.input, |c| (c.width, c.height));
        let ratio = |a: u32, b: u32| f64::from(a) / f64::from(b);
        let shrink = ratio(from.0, out.0).min(ratio(from.1, out.1)) / 2.0;
        let zoom = if crop.is_some() { 1.0 } else { self.zoom() };
        (shrink > 1.0 && shrink > zoom).then_some(shrink)
    }

    /// 2 over the width of all coordinates of the batch.
    fn zoom(&self) -> f64 {
        let corners = [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)];
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for image in &self.images {
            let map = image.warp.times(&image.affine.with_aspect(self.input));
            for (x, y) in corners {
                let (x, y) = map.at(x, y);
                low = low.min(x).min(y);
                high = high.max(x).max(y);
            }
        }
        2.0 / (high - low)
    }
}
