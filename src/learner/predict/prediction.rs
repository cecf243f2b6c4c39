//! What a model says of one image.

use super::pixels::PixelProbs;
use crate::{
    image::Image,
    sample::{Target, Task},
};
use ndarray::Array3;

/// What a model says of one image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// The most probable category; several joined by `; ` where the task has several, `none` without one, numbers where it
    /// has numbers.
    pub label: String,
    /// The position of the largest output.
    pub index: usize,
    /// The outputs after the loss's activation: probabilities for categories. For masks, the mean of the
    /// probabilities of all pixels.
    pub probs: Vec<f32>,
    /// What the outputs say: a mask at the size of the original image, points in its pixels.
    pub target: Target,
    task: Task,
    pixels: Option<PixelProbs>,
}

impl Prediction {
    /// The mask, at the size of the original image; `None` where the task is not masks.
    #[must_use]
    pub fn mask(&self) -> Option<&Image> {
        let Target::Mask(mask) = &self.target else { return None };
        Some(mask)
    }

    /// The probability of each code in each pixel of the original image: codes × height × width. Made
    /// at each call, 4 bytes for each number. `None` where the task is not masks.
    #[must_use]
    pub fn pixel_probs(&self) -> Option<Array3<f32>> {
        self.pixels.as_ref().map(PixelProbs::original)
    }

    pub(in crate::learner) fn with_pixels(self, pixels: PixelProbs) -> Self {
        Self { pixels: Some(pixels), ..self }
    }

    /// The `k` largest outputs with what they stand for, the largest first: labels, or positions where
    /// there is no vocabulary.
    #[must_use]
    pub fn top_k(&self, k: usize) -> Vec<(String, f32)> {
        let mut order: Vec<usize> = (0..self.probs.len()).collect();
        order.sort_by(|a, b| self.probs[*b].total_cmp(&self.probs[*a]));
        let vocab = self.task.vocab();
        let name = |i: usize| vocab.get(i).cloned().unwrap_or_else(|| i.to_string());
        order.into_iter().take(k).map(|i| (name(i), self.probs[i])).collect()
    }

    pub(in crate::learner) fn new(probs: Vec<f32>, target: Target, task: &Task) -> Self {
        let index = (0..probs.len()).fold(0, |b, i| if probs[i] > probs[b] { i } else { b });
        let label = task.words(&target);
        Self { label, index, probs, target, task: task.clone(), pixels: None }
    }
}
