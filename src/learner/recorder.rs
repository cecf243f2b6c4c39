//! Writes the history of a fit.

use super::{Callback, Outcome, Row, Scope, Step, Training, order};
use crate::{error::Result, metric::Metric, sample::Batch};
use std::time::Instant;
use tch::{Kind, Tensor};

/// How much of the old average stays in the smoothed loss.
const BETA: f64 = 0.98;

/// An exponential average with bias correction, in 32 bits as fastai keeps it.
#[derive(Debug, Default)]
struct Smooth {
    value: f32,
    count: i32,
}

impl Smooth {
    fn add(&mut self, loss: f32) -> f64 {
        self.count += 1;
        // torch.lerp takes this form for weights of a half and more.
        self.value -= (self.value - loss) * (1.0 - BETA as f32);
        f64::from(self.value / (1.0 - BETA.powi(self.count)) as f32)
    }
}

/// The mean of the losses of batches, each with the weight of its items.
#[derive(Debug, Default)]
struct Mean {
    total: f64,
    count: usize,
}

/// Writes the history of a fit: losses and learning rates of each step, a row for each epoch.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Whether the metrics are reported for the training batches too.
    pub(super) train_metrics: bool,
    smooth: Smooth,
    valid: Mean,
    row: Vec<Option<f64>>,
    cancelled: Option<Scope>,
    began: Instant,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self {
            train_metrics: false,
            smooth: Smooth::default(),
            valid: Mean::default(),
            row: vec![],
            cancelled: None,
            began: Instant::now(),
        }
    }

    /// The columns before those of the validation.
    fn train_columns(&self, t: &Training) -> usize {
        1 + if self.train_metrics { t.metrics.len() } else { 0 }
    }
}

fn names(train_metrics: bool, metrics: &[Box<dyn Metric>]) -> Vec<String> {
    let named = |prefix: &str| metrics.iter().map(|m| format!("{prefix}{}", m.name())).collect();
    let (train, valid): (Vec<_>, Vec<_>) =
        if train_metrics { (named("train_"), named("valid_")) } else { (vec![], named("")) };
    let one = |name: &str| std::iter::once(name.to_owned());
    one("train_loss").chain(train).chain(one("valid_loss")).chain(valid).collect()
}

fn values(metrics: &[Box<dyn Metric>]) -> Result<Vec<Option<f64>>> {
    metrics.iter().map(|m| m.value()).collect()
}

fn update(metrics: &mut [Box<dyn Metric>], pred: &Tensor, y: &Tensor) -> Result<()> {
    let pred = pred.detach();
    metrics.iter_mut().try_for_each(|m| m.update(&pred, y))
}

/// A loss as a number; this waits for the device.
pub(super) fn number(loss: &Tensor) -> Result<f32> {
    Ok(f32::try_from(loss.detach().mean(Kind::Float))?)
}

impl Callback for Recorder {
    fn name(&self) -> &str {
        "Recorder"
    }

    fn order(&self) -> i32 {
        order::RECORDER
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        t.history = super::History {
            names: names(self.train_metrics, &t.metrics),
            ..super::History::default()
        };
        self.smooth = Smooth::default();
        Ok(())
    }

    fn before_epoch(&mut self, t: &mut Training) -> Step {
        self.began = Instant::now();
        self.cancelled = None;
        self.row = vec![None; t.history.names.len()];
        Ok(())
    }

    fn before_train(&mut self, t: &mut Training) -> Step {
        t.metrics.iter_mut().for_each(|m| m.reset());
        Ok(())
    }

    fn before_validate(&mut self, t: &mut Training) -> Step {
        self.valid = Mean::default();
        t.metrics.iter_mut().for_each(|m| m.reset());
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, batch: &Batch, outcome: &Outcome) -> Step {
        // A batch that was cancelled before its loss has nothing to record.
        let (Some(y), Some(pred), Some(loss)) = (&batch.y, &outcome.pred, &outcome.loss) else {
            return Ok(());
        };
        let loss = number(loss)?;
        if t.at.training() {
            let hypers = t.opt.hypers().last();
            t.history.lrs.push(hypers.map_or(0.0, |h| h.lr));
            t.history.moms.push(hypers.map_or(0.0, |h| h.mom));
            t.history.hypers.push(t.opt.hypers().to_vec());
            t.history.raw_losses.push(f64::from(loss));
            t.history.losses.push(self.smooth.add(loss));
            if self.train_metrics {
                update(&mut t.metrics, pred, y)?;
            }
        } else {
            self.valid.total += f64::from(loss) * y.size()[0] as f64;
            self.valid.count += y.size()[0] as usize;
            update(&mut t.metrics, pred, y)?;
        }
        Ok(())
    }

    fn after_cancel(&mut self, _: &mut Training, scope: Scope) -> Step {
        self.cancelled = Some(scope);
        Ok(())
    }

    fn after_train(&mut self, t: &mut Training) -> Step {
        if self.cancelled == Some(Scope::Train) {
            return Ok(());
        }
        self.row[0] = t.history.losses.last().copied();
        if self.train_metrics {
            self.row[1..=t.metrics.len()].clone_from_slice(&values(&t.metrics)?);
        }
        Ok(())
    }

    fn after_validate(&mut self, t: &mut Training) -> Step {
        if self.cancelled == Some(Scope::Validate) {
            return Ok(());
        }
        let at = self.train_columns(t);
        let Mean { total, count } = self.valid;
        self.row[at] = (count > 0).then(|| total / count as f64);
        self.row[at + 1..].clone_from_slice(&values(&t.metrics)?);
        Ok(())
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        let values = std::mem::take(&mut self.row);
        let seconds = self.began.elapsed().as_secs_f64();
        t.history.rows.push(Row { epoch: t.at.epoch, values, seconds });
        t.history.iters.push(t.history.losses.len());
        Ok(())
    }
}
