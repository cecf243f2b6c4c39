//! A column of the table of epochs and its best value.

use crate::{
    error::{Error, Result},
    learner::Training,
    metric::Better,
};
use serde::{Deserialize, Serialize};

/// A column of the table of epochs and its best value so far: the state of fastai's
/// `TrackerCallback`.
#[derive(Debug, Clone)]
pub struct Monitor {
    column: String,
    better: Option<Better>,
    min_delta: f64,
    reset_on_fit: bool,
    best: Option<f64>,
    waited: usize,
}

/// The state of a monitor in a checkpoint.
#[derive(Serialize, Deserialize)]
struct Note {
    best: Option<f64>,
    waited: usize,
}

impl Monitor {
    /// Creates a monitor of `column`: `train_loss`, `valid_loss`, or the name of a metric.
    #[must_use]
    pub fn new(column: impl Into<String>) -> Self {
        let column = column.into();
        Self { column, better: None, min_delta: 0.0, reset_on_fit: true, best: None, waited: 0 }
    }

    /// Sets whether higher or lower values are better. Default: the direction of the metric,
    /// [`Metric::better`](crate::metric::Metric::better); lower for losses.
    #[must_use]
    pub fn better(mut self, better: Better) -> Self {
        self.better = Some(better);
        self
    }

    /// Sets the minimum improvement over the best value. Default: 0.
    #[must_use]
    pub fn min_delta(mut self, delta: f64) -> Self {
        self.min_delta = delta;
        self
    }

    /// If true, each fit starts without a best value. Default: true.
    #[must_use]
    pub fn reset_on_fit(mut self, yes: bool) -> Self {
        self.reset_on_fit = yes;
        self
    }

    /// Returns the column.
    #[must_use]
    pub fn column(&self) -> &str {
        &self.column
    }

    /// Describes the monitored value and its options.
    pub(super) fn description(&self) -> String {
        format!("{}, {:?} by {}", self.column, self.better, self.min_delta)
    }

    /// Returns the best value so far; infinite before the first.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.best.unwrap_or(match self.better {
            Some(Better::Higher) => f64::NEG_INFINITY,
            Some(Better::Lower) | None => f64::INFINITY,
        })
    }

    /// Returns true if each fit starts without a best value.
    pub(super) fn resets(&self) -> bool {
        self.reset_on_fit
    }

    /// Returns the number of epochs since the last better value, or since [`Monitor::restart`].
    pub(super) fn waited(&self) -> usize {
        self.waited
    }

    /// Restarts the count of epochs without improvement.
    pub(super) fn restart(&mut self) {
        self.waited = 0;
    }

    /// Starts a fit and checks that the column exists. A resumed fit continues with the notes of
    /// `owner`.
    pub(super) fn start(&mut self, t: &Training, owner: &str) -> Result<()> {
        if !t.history.names.contains(&self.column) {
            let why = format!(
                "there is no column `{}`: there are {}",
                self.column,
                t.history.names.join(", ")
            );
            return Err(Error::config("monitor", why));
        }
        self.better = self.better.or_else(|| t.history.better(&self.column));
        if self.better.is_none() {
            let why = format!(
                "the metric `{0}` does not define which values are better: use \
                 `Monitor::new(\"{0}\").better(Better::Lower)`, or `Higher`",
                self.column
            );
            return Err(Error::config("monitor", why));
        }
        if self.min_delta.is_nan() || self.min_delta < 0.0 {
            let why = format!("is {}; it must be 0 or more", self.min_delta);
            return Err(Error::config("min_delta", why));
        }
        let of_validation = t.history.names.iter().position(|n| n == "valid_loss");
        let at = t.history.names.iter().position(|n| *n == self.column);
        if at >= of_validation && t.dls.valid().num_batches() == 0 {
            let why = format!(
                "`{}` is computed in validation, but there are no validation items: monitor \
                 `train_loss`, or choose another splitter",
                self.column
            );
            return Err(Error::config("monitor", why));
        }
        self.waited = 0;
        if self.reset_on_fit {
            self.best = None;
        }
        if let (true, Some(note)) = (t.is_resumed(), t.notes.get(&self.key(owner))) {
            let note: Note = serde_json::from_value(note.clone()).map_err(Error::other)?;
            (self.best, self.waited) = (note.best, note.waited);
        }
        Ok(())
    }

    /// Returns true if the last epoch is the best one. Returns false for an epoch without the value, or
    /// with NaN.
    pub(super) fn improved(&mut self, t: &Training) -> bool {
        let value = t.history.last(&self.column).unwrap_or(f64::NAN);
        let improved = match self.better {
            Some(Better::Higher) => value - self.min_delta > self.best(),
            Some(Better::Lower) | None => value + self.min_delta < self.best(),
        };
        if improved {
            self.best = Some(value);
            self.waited = 0;
        } else {
            self.waited += 1;
        }
        improved
    }

    /// Stores the state for a checkpoint in the notes of `owner`.
    pub(super) fn note(&self, t: &mut Training, owner: &str) -> Result<()> {
        let note = Note { best: self.best, waited: self.waited };
        let note = serde_json::to_value(note).map_err(Error::other)?;
        t.notes.insert(self.key(owner), note);
        Ok(())
    }

    /// Returns the text of [`Callback::exclusive`](crate::learner::Callback::exclusive) for `owner`.
    pub(super) fn exclusive(&self, owner: &str) -> String {
        format!("stores its state in checkpoints as `{}`", self.key(owner))
    }

    /// Returns the key of the state of `owner` in a checkpoint.
    pub(super) fn key(&self, owner: &str) -> String {
        format!("{owner}.{}", self.column)
    }
}

impl<S: Into<String>> From<S> for Monitor {
    fn from(column: S) -> Self {
        Self::new(column)
    }
}
