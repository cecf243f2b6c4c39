//! A value of the table of epochs, and its best so far.

use crate::{
    error::{Error, Result},
    learner::Training,
};

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The lower one, as for losses.
    Lower,
    /// The higher one, as for accuracies.
    Higher,
}

/// A column of the table of epochs, and its best value so far: what fastai's `TrackerCallback` keeps.
#[derive(Debug, Clone)]
pub struct Monitor {
    column: String,
    better: Better,
    min_delta: f64,
    best: f64,
}

impl Monitor {
    /// Watches `column`. Lower is better if its name contains `loss` or `error`, else higher.
    #[must_use]
    pub fn new(column: impl Into<String>) -> Self {
        let column = column.into();
        let lower = column.contains("loss") || column.contains("error");
        let better = if lower { Better::Lower } else { Better::Higher };
        Self { column, better, min_delta: 0.0, best: worst(better) }
    }

    /// Which value is better. Default: by the name of the column.
    #[must_use]
    pub fn better(mut self, better: Better) -> Self {
        self.better = better;
        self
    }

    /// By how much a value must be better than the best to count. Default: 0.
    #[must_use]
    pub fn min_delta(mut self, delta: f64) -> Self {
        self.min_delta = delta;
        self
    }

    /// The best value so far; infinite before the first.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.best
    }

    /// Forgets the best value, and checks that there is such a column.
    pub(super) fn start(&mut self, t: &Training) -> Result<()> {
        if !t.history.names.contains(&self.column) {
            let why = format!(
                "there is no column `{}`: there are {}",
                self.column,
                t.history.names.join(", ")
            );
            return Err(Error::config("monitor", why));
        }
        self.best = worst(self.better);
        Ok(())
    }

    /// Whether the epoch just finished is the best. One without the value is not.
    pub(super) fn improved(&mut self, t: &Training) -> bool {
        let Some(value) = t.history.last(&self.column) else { return false };
        let improved = match self.better {
            Better::Lower => value + self.min_delta < self.best,
            Better::Higher => value - self.min_delta > self.best,
        };
        if improved {
            self.best = value;
        }
        improved
    }
}

impl<S: Into<String>> From<S> for Monitor {
    fn from(column: S) -> Self {
        Self::new(column)
    }
}

fn worst(better: Better) -> f64 {
    match better {
        Better::Lower => f64::INFINITY,
        Better::Higher => f64::NEG_INFINITY,
    }
}
