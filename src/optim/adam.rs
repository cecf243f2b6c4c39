use super::{Hypers, Rule, StepGroup, setters};
use crate::{error::Result, sys};

/// Adam with decoupled weight decay (AdamW), as in fastai.
///
/// The decay multiplies the weight by `1 - lr * wd` first; `eps` is added after the square root of the
/// debiased average of squares. Kingma and Ba, [Adam](https://arxiv.org/abs/1412.6980); Loshchilov and
/// Hutter, [AdamW](https://arxiv.org/abs/1711.05101).
///
/// A step is one call of libtorch's fused kernel per group and decay class.
#[derive(Debug, Clone)]
pub struct Adam {
    mom: f64,
    sqr_mom: f64,
    eps: f64,
    wd: f64,
    decouple_wd: bool,
}

impl Adam {
    /// Returns the rule with fastai's defaults: `mom` 0.9, `sqr_mom` 0.99, `eps` 1e-5, `wd` 0.01.
    #[must_use]
    pub fn new() -> Self {
        Self { mom: 0.9, sqr_mom: 0.99, eps: 1e-5, wd: 0.01, decouple_wd: true }
    }
    setters!(mom, sqr_mom, eps, wd, decouple_wd);
}

impl Default for Adam {
    fn default() -> Self {
        Self::new()
    }
}

impl Rule for Adam {
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
        fused(group, self.decouple_wd, 1.0)
    }
}

/// Takes a step of Adam, scaled by `times`, with libtorch's fused kernel.
pub(super) fn fused(group: &StepGroup, decoupled: bool, times: f64) -> Result<()> {
    let h = &group.hypers;
    let mut how = sys::AdamStep {
        step: group.step as f64,
        lr: h.lr * times,
        beta1: h.mom,
        beta2: h.sqr_mom,
        // The kernel multiplies the decay by the given learning rate.
        decay: group.decay / times,
        eps: h.eps,
    };
    if !decoupled {
        group.apply_decay(false)?;
        how.decay = 0.0;
    }
    sys::adamw(&group.params, &group.grads, group.state(0), group.state(1), &how)
}
