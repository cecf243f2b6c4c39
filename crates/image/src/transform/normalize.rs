//! Normalization.

use super::{BatchSpec, BatchTransform, Plan};
use crate::{
    error::{Error, Result},
    sample::Split,
    seed::Rng,
};
use serde::{Deserialize, Serialize};

/// Subtracts the mean of each channel and divides by its standard deviation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalize {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Normalize {
    /// Creates a normalization from the mean and standard deviation of each channel, for values between
    /// 0 and 1.
    ///
    /// # Errors
    /// [`Error::Config`] if the lengths differ, a mean is not finite, or a deviation is not finite and above 0.
    pub fn new(mean: Vec<f32>, std: Vec<f32>) -> Result<Self> {
        let new = Self { mean, std };
        new.check()?;
        Ok(new)
    }

    /// Creates a normalization from known statistics of three channels. If they are invalid,
    /// [`check`](BatchTransform::check) returns the error of [`Normalize::new`], before any batch is loaded.
    #[must_use]
    pub fn rgb(mean: [f32; 3], std: [f32; 3]) -> Self {
        Self { mean: mean.into(), std: std.into() }
    }

    /// Returns the normalization with the statistics of ImageNet, which torchvision's weights expect.
    #[must_use]
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// Returns the normalization for images of `n` channels, as weights that are adapted to other
    /// channels expect it: for one channel, the mean of all statistics; further channels repeat the
    /// statistics.
    ///
    /// ```
    /// use finetune::transform::Normalize;
    ///
    /// let gray = Normalize::imagenet().for_channels(1);
    /// assert!((gray.mean()[0] - 0.449).abs() < 1e-6);
    /// ```
    ///
    /// # Panics
    /// As [`Vec::with_capacity`], if `n` numbers need more than `isize::MAX` bytes.
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

    /// Returns the mean of each channel.
    #[must_use]
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Returns the standard deviation of each channel.
    #[must_use]
    pub fn std(&self) -> &[f32] {
        &self.std
    }
}

impl BatchTransform for Normalize {
    fn plan(&self, plan: &mut Plan, _: Split, _: &mut Rng) -> Result<()> {
        self.check()?;
        plan.normalize(&self.mean, &self.std)
    }
    fn check(&self) -> Result<()> {
        let Self { mean, std } = self;
        let valid = mean.len() == std.len()
            && mean.iter().all(|m| m.is_finite())
            && std.iter().all(|s| s.is_finite() && *s > 0.0);
        if valid {
            return Ok(());
        }
        let why = format!(
            "means {mean:?} and deviations {std:?}: each mean must be finite, with one deviation that is finite \
             and above 0"
        );
        Err(Error::config("Normalize", why))
    }
    fn order(&self) -> i32 {
        99
    }
    fn spec(&self) -> Option<BatchSpec> {
        Some(BatchSpec::Normalize(self.clone()))
    }
}
