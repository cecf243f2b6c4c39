use super::{Hypers, Rule, StepGroup, setters};
use crate::{error::Result, sys::TensorList};
use tch::Tensor;

/// Momentum with a learning rate for each layer, from the norms of its weights and gradients: fastai's
/// `Larc`.
///
/// As in fastai, the denominator of that rate includes the group's decay even if the decay is decoupled or
/// does not apply, and a parameter of zeros does not change. You et al., [Large Batch Training of
/// Convolutional Networks](https://arxiv.org/abs/1708.03888).
#[derive(Debug, Clone)]
pub struct Larc {
    mom: f64,
    eps: f64,
    wd: f64,
    trust_coeff: f64,
    clip: bool,
    decouple_wd: bool,
}

impl Larc {
    /// Returns the rule with fastai's defaults: `mom` 0.9, `trust_coeff` 0.02, `eps` 1e-8, no `wd`,
    /// clipped.
    #[must_use]
    pub fn new() -> Self {
        let (mom, eps) = (0.9, 1e-8);
        Self { mom, eps, wd: 0.0, trust_coeff: 0.02, clip: true, decouple_wd: true }
    }
    setters!(mom, eps, wd, decouple_wd);
    /// Sets the ratio of a step to the weights for the layer's own rate. Default: 0.02.
    #[must_use]
    pub fn trust_coeff(mut self, coefficient: f64) -> Self {
        self.trust_coeff = coefficient;
        self
    }
    /// If true, the learning rate limits the layer's own rate (LARC); otherwise the two are
    /// multiplied (LARS). Default: true.
    #[must_use]
    pub fn clip(mut self, yes: bool) -> Self {
        self.clip = yes;
        self
    }
}

impl Default for Larc {
    fn default() -> Self {
        Self::new()
    }
}

impl Rule for Larc {
    fn hypers(&self) -> Hypers {
        let Self { mom, eps, wd, .. } = *self;
        Hypers { mom, eps, wd, ..Hypers::new(1e-3) }
    }

    fn state_names(&self) -> &'static [&'static str] {
        if self.mom > 0.0 { &["grad_avg"] } else { &[] }
    }

    fn step(&self, group: &StepGroup) -> Result<()> {
        group.apply_decay(self.decouple_wd)?;
        let h = &group.hypers;
        let weights = Tensor::f_stack(&group.params.norms()?.tensors()?, 0)?;
        let grads = Tensor::f_stack(&group.grads.norms()?.tensors()?, 0)?;
        let mut rates = &weights * (h.lr * self.trust_coeff) / (grads + &weights * h.wd + h.eps);
        if self.clip {
            rates = rates.clamp_max(h.lr);
        }
        let along = match group.state.first() {
            Some(sums) => {
                group.sum(0)?;
                sums.copies()?
            }
            None => group.grads.copies()?,
        };
        along.mul_by(&TensorList::new(&rates.unbind(0))?)?;
        group.params.add(&along, -1.0)
    }
}
