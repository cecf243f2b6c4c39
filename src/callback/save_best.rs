use super::Monitor;
use crate::learner::{Callback, Step, Training, order};
use tch::Tensor;

/// Keeps the weights of the best epoch in memory and puts them back at the end of the fit: fastai's
/// `SaveModelCallback` without its file. A fit that fails keeps the best weights too.
#[derive(Debug)]
pub struct SaveBest {
    monitor: Monitor,
    kept: Option<(usize, Vec<(String, Tensor)>)>,
    epoch: Option<usize>,
}

impl SaveBest {
    /// Watches `valid_loss`.
    #[must_use]
    pub fn new() -> Self {
        Self { monitor: Monitor::new("valid_loss"), kept: None, epoch: None }
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

    /// The epoch whose weights the last fit ended with; none if no epoch had the value.
    #[must_use]
    pub fn epoch(&self) -> Option<usize> {
        self.epoch
    }
}

impl Default for SaveBest {
    fn default() -> Self {
        Self::new()
    }
}

impl Callback for SaveBest {
    fn order(&self) -> i32 {
        order::SAVE_BEST
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        (self.kept, self.epoch) = (None, None);
        Ok(self.monitor.start(t)?)
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        if self.monitor.improved(t) {
            let weights = t.model.state_dict();
            let weights = weights.into_iter().map(|(n, w)| (n, w.detach().copy())).collect();
            self.kept = Some((t.at.epoch, weights));
        }
        Ok(())
    }

    fn after_fit(&mut self, t: &mut Training) -> Step {
        if let Some((epoch, weights)) = self.kept.take() {
            t.model.load_state_dict(&weights)?;
            self.epoch = Some(epoch);
        }
        Ok(())
    }
}
