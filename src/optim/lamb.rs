use super::{Hypers, Rule, StepGroup, setters};
use crate::{error::Result, sys::TensorList};
use tch::{Kind, Tensor};

/// The maximum factor that scales a layer's step.
const MOST: f64 = 10.0;

/// Adam whose step is scaled per layer to the size of the weights: fastai's `Lamb`.
///
/// As in fastai, sizes are root mean squares. The factor is at most 10; it is 1 if the weights or the step
/// are all zeros. You et al., [Large Batch Optimization for Deep
/// Learning](https://arxiv.org/abs/1904.00962).
#[derive(Debug, Clone)]
pub struct Lamb {
    mom: f64,
    sqr_mom: f64,
    eps: f64,
    wd: f64,
    decouple_wd: bool,
}

impl Lamb {
    /// Returns the rule with fastai's defaults: `mom` 0.9, `sqr_mom` 0.99, `eps` 1e-5, no `wd`.
    #[must_use]
    pub fn new() -> Self {
        Self { mom: 0.9, sqr_mom: 0.99, eps: 1e-5, wd: 0.0, decouple_wd: true }
    }
    setters!(mom, sqr_mom, eps, wd, decouple_wd);
}

impl Default for Lamb {
    fn default() -> Self {
        Self::new()
    }
}

impl Rule for Lamb {
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
        let denominator = group.denominator(1, by_squares, group.hypers.eps)?;
        let steps = group.state(0).zeros_like()?;
        steps.addcdiv(group.state(0), &denominator, 1.0 / by)?;
        // The ratio of root mean squares equals the ratio of norms: both have the same number of elements.
        let weights = Tensor::f_stack(&group.params.norms()?.tensors()?, 0)?;
        let lengths = Tensor::f_stack(&steps.norms()?.tensors()?, 0)?;
        let zero = weights.eq(0.0).logical_or(&lengths.eq(0.0));
        let one = Tensor::ones([1], (Kind::Float, weights.device()));
        let ratios = one.where_self(&zero, &(weights / lengths).clamp_max(MOST));
        steps.mul_by(&TensorList::new(&ratios.unbind(0))?)?;
        group.params.add(&steps, -group.hypers.lr)
    }
}
