//! The prediction for one image, and for each of its pixels.

mod largest;
mod pixels;

pub use largest::largest;
pub use pixels::{PixelProbs, highest};

use crate::{
    image::Image,
    sample::{Target, Task},
};
use ndarray::Array3;

/// The prediction for one image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// The most probable category. For several labels, the names joined by `; `, or `none`; for numbers,
    /// the numbers.
    pub label: String,
    /// The index of the largest output.
    pub index: usize,
    /// The outputs after the loss's activation: probabilities for categories. For masks, the mean of the
    /// probabilities of all pixels.
    pub probs: Vec<f32>,
    /// The decoded outputs: for example a mask at the size of the original image, or points in its pixels.
    pub target: Target,
    task: Task,
    pixels: Option<PixelProbs>,
}

impl Prediction {
    /// Returns the mask at the size of the original image; `None` if the task is not masks.
    #[must_use]
    pub fn mask(&self) -> Option<&Image> {
        let Target::Mask(mask) = &self.target else { return None };
        Some(mask)
    }

    /// Returns the probability of each code in each pixel of the original image, `[codes, height, width]`.
    /// Computed at each call, 4 bytes per value. `None` if the task is not masks.
    #[must_use]
    pub fn pixel_probs(&self) -> Option<Array3<f32>> {
        self.pixels.as_ref().map(PixelProbs::original)
    }

    /// Adds the probabilities of pixels, for [`pixel_probs`](Self::pixel_probs).
    #[must_use]
    pub fn with_pixels(self, pixels: PixelProbs) -> Self {
        Self { pixels: Some(pixels), ..self }
    }

    /// Shows the label and its probability in a notebook with the Rust kernel
    /// [evcxr](https://github.com/evcxr/evcxr), which calls this for the last expression of a cell.
    #[allow(clippy::print_stdout, reason = "the kernel reads what a value prints")]
    pub fn evcxr_display(&self) {
        let text = match (&self.target, self.probs.get(self.index)) {
            (Target::Category(_), Some(p)) => format!("{} ({p:.3})", self.label),
            _ => self.label.clone(),
        };
        println!("EVCXR_BEGIN_CONTENT text/plain\n{text}\nEVCXR_END_CONTENT");
    }

    /// Returns the `k` largest outputs with their labels, largest first. Without a vocabulary, the labels
    /// are indices.
    #[must_use]
    pub fn top_k(&self, k: usize) -> Vec<(String, f32)> {
        let mut order: Vec<usize> = (0..self.probs.len()).collect();
        order.sort_by(|a, b| self.probs[*b].total_cmp(&self.probs[*a]));
        let vocab = self.task.vocab();
        let name = |i: usize| vocab.get(i).cloned().unwrap_or_else(|| i.to_string());
        order.into_iter().take(k).map(|i| (name(i), self.probs[i])).collect()
    }

    /// Returns the prediction of `probs`, the outputs after the loss's activation, with the decoded `target`.
    #[must_use]
    pub fn new(probs: Vec<f32>, target: Target, task: &Task) -> Self {
        let index = largest(probs.iter().copied());
        let label = task.words(&target);
        Self { label, index, probs, target, task: task.clone(), pixels: None }
    }
}
