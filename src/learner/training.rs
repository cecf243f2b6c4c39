//! The state of a training: all that a callback may read or change.

use super::History;
use crate::{
    data::DataLoaders, error::Result, loss::Loss, metric::Metric, model::Model, optim::Optimizer,
    sample::Split, seed::Seed, sys,
};
use tch::{Kind, Tensor};

/// The training in progress: all that a callback may read or change.
#[derive(Debug)]
#[non_exhaustive]
pub struct Training {
    /// The network with its weights.
    pub model: Model,
    /// What changes the weights.
    pub opt: Optimizer,
    /// What is minimised.
    pub loss: Box<dyn Loss>,
    /// The data.
    pub dls: DataLoaders,
    /// What is reported beside the loss.
    pub metrics: Vec<Box<dyn Metric>>,
    /// What was recorded so far in this fit.
    pub history: History,
    /// Where the training is.
    pub at: Position,
    /// The number format of the forward pass.
    pub precision: Precision,
    /// Where every random number comes from.
    pub seed: Seed,
}

/// Where a training is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Training or validation.
    pub split: Split,
    /// The epoch of this fit, from 0.
    pub epoch: usize,
    /// The epochs of this fit.
    pub epochs: usize,
    /// The batch of this part, from 0.
    pub batch: usize,
    /// The batches of this part.
    pub batches: usize,
    /// The training batches of this fit so far.
    pub fit_batches: usize,
    /// The training batches of all fits so far: what dropout's stream is addressed by.
    pub step: u64,
    /// The passes over the training data of all fits so far: what the order and the augmentation of
    /// the data are addressed by.
    pub pass: u64,
}

impl Position {
    pub(super) fn start() -> Self {
        Self {
            split: Split::Train,
            epoch: 0,
            epochs: 0,
            batch: 0,
            batches: 0,
            fit_batches: 0,
            step: 0,
            pass: 0,
        }
    }

    /// How much of the fit is done, from 0 to 1: what schedules are a function of.
    #[must_use]
    pub fn done(&self) -> f64 {
        let batches = self.batches.max(1) as f64;
        (self.epoch as f64 + self.batch as f64 / batches) / self.epochs.max(1) as f64
    }

    /// Whether this is training, not validation.
    #[must_use]
    pub fn training(&self) -> bool {
        self.split == Split::Train
    }
}

/// The number format of the forward and backward pass. Weights are always 32-bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Full,
    /// 16-bit floats where they are safe, chosen by libtorch operation by operation. Needs a GPU and a
    /// scaled loss.
    Half,
    /// bfloat16 where it is safe, chosen by libtorch operation by operation.
    BFloat16,
}

impl Training {
    /// The model's output for `x`, in 32 bits, in the precision chosen, as the current part wants it:
    /// with dropout and batch statistics in training, without in validation.
    ///
    /// # Errors
    /// If the device does not offer the precision.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_as(x, self.at.training())
    }

    pub(super) fn forward_as(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let kind = match self.precision {
            Precision::Full => return Ok(self.model.forward(x, train)),
            Precision::Half => Kind::Half,
            Precision::BFloat16 => Kind::BFloat16,
        };
        let _cast = sys::Autocast::enter(self.model.device(), kind)?;
        Ok(self.model.forward(x, train).to_kind(Kind::Float))
    }
}
