use super::{Hypers, Rule, StepGroup, setters};
use crate::error::Result;

/// Adam that mixes the current gradient into both running means: fastai's `QHAdam`.
///
/// Ma and Yarats, [Quasi-hyperbolic momentum and Adam](https://arxiv.org/abs/1810.06801).
#[derive(Debug, Clone)]
pub struct QhAdam {
    mom: f64,
    sqr_mom: f64,
    eps: f64,
    wd: f64,
    nu_1: f64,
    nu_2: f64,
    decouple_wd: bool,
}

impl QhAdam {
    /// Returns the rule with fastai's defaults: `mom` and `sqr_mom` 0.999, `nu_1` 0.7, `nu_2` 1, `eps`
    /// 1e-8, no `wd`.
    #[must_use]
    pub fn new() -> Self {
        let (mom, sqr_mom) = (0.999, 0.999);
        Self { mom, sqr_mom, eps: 1e-8, wd: 0.0, nu_1: 0.7, nu_2: 1.0, decouple_wd: true }
    }
    setters!(mom, sqr_mom, eps, wd, decouple_wd);
    /// Sets the weight of the running mean of gradients in the step; the gradient has the remaining weight.
    /// Default: 0.7.
    #[must_use]
    pub fn nu_1(mut self, nu: f64) -> Self {
        self.nu_1 = nu;
        self
    }
    /// Sets the weight of the running mean of squares in the denominator; the squared gradient has the
    /// remaining weight. Default: 1.
    #[must_use]
    pub fn nu_2(mut self, nu: f64) -> Self {
        self.nu_2 = nu;
        self
    }
}

impl Default for QhAdam {
    fn default() -> Self {
        Self::new()
    }
}

impl Rule for QhAdam {
    fn hypers(&self) -> Hypers {
        let Self { mom, sqr_mom, eps, wd, .. } = *self;
        Hypers { lr: 1e-3, mom, sqr_mom, eps, wd }
    }

    fn state_names(&self) -> &'static [&'static str] {
        &["grad_avg", "sqr_avg"]
    }

    fn counts(&self) -> bool {
        true
    }

    fn step(&self, group: &StepGroup) -> Result<()> {
        group.apply_decay(self.decouple_wd)?;
        let (by, by_squares) = group.average()?;
        let along = group.state(0).copies()?;
        along.mul(self.nu_1 / by)?;
        along.add(&group.grads, 1.0 - self.nu_1)?;
        let denominator = group.state(1).copies()?;
        denominator.mul(self.nu_2 / by_squares)?;
        denominator.addcmul(&group.grads, &group.grads, 1.0 - self.nu_2)?;
        denominator.sqrt()?;
        denominator.add_number(group.hypers.eps)?;
        group.params.addcdiv(&along, &denominator, -group.hypers.lr)
    }
}
