//! What was recorded of the last fit.

use super::duration::time;
use crate::{error::Result, metric::Better, optim::Hypers};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How much of the old average stays in the smoothed loss.
const BETA: f64 = 0.98;

/// An exponential average with bias correction, in 32 bits as fastai keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(in crate::learner) struct Smooth {
    value: f32,
    count: i32,
}

impl Smooth {
    pub(in crate::learner) fn add(&mut self, loss: f32) -> f64 {
        self.count += 1;
        // torch.lerp takes this form for weights of a half and more.
        self.value -= (self.value - loss) * (1.0 - BETA as f32);
        f64::from(self.value / (1.0 - BETA.powi(self.count)) as f32)
    }
}

/// One line of the table of a fit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EpochRow {
    /// The epoch, from 0.
    pub epoch: usize,
    /// A value for each column of [`History::names`]; none where that part was cancelled or had no
    /// batches.
    pub values: Vec<Option<f64>>,
    /// How long the epoch took, in seconds.
    pub seconds: f64,
}

impl EpochRow {
    /// The cells of the table: the epoch, the values with six digits, minutes and seconds.
    pub(crate) fn cells(&self) -> Vec<String> {
        let value = |v: &Option<f64>| v.map_or_else(String::new, |v| format!("{v:.6}"));
        let mut cells = vec![self.epoch.to_string()];
        cells.extend(self.values.iter().map(value));
        cells.push(time(self.seconds));
        cells
    }
}

/// What was recorded of the last fit: fastai's `recorder`.
///
/// It begins anew with each fit, and prediction does not touch it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// The columns of the table: `train_loss`, `valid_loss`, then the metrics.
    pub names: Vec<String>,
    /// The table, an epoch a row.
    pub rows: Vec<EpochRow>,
    /// The smoothed training loss after each step: an exponential average with bias correction.
    pub losses: Vec<f64>,
    /// The training loss of each step, as it was.
    pub raw_losses: Vec<f64>,
    /// The learning rate of the last group at each step.
    pub lrs: Vec<f64>,
    /// The momentum of the last group at each step.
    pub moms: Vec<f64>,
    /// All hyperparameters of each group at each step.
    pub hypers: Vec<Vec<Hypers>>,
    /// The number of steps done at the end of each epoch.
    pub iters: Vec<usize>,
    /// What callbacks had to say: why a fit ended early, where a better model was found.
    pub messages: Vec<String>,
    pub(in crate::learner) smooth: Smooth,
    /// Which values of each column are better, where that is known.
    pub(in crate::learner) better: Vec<Option<Better>>,
}

impl History {
    /// The head of the table: `epoch`, the names, `time`.
    pub(crate) fn head(&self) -> Vec<String> {
        let mut head = vec!["epoch".to_owned()];
        head.extend(self.names.iter().cloned());
        head.push("time".to_owned());
        head
    }

    /// The value of column `name` in the last row; none if there is no such row, column or value.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<f64> {
        self.column(name).last().copied().flatten()
    }

    /// Returns which values of column `name` are better; none if there is no such column, or its metric does
    /// not say.
    #[must_use]
    pub fn better(&self, name: &str) -> Option<Better> {
        let i = self.names.iter().position(|n| n == name)?;
        self.better.get(i).copied().flatten()
    }

    /// The values of column `name`, an epoch each; empty if there is no such column.
    #[must_use]
    pub fn column(&self, name: &str) -> Vec<Option<f64>> {
        let Some(i) = self.names.iter().position(|n| n == name) else { return vec![] };
        self.rows.iter().map(|row| row.values.get(i).copied().flatten()).collect()
    }
}

/// A loss as a number; this waits for the device.
pub(crate) fn number(loss: &Tensor) -> Result<f32> {
    Ok(f32::try_from(loss.detach().f_mean(Kind::Float)?)?)
}
