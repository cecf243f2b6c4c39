//! The scale of values that a model expects.

use super::{BatchSpec, BatchTransform, Plan};
use crate::{
    error::{Error, Result},
    sample::Split,
    seed::Rng,
};
use serde::{Deserialize, Serialize};

/// Takes away the mean of each channel and divides by its standard deviation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalize {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Normalize {
    /// With the mean and standard deviation of each channel, of values from 0 to 1.
    ///
    /// # Errors
    /// [`Error::Config`] if there are not as many of both, or a deviation is not above 0.
    pub fn new(mean: Vec<f32>, std: Vec<f32>) -> Result<Self> {
        if mean.len() != std.len() || std.iter().any(|s| s.is_nan() || *s <= 0.0) {
            let why = format!("{mean:?} and {std:?}: deviations are above 0, one for each mean");
            return Err(Error::config("Normalize", why));
        }
        Ok(Self { mean, std })
    }

    /// With known statistics of three channels.
    #[must_use]
    pub fn rgb(mean: [f32; 3], std: [f32; 3]) -> Self {
        Self { mean: mean.into(), std: std.into() }
    }

    /// With the statistics of ImageNet, which torchvision's weights expect.
    #[must_use]
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// The same for images of `n` channels: the mean of all statistics for one channel, repeated for those
    /// beyond what there are. Weights that are adapted to other channels expect this.
    ///
    /// ```
    /// use finetune::transform::Normalize;
    ///
    /// let gray = Normalize::imagenet().for_channels(1);
    /// assert!((gray.mean()[0] - 0.449).abs() < 1e-6);
    /// ```
    #[must_use]
    pub fn for_channels(&self, n: usize) -> Self {
        let adapted = |values: &[f32]| {
            let mean = values.iter().sum::<f32>() / values.len().max(1) as f32;
            if n == 1 {
                return vec![mean];
            }
            (0..n).map(|i| values.get(i).copied().unwrap_or(mean)).collect()
        };
        Self { mean: adapted(&self.mean), std: adapted(&self.std) }
    }

    /// The mean of each channel.
    #[must_use]
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The standard deviation of each channel.
    #[must_use]
    pub fn std(&self) -> &[f32] {
        &self.std
    }
}

impl BatchTransform for Normalize {
    fn plan(&self, plan: &mut Plan, _: Split, _: &mut Rng) -> Result<()> {
        plan.normalize(&self.mean, &self.std)
    }
    fn order(&self) -> i32 {
        99
    }
    fn spec(&self) -> Option<BatchSpec> {
        Some(BatchSpec::Normalize(self.clone()))
    }
}
