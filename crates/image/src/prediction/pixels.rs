//! Pixel-wise predictions, mapped back to the original image.

use super::largest::largest;
use crate::{
    error::{Error, Result},
    image::Image,
    sample::Placement,
};
use ndarray::Array3;
use rayon::prelude::*;

/// The probability of each code in each pixel of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelProbs {
    /// `[codes, height, width]` of the network's input.
    pub probs: Array3<f32>,
    /// The position of that input in the original image.
    pub placement: Placement,
}

impl PixelProbs {
    /// Returns the probabilities at the size of the original image, `[codes, height, width]`, bilinear
    /// between pixel centers. Pixels outside the network's input have the values of the nearest pixel
    /// inside.
    #[must_use]
    pub fn original(&self) -> Array3<f32> {
        let (codes, rows, columns) = self.probs.dim();
        let (width, height) = self.placement.original_size();
        let (width, height) = (width as usize, height as usize);
        let from_original = self.placement.inverse();
        // Row by row, each with all codes, so that threads write to separate slices.
        let mut by_row = vec![0.0_f32; codes * width * height];
        by_row.par_chunks_mut((codes * width).max(1)).enumerate().for_each(|(y, row)| {
            for x in 0..width {
                let (px, py) = from_original(x as f64 + 0.5, y as f64 + 0.5);
                let (x0, x1, fx) = neighbors(px, columns);
                let (y0, y1, fy) = neighbors(py, rows);
                for c in 0..codes {
                    let at = |y: usize, x: usize| self.probs[(c, y, x)];
                    let top = at(y0, x0) * (1.0 - fx) + at(y0, x1) * fx;
                    let low = at(y1, x0) * (1.0 - fx) + at(y1, x1) * fx;
                    row[c * width + x] = top * (1.0 - fy) + low * fy;
                }
            }
        });
        Array3::from_shape_fn((codes, height, width), |(c, y, x)| {
            by_row[(y * codes + c) * width + x]
        })
    }
}

/// Returns the pixels before and after a position along a side of `n` pixels, and the distance from the
/// first.
fn neighbors(place: f64, n: usize) -> (usize, usize, f32) {
    let last = n as f64 - 1.0;
    let at = (place - 0.5).clamp(0.0, last);
    let at = if at.is_nan() { 0.0 } else { at };
    let before = at.floor();
    let first = before as usize;
    (first, (first + 1).min(n - 1), (at - before) as f32)
}

/// Returns the code with the highest probability in each pixel, from `[codes, height, width]`.
///
/// # Errors
/// [`Error::Mismatch`] if a side is 0, or if there are more than 256 codes.
pub fn highest(probs: &Array3<f32>) -> Result<Image> {
    let (codes, height, width) = probs.dim();
    if codes > 256 {
        let why = format!("there are {codes} codes; a mask can have 256");
        return Err(Error::mismatch("mask", why));
    }
    let mut mask = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            mask.push(largest((0..codes).map(|c| probs[(c, y, x)])) as u8);
        }
    }
    Image::new(width as u32, height as u32, 1, mask)
}
