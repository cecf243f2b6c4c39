use super::Monitor;
use crate::{
    learner::{Callback, Step, Training, order},
    optim::Hyper,
};

/// Divides the learning rate when a value of the table has not become better for some epochs: fastai's
/// `ReduceLROnPlateau`. For fits with a flat rate; a schedule would set it again.
#[derive(Debug)]
pub struct ReduceLrOnPlateau {
    monitor: Monitor,
    patience: usize,
    factor: f64,
    min_lr: f64,
    waited: usize,
}

impl ReduceLrOnPlateau {
    /// Watches `valid_loss` and divides by 10 after `patience` epochs without improvement.
    #[must_use]
    pub fn new(patience: usize) -> Self {
        let monitor = Monitor::new("valid_loss");
        Self { monitor, patience, factor: 10.0, min_lr: 0.0, waited: 0 }
    }

    /// What to watch: the name of a column, or a [`Monitor`] with more. Default: `valid_loss`.
    #[must_use]
    pub fn monitor(mut self, monitor: impl Into<Monitor>) -> Self {
        self.monitor = monitor.into();
        self
    }

    /// What the rates are divided by. Default: 10.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// What no rate falls below. Default: 0.
    #[must_use]
    pub fn min_lr(mut self, lr: f64) -> Self {
        self.min_lr = lr;
        self
    }
}

impl Callback for ReduceLrOnPlateau {
    fn order(&self) -> i32 {
        order::REDUCE_LR
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
        if self.waited >= self.patience {
            let lower = |lr: f64| (lr / self.factor).max(self.min_lr);
            let lrs: Vec<f64> = t.opt.hypers().iter().map(|h| lower(h.lr)).collect();
            t.opt.set(Hyper::Lr, &lrs);
            self.waited = 0;
        }
        Ok(())
    }
}
