//! The record of the last fit.

use super::duration::time;
use crate::{error::Result, metric::Better, optim::Hypers};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// The weight of the old average in the smoothed loss.
const BETA: f64 = 0.98;

/// Exponential average with bias correction, in 32 bits as in fastai.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(in crate::learner) struct Smooth {
    value: f32,
    count: i32,
}

impl Smooth {
    pub(in crate::learner) fn add(&mut self, loss: f32) -> f64 {
        self.count = self.count.saturating_add(1);
        // torch.lerp uses this form for weights of 0.5 and more.
        self.value -= (self.value - loss) * (1.0 - BETA as f32);
        f64::from(self.value / (1.0 - BETA.powi(self.count)) as f32)
    }
}

/// One row of the table of a fit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EpochRow {
    /// The epoch, from 0.
    pub epoch: usize,
    /// A value for each column of [`History::names`]; `None` if that part was cancelled or had no batches.
    pub values: Vec<Option<f64>>,
    /// The duration of the epoch, in seconds.
    pub seconds: f64,
}

impl EpochRow {
    /// Returns the cells of the table: the epoch, the values with six digits, minutes and seconds.
    pub(crate) fn cells(&self) -> Vec<String> {
        let value = |v: &Option<f64>| v.map_or_else(String::new, |v| format!("{v:.6}"));
        let mut cells = vec![self.epoch.to_string()];
        cells.extend(self.values.iter().map(value));
        cells.push(time(self.seconds));
        cells
    }
}

/// The record of the last fit: fastai's `recorder`.
///
/// Each fit clears it; prediction does not change it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// The columns of the table: `train_loss`, `valid_loss`, then the metrics.
    pub names: Vec<String>,
    /// The table, one row per epoch.
    pub rows: Vec<EpochRow>,
    /// The smoothed training loss after each step: an exponential average with bias correction.
    pub losses: Vec<f64>,
    /// The raw training loss of each step.
    pub raw_losses: Vec<f64>,
    /// The learning rate of the last group at each step.
    pub lrs: Vec<f64>,
    /// The momentum of the last group at each step.
    pub moms: Vec<f64>,
    /// All hyperparameters of each group at each step.
    pub hypers: Vec<Vec<Hypers>>,
    /// The number of completed steps at the end of each epoch.
    pub iters: Vec<usize>,
    /// Messages of callbacks, for example why a fit ended early or where a better model was found.
    pub messages: Vec<String>,
    pub(in crate::learner) smooth: Smooth,
    /// Which values of each column are better, if known.
    pub(in crate::learner) better: Vec<Option<Better>>,
}

impl History {
    /// Returns the header of the table: `epoch`, the names, `time`.
    pub(crate) fn head(&self) -> Vec<String> {
        let mut head = vec!["epoch".to_owned()];
        head.extend(self.names.iter().cloned());
        head.push("time".to_owned());
        head
    }

    /// Returns the value of column `name` in the last row; `None` if there is no such row, column or value.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<f64> {
        self.column(name).last().copied().flatten()
    }

    /// Returns which values of column `name` are better; `None` if the column does not exist, or its metric
    /// does not define it.
    #[must_use]
    pub fn better(&self, name: &str) -> Option<Better> {
        let i = self.names.iter().position(|n| n == name)?;
        self.better.get(i).copied().flatten()
    }

    /// Returns the values of column `name`, one per epoch; empty if the column does not exist.
    #[must_use]
    pub fn column(&self, name: &str) -> Vec<Option<f64>> {
        let Some(i) = self.names.iter().position(|n| n == name) else { return vec![] };
        self.rows.iter().map(|row| row.values.get(i).copied().flatten()).collect()
    }
}

/// Returns a loss as a number; waits for the device.
pub(crate) fn number(loss: &Tensor) -> Result<f32> {
    Ok(f32::try_from(loss.detach().f_mean(Kind::Float)?)?)
}
