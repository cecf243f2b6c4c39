use super::{Hypers, Rule, StepGroup, setters};
use crate::error::Result;

/// RMSProp: gradients divided by the root of the running mean of their squares. fastai's `RMSProp`.
///
/// With momentum, an undamped sum of gradients replaces the gradient. An optimizer created without
/// momentum ignores a later schedule of it, as in fastai. Unlike in fastai, `eps` has an effect.
///
/// Hinton, [lecture 6e](https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf).
#[derive(Debug, Clone)]
pub struct RmsProp {
    mom: f64,
    sqr_mom: f64,
    eps: f64,
    wd: f64,
    decouple_wd: bool,
}

impl RmsProp {
    /// Returns the rule with fastai's defaults: no `mom`, `sqr_mom` 0.99, `eps` 1e-8, no `wd`.
    #[must_use]
    pub fn new() -> Self {
        Self { mom: 0.0, sqr_mom: 0.99, eps: 1e-8, wd: 0.0, decouple_wd: true }
    }
    setters!(mom, sqr_mom, eps, wd, decouple_wd);
}

impl Default for RmsProp {
    fn default() -> Self {
        Self::new()
    }
}

impl Rule for RmsProp {
    fn hypers(&self) -> Hypers {
        let Self { mom, sqr_mom, eps, wd, .. } = *self;
        Hypers { lr: 1e-3, mom, sqr_mom, eps, wd }
    }

    fn state_names(&self) -> &'static [&'static str] {
        if self.mom > 0.0 { &["sqr_avg", "grad_avg"] } else { &["sqr_avg"] }
    }

    fn step(&self, group: &StepGroup) -> Result<()> {
        group.apply_decay(self.decouple_wd)?;
        group.average_squares(0)?;
        let mut along = &group.grads;
        if self.mom > 0.0 {
            group.sum(1)?;
            along = group.state(1);
        }
        let denominator = group.denominator(0, 1.0, group.hypers.eps)?;
        group.params.addcdiv(along, &denominator, -group.hypers.lr)
    }
}
