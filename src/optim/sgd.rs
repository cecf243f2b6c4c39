use super::{Hypers, Rule, Slot};
use crate::{error::Result, sys};
use tch::Tensor;

/// Stochastic gradient descent, with undamped momentum where some is given: fastai's `SGD`.
///
/// Without momentum at the beginning nothing is kept, and a later schedule of it does nothing, as in
/// fastai. The decay multiplies the weight by `1 - lr * wd`.
#[derive(Debug, Clone, Default)]
pub struct Sgd {
    mom: f64,
    wd: f64,
}

impl Sgd {
    /// Without momentum and decay.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// How much of the sum of gradients stays. Default: 0.
    #[must_use]
    pub fn mom(mut self, mom: f64) -> Self {
        self.mom = mom;
        self
    }
    /// The weight decay. Default: 0.
    #[must_use]
    pub fn wd(mut self, wd: f64) -> Self {
        self.wd = wd;
        self
    }
}

impl Rule for Sgd {
    fn hypers(&self) -> Hypers {
        Hypers { lr: 1e-3, mom: self.mom, sqr_mom: 0.0, eps: 0.0, wd: self.wd }
    }

    fn state_names(&self) -> &'static [&'static str] {
        if self.mom > 0.0 { &["grad_avg"] } else { &[] }
    }

    fn step(&self, slots: &[Slot<'_>], h: &Hypers, wd: f64) -> Result<()> {
        let params: Vec<Tensor> = slots.iter().map(|s| s.param.detach()).collect();
        let grads: Vec<Tensor> = slots.iter().map(|s| s.grad.shallow_clone()).collect();
        if wd != 0.0 {
            sys::foreach_mul(&params, 1.0 - h.lr * wd)?;
        }
        let averages: Vec<Tensor> =
            slots.iter().filter_map(|s| s.state.first()).map(Tensor::shallow_clone).collect();
        if averages.is_empty() {
            return sys::foreach_add(&params, &grads, -h.lr);
        }
        sys::foreach_mul(&averages, h.mom)?;
        sys::foreach_add(&averages, &grads, 1.0)?;
        sys::foreach_add(&params, &averages, -h.lr)
    }
}
