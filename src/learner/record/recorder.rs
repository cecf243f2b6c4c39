//! Writes the history of a fit.

use super::metrics;
use crate::{
    error::{Error, Result},
    learner::{
        Callback, EpochRow, History, Outcome, Scope, Step, Training, order, training::state::Run,
    },
    sample::Batch,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use tch::{Device, Kind, Tensor};

/// The number of batches after which the losses are read from a GPU, which blocks until it is done.
const READ_EVERY: usize = 10;

/// The mean of batch losses, weighted by the number of items. Kept on the device, so that no batch waits
/// for it.
#[derive(Debug, Default)]
struct Mean {
    total: Option<Tensor>,
    count: usize,
}

impl Mean {
    fn add(&mut self, loss: &Tensor, items: usize) -> Result<()> {
        let weighted = loss.detach().f_mean(Kind::Double)?.f_mul_scalar(items as f64)?;
        self.total = Some(match self.total.take() {
            Some(total) => total.f_add(&weighted)?,
            None => weighted,
        });
        self.count += items;
        Ok(())
    }

    fn value(&self) -> Result<Option<f64>> {
        let Some(total) = &self.total else { return Ok(None) };
        Ok(Some(f64::try_from(total)? / self.count as f64))
    }
}

/// Records the history of a fit: losses and learning rates of each step, a row for each epoch.
///
/// On a GPU, the losses reach the history up to ten steps late, and completely at the end of each part, so
/// that no step waits for the device.
#[derive(Debug)]
pub(in crate::learner) struct Recorder {
    /// If true, the metrics are reported for training batches too.
    pub(in crate::learner) train_metrics: bool,
    valid: Mean,
    row: Vec<Option<f64>>,
    cancelled: Option<Scope>,
    began: Instant,
    /// True if the training metrics of this epoch lack the batches before it was resumed.
    incomplete: bool,
    /// The columns that have already been NaN or infinite in this fit.
    told: BTreeSet<usize>,
}

/// The key of its notes and tensors in a checkpoint.
const OWNER: &str = "Recorder";

impl Recorder {
    pub(in crate::learner) fn new() -> Self {
        Self {
            train_metrics: false,
            valid: Mean::default(),
            row: vec![],
            cancelled: None,
            began: Instant::now(),
            incomplete: false,
            told: BTreeSet::new(),
        }
    }

    /// Returns the values of the metrics.
    fn values(&self, t: &mut Training) -> Result<Vec<Option<f64>>> {
        if self.train_columns(t) + 1 + t.metrics.len() != self.row.len() {
            let why = "their number changed during the fit; add metrics before the fit";
            return Err(Error::mismatch("metrics", why));
        }
        metrics::values(&mut t.metrics)
    }

    /// Reports columns that are NaN or infinite, each once per fit.
    fn tell_of_nan(&mut self, t: &mut Training) {
        for (i, value) in self.row.iter().enumerate() {
            let Some(value) = value.filter(|v| !v.is_finite()) else { continue };
            if self.told.insert(i) {
                let (name, epoch) =
                    (t.history.names.get(i).cloned().unwrap_or_default(), t.at.epoch);
                t.say(format!("{name} is {value} in epoch {epoch}"));
            }
        }
    }

    /// Returns the number of columns before those of the validation.
    fn train_columns(&self, t: &Training) -> usize {
        1 + if self.train_metrics { t.metrics.len() } else { 0 }
    }
}

impl Callback for Recorder {
    fn name(&self) -> &str {
        "Recorder"
    }

    fn order(&self) -> i32 {
        order::RECORDER
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        t.unread.clear();
        let (names, better) = metrics::columns(self.train_metrics, &t.metrics)?;
        if !t.is_resumed() || t.history.names != names {
            t.history = History { names, ..History::default() };
        }
        t.history.better = better;
        self.told.clear();
        Ok(())
    }

    fn before_epoch(&mut self, t: &mut Training) -> Step {
        self.began = Instant::now();
        if let (true, Some(seconds)) = (t.is_resumed(), t.notes.get(OWNER).and_then(Value::as_f64))
        {
            let before = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            self.began = self.began.checked_sub(before).unwrap_or(self.began);
        }
        self.cancelled = None;
        self.row = vec![None; t.history.names.len()];
        Ok(())
    }

    fn before_train(&mut self, t: &mut Training) -> Step {
        metrics::reset(&mut t.metrics)?;
        self.incomplete = false;
        if t.is_resumed() && self.train_metrics {
            let kept = t.tensors.remove(OWNER).unwrap_or_default();
            self.incomplete = kept.is_empty() && t.at.batch > 0;
            for (i, metric) in t.metrics.iter_mut().enumerate().filter(|_| !kept.is_empty()) {
                let own = format!("{i}.");
                let of = |(name, t): &(String, Tensor)| {
                    Some((name.strip_prefix(&own)?.to_owned(), t.shallow_clone()))
                };
                metric.load_state(&kept.iter().filter_map(of).collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }

    fn before_checkpoint(&mut self, t: &mut Training) -> Step {
        t.notes.insert(OWNER.to_owned(), self.began.elapsed().as_secs_f64().into());
        if self.train_metrics {
            let states = t.metrics.iter().enumerate().map(|(i, m)| {
                let named = |(name, t)| (format!("{i}.{name}"), t);
                Some(m.state()?.into_iter().map(named).collect::<Vec<_>>())
            });
            // All or none: a row is complete, or a message says that it is not.
            let all = states.collect::<Option<Vec<_>>>().unwrap_or_default();
            t.tensors.insert(OWNER.to_owned(), all.into_iter().flatten().collect());
        }
        Ok(())
    }

    fn before_validate(&mut self, t: &mut Training) -> Step {
        t.read_losses()?;
        self.valid = Mean::default();
        Ok(metrics::reset(&mut t.metrics)?)
    }

    fn after_batch(&mut self, t: &mut Training, batch: &Batch, outcome: &Outcome) -> Step {
        // A batch that was cancelled before its loss has nothing to record.
        let (Some(y), Some(pred), Some(loss)) = (&batch.y, &outcome.pred, &outcome.loss) else {
            return Ok(());
        };
        if t.at.is_training() {
            let hypers = t.opt.hypers().last();
            t.history.lrs.push(hypers.map_or(0.0, |h| h.lr));
            t.history.moms.push(hypers.map_or(0.0, |h| h.mom));
            t.history.hypers.push(t.opt.hypers().to_vec());
            t.unread.push((t.at.batch, loss.detach()));
            let at_once = loss.device() == Device::Cpu || !matches!(t.run, Run::Fit);
            if at_once || t.unread.len() >= READ_EVERY {
                t.read_losses()?;
            }
            if self.train_metrics {
                let (pred, all) = t.whole_batch(pred, batch)?;
                metrics::update(&mut t.metrics, &pred, &all, loss)?;
            }
        } else {
            self.valid.add(loss, y.size().first().map_or(1, |n| *n as usize))?;
            metrics::update(&mut t.metrics, pred, batch, loss)?;
        }
        Ok(())
    }

    fn after_cancel(&mut self, _: &mut Training, scope: Scope) -> Step {
        self.cancelled = Some(scope);
        Ok(())
    }

    fn after_train(&mut self, t: &mut Training) -> Step {
        t.read_losses()?;
        if self.cancelled == Some(Scope::Train) {
            return Ok(());
        }
        self.row[0] = t.history.losses.last().copied();
        if self.train_metrics && self.incomplete {
            let epoch = t.at.epoch;
            t.say(format!(
                "epoch {epoch} was resumed, but not all metrics can be resumed: its training metrics are left out"
            ));
        } else if self.train_metrics {
            let values = self.values(t)?;
            self.row[1..=values.len()].copy_from_slice(&values);
        }
        Ok(())
    }

    fn after_validate(&mut self, t: &mut Training) -> Step {
        if self.cancelled == Some(Scope::Validate) {
            return Ok(());
        }
        let values = self.values(t)?;
        let at = self.train_columns(t);
        self.row[at] = self.valid.value()?;
        self.row[at + 1..].copy_from_slice(&values);
        self.tell_of_nan(t);
        Ok(())
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        let values = std::mem::take(&mut self.row);
        let seconds = self.began.elapsed().as_secs_f64();
        t.history.rows.push(EpochRow { epoch: t.at.epoch, values, seconds });
        t.history.iters.push(t.history.losses.len());
        Ok(())
    }

    fn after_fit(&mut self, t: &mut Training) -> Step {
        // A NaN loss has already been reported; read the losses so that the end is in the history.
        let _ = t.read_losses();
        Ok(())
    }
}
