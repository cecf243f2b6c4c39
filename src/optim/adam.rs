use super::{Hypers, Rule, Slot};
use crate::{error::Result, sys};
use tch::Tensor;

/// Adam with decoupled weight decay, as fastai has it: AdamW.
///
/// The decay multiplies the weight by `1 - lr * wd` first; `eps` is added after the root of the
/// debiased average of squares. Kingma, Ba, [Adam](https://arxiv.org/abs/1412.6980); Loshchilov, Hutter,
/// [AdamW](https://arxiv.org/abs/1711.05101).
///
/// A step is one call of libtorch's fused kernel for each group and decay class.
#[derive(Debug, Clone)]
pub struct Adam {
    mom: f64,
    sqr_mom: f64,
    eps: f64,
    wd: f64,
}

impl Adam {
    /// With fastai's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self { mom: 0.9, sqr_mom: 0.99, eps: 1e-5, wd: 0.01 }
    }
    /// How much of the average of gradients stays: β₁. Default: 0.9.
    #[must_use]
    pub fn mom(mut self, mom: f64) -> Self {
        self.mom = mom;
        self
    }
    /// How much of the average of squared gradients stays: β₂. Default: 0.99.
    #[must_use]
    pub fn sqr_mom(mut self, mom: f64) -> Self {
        self.sqr_mom = mom;
        self
    }
    /// Added to the denominator. Default: 1e-5.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }
    /// The weight decay. Default: 0.01.
    #[must_use]
    pub fn wd(mut self, wd: f64) -> Self {
        self.wd = wd;
        self
    }
}

impl Default for Adam {
    fn default() -> Self {
        Self::new()
    }
}

impl Rule for Adam {
    fn hypers(&self) -> Hypers {
        let Self { mom, sqr_mom, eps, wd } = *self;
        Hypers { lr: 1e-3, mom, sqr_mom, eps, wd }
    }

    fn state_names(&self) -> &'static [&'static str] {
        &["grad_avg", "sqr_avg", "step"]
    }

    fn step(&self, slots: &[Slot<'_>], h: &Hypers, wd: f64) -> Result<()> {
        let of = |f: &dyn Fn(&Slot<'_>) -> Tensor| slots.iter().map(f).collect::<Vec<_>>();
        let params = of(&|s| s.param.detach());
        let grads = of(&|s| s.grad.shallow_clone());
        let kept = |i: usize| of(&move |s| s.state[i].shallow_clone());
        let steps = kept(2);
        sys::foreach_add(&steps, &steps.iter().map(Tensor::ones_like).collect::<Vec<_>>(), 1.0)?;
        let how = sys::AdamStep { lr: h.lr, beta1: h.mom, beta2: h.sqr_mom, decay: wd, eps: h.eps };
        sys::adamw(&params, &grads, &kept(0), &kept(1), &steps, &how)
    }
}
