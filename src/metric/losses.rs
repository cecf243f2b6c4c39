//! The loss itself as a metric.

use super::{Better, Metric, mean::Total};
use crate::{
    error::{Error, Result},
    sample::Task,
};
use tch::{Kind, Tensor};

/// A function of the mean loss over the items. Returned by [`avg_loss`] and [`perplexity`].
#[derive(Debug)]
pub struct AvgLoss {
    name: &'static str,
    finish: fn(f64) -> f64,
    total: Total,
}

/// Returns the mean of the loss over the items: fastai's `AvgLoss`.
#[must_use]
pub fn avg_loss() -> AvgLoss {
    AvgLoss { name: "loss", finish: |mean| mean, total: Total::default() }
}

/// Returns `e` to the power of the mean loss: fastai's `Perplexity`, for a cross-entropy.
#[must_use]
pub fn perplexity() -> AvgLoss {
    AvgLoss { name: "perplexity", finish: f64::exp, total: Total::default() }
}

impl Metric for AvgLoss {
    fn name(&self) -> &str {
        self.name
    }
    fn reset(&mut self) {
        self.total = Total::default();
    }
    fn update(&mut self, _: &Tensor, _: &Tensor) -> Result<()> {
        Ok(())
    }
    fn update_loss(&mut self, loss: &Tensor, items: i64) -> Result<()> {
        self.total.add(loss.f_mean(Kind::Float)?, items)
    }
    fn value(&self) -> Result<Option<f64>> {
        Ok(self.total.mean()?.map(self.finish))
    }
    fn better(&self) -> Option<Better> {
        Some(Better::Lower)
    }
}

/// An exponential moving average of the loss, with bias correction: fastai's `AvgSmoothLoss`. Kept in 32
/// bits on the device, as in fastai.
#[derive(Debug)]
pub struct SmoothLoss {
    beta: f64,
    average: Option<Tensor>,
    count: i32,
}

/// Returns an exponential moving average of the loss, with the weight `beta` for the old average; the
/// default of fastai and its recorder is 0.98.
#[must_use]
pub fn avg_smooth_loss(beta: f64) -> SmoothLoss {
    SmoothLoss { beta, average: None, count: 0 }
}

impl Metric for SmoothLoss {
    fn name(&self) -> &str {
        "loss"
    }
    fn reset(&mut self) {
        (self.average, self.count) = (None, 0);
    }
    fn update(&mut self, _: &Tensor, _: &Tensor) -> Result<()> {
        Ok(())
    }
    fn update_loss(&mut self, loss: &Tensor, items: i64) -> Result<()> {
        if items == 0 {
            return Ok(());
        }
        let loss = loss.detach().f_mean(Kind::Float)?;
        let before = self.average.take().unwrap_or_else(|| loss.zeros_like());
        self.average = Some(loss.f_lerp(&before, self.beta)?);
        self.count += 1;
        Ok(())
    }
    fn value(&self) -> Result<Option<f64>> {
        let Some(average) = &self.average else { return Ok(None) };
        Ok(Some(f64::try_from(average)? / (1.0 - self.beta.powi(self.count))))
    }
    fn better(&self) -> Option<Better> {
        Some(Better::Lower)
    }
    fn check(&self, _: &Task) -> Result<()> {
        if (0.0..1.0).contains(&self.beta) {
            return Ok(());
        }
        let why = format!("`beta` is {}; it must be between 0 and 1", self.beta);
        Err(Error::config("avg_smooth_loss", why))
    }
}
