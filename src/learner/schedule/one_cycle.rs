//! The one-cycle policy.

use super::policy::{
    Common, Course, Defaults, Policy, common_setters, divisor, fraction, lr_setter,
};
use crate::{
    error::Result,
    optim::{Hyper, Lr, Schedule},
};

/// The one-cycle policy: the learning rate rises and falls along cosines, and the momentum does the
/// opposite.
///
/// Smith, [Super-Convergence](https://arxiv.org/abs/1708.07120); fastai's `fit_one_cycle`.
#[derive(Debug, Clone)]
pub struct OneCycle {
    pub(super) common: Common,
    pub(super) div: f64,
    pub(super) div_final: f64,
    pub(super) pct_start: f64,
    pub(super) moms: Option<(f64, f64, f64)>,
}

impl OneCycle {
    /// Trains for `epochs`.
    #[must_use]
    pub fn new(epochs: usize) -> Self {
        let common = Common::new(epochs);
        Self { common, div: 25.0, div_final: 1e5, pct_start: 0.25, moms: None }
    }
    lr_setter!();
    common_setters!();
    /// Sets the ratio of the peak to the initial learning rate. Default: 25.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "fastai's name; a setter divides nothing")]
    pub fn div(mut self, div: f64) -> Self {
        self.div = div;
        self
    }
    /// Sets the ratio of the peak to the final learning rate. Default: 100,000.
    #[must_use]
    pub fn div_final(mut self, div: f64) -> Self {
        self.div_final = div;
        self
    }
    /// Sets the fraction of the fit after which the peak is reached, between 0 and 1. Default: 0.25.
    #[must_use]
    pub fn pct_start(mut self, pct: f64) -> Self {
        self.pct_start = pct;
        self
    }
    /// Sets the momentum at the start, at the peak and at the end. Default: the learner's.
    #[must_use]
    pub fn moms(mut self, start: f64, peak: f64, end: f64) -> Self {
        self.moms = Some((start, peak, end));
        self
    }
}

impl Policy for OneCycle {
    fn course(&self, groups: usize, defaults: &Defaults) -> Result<Course> {
        fraction("pct_start", self.pct_start)?;
        divisor("div", self.div)?;
        divisor("div_final", self.div_final)?;
        let (mut course, lrs) = self.common.course(groups, defaults)?;
        let cycle = |start, peak, end| Schedule::cos_cos(self.pct_start, start, peak, end);
        let (start, peak, end) = self.moms.unwrap_or(defaults.moms);
        let lrs = lrs.iter().map(|lr| cycle(lr / self.div, *lr, lr / self.div_final));
        course.schedules =
            vec![(Hyper::Lr, lrs.collect()), (Hyper::Mom, vec![cycle(start, peak, end); groups])];
        Ok(course)
    }
}
