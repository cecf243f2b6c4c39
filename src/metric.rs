//! What is reported of a validation.

use crate::error::Result;
use std::fmt::Debug;
use tch::{Kind, Tensor};

/// A number about the predictions of a whole epoch.
pub trait Metric: Debug {
    /// Its column in the table of epochs.
    fn name(&self) -> &str;
    /// Forgets all batches.
    fn reset(&mut self);
    /// Takes in a batch: the model's output before any activation, and the targets.
    ///
    /// # Errors
    /// If the metric cannot be had of such predictions.
    fn update(&mut self, pred: &Tensor, y: &Tensor) -> Result<()>;
    /// The number for the batches since the last reset; none if there were none.
    ///
    /// # Errors
    /// If the metric cannot be had of such predictions.
    fn value(&self) -> Result<Option<f64>>;
}

/// The mean of a function over the items of an epoch: fastai's `AvgMetric`.
#[derive(derive_more::Debug)]
pub struct Mean<F> {
    name: String,
    #[debug(skip)]
    f: F,
    total: f64,
    count: i64,
}

impl<F: Fn(&Tensor, &Tensor) -> Result<f64>> Mean<F> {
    /// A metric from a function of predictions and targets that gives a batch's mean.
    pub fn new(name: impl Into<String>, f: F) -> Self {
        Self { name: name.into(), f, total: 0.0, count: 0 }
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<f64>> Metric for Mean<F> {
    fn name(&self) -> &str {
        &self.name
    }
    fn reset(&mut self) {
        (self.total, self.count) = (0.0, 0);
    }
    fn update(&mut self, pred: &Tensor, y: &Tensor) -> Result<()> {
        let n = y.size().first().copied().unwrap_or(1);
        self.total += (self.f)(pred, y)? * n as f64;
        self.count += n;
        Ok(())
    }
    fn value(&self) -> Result<Option<f64>> {
        Ok((self.count > 0).then(|| self.total / self.count as f64))
    }
}

fn right(pred: &Tensor, y: &Tensor) -> Result<f64> {
    let right = pred.f_argmax(-1, false)?.f_eq_tensor(y)?;
    Ok(f64::try_from(right.to_kind(Kind::Float).mean(Kind::Float))?)
}

/// The part of the items whose highest output is the target's: fastai's `accuracy`.
#[must_use]
pub fn accuracy() -> Mean<impl Fn(&Tensor, &Tensor) -> Result<f64>> {
    Mean::new("accuracy", right)
}

/// One minus the accuracy: fastai's `error_rate`.
#[must_use]
pub fn error_rate() -> Mean<impl Fn(&Tensor, &Tensor) -> Result<f64>> {
    Mean::new("error_rate", |pred, y| Ok(1.0 - right(pred, y)?))
}
