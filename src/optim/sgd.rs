use super::{Hypers, Rule, StepGroup, setters};
use crate::{error::Result, sys};

/// Stochastic gradient descent, optionally with undamped momentum: fastai's `SGD`.
///
/// An optimizer created without momentum keeps no state and ignores a later schedule of momentum,
/// as in fastai.
#[derive(Debug, Clone)]
pub struct Sgd {
    mom: f64,
    wd: f64,
    decouple_wd: bool,
}

impl Sgd {
    /// Returns the rule without momentum and weight decay.
    #[must_use]
    pub fn new() -> Self {
        Self { mom: 0.0, wd: 0.0, decouple_wd: true }
    }
    setters!(mom, wd, decouple_wd);
}

impl Default for Sgd {
    fn default() -> Self {
        Self::new()
    }
}

impl Rule for Sgd {
    fn hypers(&self) -> Hypers {
        Hypers { mom: self.mom, wd: self.wd, ..Hypers::new(1e-3) }
    }

    fn state_names(&self) -> &'static [&'static str] {
        if self.mom > 0.0 { &["grad_avg"] } else { &[] }
    }

    fn step(&self, group: &StepGroup) -> Result<()> {
        group.apply_decay(self.decouple_wd)?;
        let h = &group.hypers;
        match group.state.first() {
            Some(sums) => sys::sgd(&group.params, &group.grads, sums, h.lr, h.mom),
            None => group.params.add(&group.grads, -h.lr),
        }
    }
}
