//! Prediction of large images in tiles.

use super::predictor::Predictor;
use crate::{
    data::ImageSource,
    error::{Error, Result},
    image::{Image, PadMode},
    sample::{Placement, Target, Task},
};
use finetune_image::prediction::{PixelProbs, Prediction, highest};
use ndarray::Array3;

/// Splits a large image into tiles for [`Predictor::predict_tiles`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    size: u32,
    overlap: u32,
}

impl Tiles {
    /// Returns square tiles with sides of `size` pixels of the image. Use the size of the images that the
    /// model was trained on, so that objects have the same scale.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self { size, overlap: size / 4 }
    }

    /// Sets the number of pixels by which neighboring tiles overlap. There, the probabilities of the tile
    /// whose center is nearer have more weight. Default: a quarter of the size.
    #[must_use]
    pub fn overlap(mut self, pixels: u32) -> Self {
        self.overlap = pixels;
        self
    }

    /// Returns the start of each tile along a side of `n` pixels: evenly spaced, the last tile ends at the
    /// border.
    fn starts(self, n: u32) -> Vec<u32> {
        if n <= self.size {
            return vec![0];
        }
        let (step, rest) = (self.size - self.overlap, n - self.size);
        let steps = rest.div_ceil(step);
        (0..=steps).map(|i| (u64::from(rest) * u64::from(i) / u64::from(steps)) as u32).collect()
    }
}

/// Returns the weight of each pixel of a side of `n`: largest in the center, small at the edges.
fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i + 1).min(n - i) as f32).collect()
}

impl Predictor {
    /// Predicts the mask of a large image from overlapping tiles, each of which is prepared and predicted
    /// as a separate image. Holds the probabilities of all pixels in memory: 4 bytes per pixel and code.
    ///
    /// ```no_run
    /// # fn f(roads: &finetune::learner::Predictor) -> finetune::Result<()> {
    /// use finetune::learner::Tiles;
    ///
    /// let map = roads.predict_tiles("map.png", Tiles::new(512).overlap(128))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the tiles have no pixels or overlap completely, or if the batch size is 0;
    /// [`Error::Unsupported`] for models that do not predict masks; the errors of [`predict`](Self::predict).
    pub fn predict_tiles(&self, image: impl Into<ImageSource>, tiles: Tiles) -> Result<Prediction> {
        if tiles.size == 0 || tiles.overlap >= tiles.size {
            let why = format!(
                "`overlap` is {} and `size` is {}; the overlap must be smaller",
                tiles.overlap, tiles.size
            );
            return Err(Error::config("Tiles::overlap", why));
        }
        let Task::Mask { codes, .. } = self.task() else {
            return Err(Error::unsupported("predict_tiles", "the model does not predict masks"));
        };
        let codes = codes.len();
        if codes > 256 {
            let why = format!("the model has {codes} codes; a mask has at most 256");
            return Err(Error::mismatch("predict_tiles", why));
        }
        let image = self.open(&image.into())?;
        let (width, height) = (image.width(), image.height());
        let side = |n: u32| n.min(tiles.size);
        let (tw, th) = (side(width), side(height));
        let mut sums = Array3::<f32>::zeros((codes, height as usize, width as usize));
        let mut weights = Array3::<f32>::zeros((1, height as usize, width as usize));
        let (across, down) = (ramp(tw as usize), ramp(th as usize));
        let starts: Vec<(u32, u32)> = tiles
            .starts(height)
            .into_iter()
            .flat_map(|y| tiles.starts(width).into_iter().map(move |x| (x, y)))
            .collect();
        for few in starts.chunks(self.at_once()?) {
            let cut =
                |&(x, y): &(u32, u32)| image.crop_pad(x.into(), y.into(), tw, th, PadMode::Zeros);
            let pieces: Vec<Image> = few.iter().map(cut).collect::<Result<_>>()?;
            for (&(left, top), said) in few.iter().zip(self.predict_batch(pieces)?) {
                let missing = || Error::mismatch("predict_tiles", "the model has no pixel outputs");
                let probs = said.pixel_probs().ok_or_else(missing)?;
                let wanted = (codes, th as usize, tw as usize);
                if probs.dim() != wanted {
                    let why = format!(
                        "the model predicts {:?} for a tile; [codes, height, width] are {wanted:?}",
                        probs.dim()
                    );
                    return Err(Error::mismatch("predict_tiles", why));
                }
                for ((c, y, x), p) in probs.indexed_iter() {
                    let weight = across[x] * down[y];
                    let (row, column) = (top as usize + y, left as usize + x);
                    sums[(c, row, column)] += p * weight;
                    if c == 0 {
                        weights[(0, row, column)] += weight;
                    }
                }
            }
        }
        sums /= &weights;
        let mask = Target::Mask(highest(&sums)?);
        let placement = Placement::whole((width, height));
        let means = sums.outer_iter().map(|code| code.mean().unwrap_or(0.0)).collect();
        let prediction = Prediction::new(means, mask, self.task());
        Ok(prediction.with_pixels(PixelProbs { probs: sums, placement }))
    }
}

#[cfg(test)]
mod tests {
    use super::Tiles;

    #[test]
    fn tiles_cover_a_side_and_end_with_it() {
        let tiles = Tiles::new(100).overlap(20);
        assert_eq!(tiles.starts(80), [0]);
        assert_eq!(tiles.starts(100), [0]);
        assert_eq!(tiles.starts(181), [0, 40, 81]);
        for n in 100..700 {
            let starts = tiles.starts(n);
            assert_eq!(starts.last(), Some(&(n - 100)));
            assert!(starts.windows(2).all(|w| w[1] - w[0] <= 80), "{n}: {starts:?}");
        }
    }
}
