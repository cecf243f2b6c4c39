use super::Monitor;
use crate::{
    error::Error,
    learner::{Callback, Step, Training, order},
    optim::Hyper,
};

/// The key of the notes in a checkpoint.
const OWNER: &str = "ReduceLrOnPlateau";

/// Divides the learning rate when a value of the table has not improved for some epochs: fastai's
/// `ReduceLROnPlateau`. It is meant for fits with a constant rate. If the policy schedules the rate, as one cycle
/// does, the fit returns an error, since the schedule would set the rate again.
#[derive(Debug)]
pub struct ReduceLrOnPlateau {
    monitor: Monitor,
    patience: usize,
    factor: f64,
    min_lr: f64,
    /// The rates that were last set, until the end of the next epoch.
    lowered: Option<Vec<f64>>,
}

impl ReduceLrOnPlateau {
    /// Creates a callback that monitors `valid_loss` and divides the learning rates by 10 after `patience` epochs
    /// without improvement.
    #[must_use]
    pub fn new(patience: usize) -> Self {
        let monitor = Monitor::new("valid_loss");
        Self { monitor, patience, factor: 10.0, min_lr: 0.0, lowered: None }
    }

    /// Sets the value to monitor: the name of a column, or a [`Monitor`] with options. Default:
    /// `valid_loss`.
    #[must_use]
    pub fn monitor(mut self, monitor: impl Into<Monitor>) -> Self {
        self.monitor = monitor.into();
        self
    }

    /// Sets the divisor of the learning rates. Default: 10.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Sets the minimum learning rate. Default: 0.
    #[must_use]
    pub fn min_lr(mut self, lr: f64) -> Self {
        self.min_lr = lr;
        self
    }
}

impl Callback for ReduceLrOnPlateau {
    fn fingerprint(&self) -> Option<String> {
        let Self { patience, factor, min_lr, .. } = self;
        let monitor = self.monitor.description();
        Some(format!(
            "ReduceLrOnPlateau({monitor}, patience {patience}, factor {factor}, min_lr {min_lr})"
        ))
    }

    fn exclusive(&self) -> Option<String> {
        Some(self.monitor.exclusive(OWNER))
    }

    fn order(&self) -> i32 {
        order::REDUCE_LR
    }

    fn skip_evaluation(&self) -> bool {
        true
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        let wrong = |why| Err(Error::config("ReduceLrOnPlateau", why).into());
        if !(self.factor.is_finite() && self.factor > 1.0) {
            return wrong(format!("`factor` is {}; it must be above 1", self.factor));
        }
        if t.is_scheduled(Hyper::Lr) {
            return wrong(
                "the policy of this fit sets the learning rate before each batch, so lowering it \
                 would have no effect: use `fit`, or `Flat`"
                    .to_owned(),
            );
        }
        self.lowered = None;
        if !(self.min_lr.is_finite() && self.min_lr >= 0.0) {
            return wrong(format!(
                "`min_lr` is {}; it must be finite and not negative",
                self.min_lr
            ));
        }
        Ok(self.monitor.start(t, OWNER)?)
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        self.monitor.improved(t);
        let lrs: Vec<f64> = t.opt.hypers().iter().map(|h| h.lr).collect();
        if self.lowered.take().is_some_and(|set| set != lrs) {
            t.say(format!(
                "the learning rate that was lowered after epoch {} was set again by another callback",
                t.at.epoch - 1
            ));
        }
        if self.monitor.waited() > 0 && self.monitor.waited() >= self.patience {
            let lower = |lr: f64| (lr / self.factor).max(self.min_lr).min(lr);
            let lowered: Vec<f64> = lrs.iter().copied().map(lower).collect();
            t.opt.set(Hyper::Lr, &lowered)?;
            self.monitor.restart();
            if let (Some(before), Some(now)) = (lrs.last(), lowered.last())
                && now < before
            {
                t.say(format!("learning rate lowered to {now:e} after epoch {}", t.at.epoch));
            } else {
                t.say(format!(
                    "the learning rate after epoch {} is at its minimum, {:e}",
                    t.at.epoch, self.min_lr
                ));
            }
            self.lowered = Some(lowered);
        }
        Ok(self.monitor.note(t, OWNER)?)
    }
}
