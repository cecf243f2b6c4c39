use super::{BatchSpec, BatchTransform, Plan};
use crate::{
    error::{Error, Result},
    sample::Split,
    seed::Rng,
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

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

    /// With the statistics of ImageNet, which torchvision's weights expect.
    #[must_use]
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// Normalized values N×C×H×W as they were before.
    pub fn undo(&self, x: &Tensor) -> Tensor {
        let of = |v: &[f32]| Tensor::from_slice(v).view([1, -1, 1, 1]).to_device(x.device());
        x * of(&self.std) + of(&self.mean)
    }
}

impl BatchTransform for Normalize {
    fn plan(&self, plan: &mut Plan, _: Split, _: &mut Rng) -> Result<()> {
        if self.mean.len() != usize::from(plan.channels) {
            let why =
                format!("{} statistics for images of {} channels", self.mean.len(), plan.channels);
            return Err(Error::config("Normalize", why));
        }
        plan.normalize = Some((self.mean.clone(), self.std.clone()));
        Ok(())
    }
    fn order(&self) -> i32 {
        99
    }
    fn spec(&self) -> Option<BatchSpec> {
        Some(BatchSpec::Normalize(self.clone()))
    }
}
