use super::Monitor;
use crate::learner::{Callback, Scope, Step, Training, order};

/// Ends the fit when a value of the table has not become better for some epochs: fastai's
/// `EarlyStoppingCallback`.
#[derive(Debug)]
pub struct EarlyStopping {
    monitor: Monitor,
    patience: usize,
    waited: usize,
}

impl EarlyStopping {
    /// Watches `valid_loss` and stops after `patience` epochs without improvement.
    #[must_use]
    pub fn new(patience: usize) -> Self {
        Self { monitor: Monitor::new("valid_loss"), patience, waited: 0 }
    }

    /// What to watch: the name of a column, or a [`Monitor`] with more. Default: `valid_loss`.
    #[must_use]
    pub fn monitor(mut self, monitor: impl Into<Monitor>) -> Self {
        self.monitor = monitor.into();
        self
    }

    /// The best value of the last fit.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.monitor.best()
    }
}

impl Callback for EarlyStopping {
    fn order(&self) -> i32 {
        order::EARLY_STOPPING
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        self.waited = 0;
        Ok(self.monitor.start(t)?)
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        if self.monitor.improved(t) {
            self.waited = 0;
            return Ok(());
        }
        self.waited += 1;
        if self.waited >= self.patience { Scope::Fit.cancel() } else { Ok(()) }
    }
}
