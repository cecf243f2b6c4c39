//! Pixel-wise predictions, mapped back to the original image.

use super::largest::largest;
use crate::{
    error::{Error, Result},
    image::Image,
    sample::Placement,
};
use ndarray::Array3;
use rayon::prelude::*;

/// The probability of each code in each pixel of one image. Exhaustive, so that the predictor of any
/// runtime can create it.
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
    ///
    /// # Panics
    /// If `probs` has no pixels, or the original has more pixels than memory.
    #[must_use]
    pub fn original(&self) -> Array3<f32> {
        let codes = self.probs.dim().0;
        let (width, height) = self.placement.original_size();
        let (width, height) = (width as usize, height as usize);
        let all = self.each_pixel(codes, |probs, pixel: &mut [f32]| pixel.copy_from_slice(probs));
        Array3::from_shape_fn((codes, height, width), |(c, y, x)| all[(y * width + x) * codes + c])
    }

    /// Returns the code with the highest probability in each pixel of the original image. It needs a byte per
    /// pixel, independent of the number of codes.
    ///
    /// # Errors
    /// As [`highest`].
    pub fn mask(&self) -> Result<Image> {
        let (codes, rows, columns) = self.probs.dim();
        check_codes(codes)?;
        if rows == 0 || columns == 0 {
            let why = format!("the probabilities of {rows}x{columns} pixels have no highest code");
            return Err(Error::mismatch("mask", why));
        }
        let (width, height) = self.placement.original_size();
        let codes = self.each_pixel(1, |probs, pixel: &mut [u8]| {
            pixel[0] = largest(probs.iter().copied()) as u8;
        });
        Image::new(width, height, 1, codes)
    }

    /// Calls `write` with the probabilities of each pixel of the original image and its `each` values, and
    /// returns the values of all pixels, row by row.
    fn each_pixel<T: Copy + Default + Send>(
        &self,
        each: usize,
        write: impl Fn(&[f32], &mut [T]) + Sync,
    ) -> Vec<T> {
        let (codes, rows, columns) = self.probs.dim();
        let (width, height) = self.placement.original_size();
        let (width, height) = (width as usize, height as usize);
        let from_original = self.placement.inverse();
        let mut all = vec![T::default(); each * width * height];
        let rows_of_pixels = all.par_chunks_mut((each * width).max(1)).enumerate();
        rows_of_pixels.for_each(|(y, row)| {
            let mut probs = vec![0.0_f32; codes];
            for (x, pixel) in row.chunks_exact_mut(each).enumerate() {
                let (px, py) = from_original(x as f64 + 0.5, y as f64 + 0.5);
                let (x0, x1, fx) = neighbors(px, columns);
                let (y0, y1, fy) = neighbors(py, rows);
                for (c, p) in probs.iter_mut().enumerate() {
                    let at = |y: usize, x: usize| self.probs[(c, y, x)];
                    let top = at(y0, x0) * (1.0 - fx) + at(y0, x1) * fx;
                    let low = at(y1, x0) * (1.0 - fx) + at(y1, x1) * fx;
                    *p = top * (1.0 - fy) + low * fy;
                }
                write(&probs, pixel);
            }
        });
        all
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
    check_codes(codes)?;
    let mut mask = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            mask.push(largest((0..codes).map(|c| probs[(c, y, x)])) as u8);
        }
    }
    Image::new(width as u32, height as u32, 1, mask)
}

/// Returns an error if a byte cannot hold all codes.
fn check_codes(codes: usize) -> Result<()> {
    if codes > 256 {
        let why = format!("there are {codes} codes; a mask can have 256");
        return Err(Error::mismatch("mask", why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_has_the_highest_probabilities_of_the_original() {
        let probs =
            Array3::from_shape_fn((3, 5, 7), |(c, y, x)| ((c * 5 + y * 3 + x * 7) % 11) as f32);
        // A crop of 7x5 pixels from an image of 9x6 pixels, and a reduced image of 20x31 pixels.
        let crop = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]];
        let crop = Placement::whole((9, 6)).then((7, 5), crop);
        let reduced = [[20.0 / 7.0, 0.0, 0.0], [0.0, 31.0 / 5.0, 0.0], [0.0, 0.0, 1.0]];
        let reduced = Placement::whole((20, 31)).then((7, 5), reduced);
        for placement in [crop, reduced] {
            let pixels = PixelProbs { probs: probs.clone(), placement };
            let original = pixels.original();
            assert_eq!(pixels.mask().unwrap(), highest(&original).unwrap());
            assert!(original.iter().any(|p| *p > 5.0));
        }
    }

    #[test]
    fn probabilities_of_no_pixels_are_an_error() {
        for shape in [(3, 0, 7), (3, 5, 0)] {
            let pixels =
                PixelProbs { probs: Array3::zeros(shape), placement: Placement::whole((9, 6)) };
            let e = pixels.mask().unwrap_err();
            assert!(matches!(e, Error::Mismatch { what: "mask", .. }), "{shape:?}: {e}");
        }
    }
}
