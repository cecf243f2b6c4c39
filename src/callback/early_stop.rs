use super::Monitor;
use crate::learner::{Callback, Scope, Step, Training, order};

/// The key of the notes in a checkpoint.
const OWNER: &str = "EarlyStopping";

/// Ends the fit when a value of the table has not improved for some epochs: fastai's
/// `EarlyStoppingCallback`.
#[derive(Debug)]
pub struct EarlyStopping {
    monitor: Monitor,
    patience: usize,
}

impl EarlyStopping {
    /// Creates a callback that monitors `valid_loss` and stops after `patience` epochs without improvement.
    #[must_use]
    pub fn new(patience: usize) -> Self {
        Self { monitor: Monitor::new("valid_loss"), patience }
    }

    /// Sets the value to monitor: the name of a column, or a [`Monitor`] with options. Default:
    /// `valid_loss`.
    #[must_use]
    pub fn monitor(mut self, monitor: impl Into<Monitor>) -> Self {
        self.monitor = monitor.into();
        self
    }

    /// Returns the best value of the last fit.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.monitor.best()
    }
}

impl Callback for EarlyStopping {
    fn fingerprint(&self) -> Option<String> {
        Some(format!("EarlyStopping({}, patience {})", self.monitor.description(), self.patience))
    }

    fn exclusive(&self) -> Option<String> {
        Some(self.monitor.exclusive(OWNER))
    }

    fn order(&self) -> i32 {
        order::EARLY_STOPPING
    }

    fn skip_evaluation(&self) -> bool {
        true
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        Ok(self.monitor.start(t, OWNER)?)
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        self.monitor.improved(t);
        self.monitor.note(t, OWNER)?;
        let waited = self.monitor.waited();
        if waited == 0 || waited < self.patience {
            return Ok(());
        }
        let (column, best) = (self.monitor.column(), self.monitor.best());
        t.say(match t.at.epoch.checked_sub(waited) {
            Some(epoch) => format!("stopped early: {column} has been {best} since epoch {epoch}"),
            None => format!("stopped early: {column} was always NaN"),
        });
        Scope::Fit.cancel()
    }
}
