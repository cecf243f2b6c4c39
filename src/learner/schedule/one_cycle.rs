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
    pub(super) cycle: Cycle,
}

/// The shape of a cycle.
#[derive(Debug, Clone)]
pub(super) struct Cycle {
    pub(super) pct_start: f64,
    pub(super) div: f64,
    pub(super) div_final: f64,
    pub(super) moms: Option<(f64, f64, f64)>,
}

impl Cycle {
    /// Creates a cycle with fastai's ratio of the final rate, and the momentum of the learner.
    pub(super) fn new(pct_start: f64, div: f64) -> Self {
        Self { pct_start, div, div_final: 1e5, moms: None }
    }
}

/// Defines the setters of a cycle. The arguments are the defaults that their documentation names.
macro_rules! cycle_setters {
    (pct_start = $pct_start:literal, div = $div:literal) => {
        /// Sets the fraction of the cycle after which the peak is reached, from 0 to 1: 0 starts at the peak, 1
        /// ends there.
        #[doc = concat!("Default: ", $pct_start, ".")]
        #[must_use]
        pub fn pct_start(mut self, pct: f64) -> Self {
            self.cycle.pct_start = pct;
            self
        }
        /// Sets the ratio of the peak to the initial learning rate.
        #[doc = concat!("Default: ", $div, ".")]
        #[must_use]
        #[expect(
            clippy::should_implement_trait,
            reason = "fastai's name; a setter divides nothing"
        )]
        pub fn div(mut self, div: f64) -> Self {
            self.cycle.div = div;
            self
        }
        /// Sets the ratio of the peak to the final learning rate. Default: 100,000.
        #[must_use]
        pub fn div_final(mut self, div: f64) -> Self {
            self.cycle.div_final = div;
            self
        }
        /// Sets the momentum at the start, at the peak and at the end, each at least 0 and below 1. Default: the
        /// learner's.
        #[must_use]
        pub fn moms(mut self, start: f64, peak: f64, end: f64) -> Self {
            self.cycle.moms = Some((start, peak, end));
            self
        }
    };
}

pub(super) use cycle_setters;

impl OneCycle {
    /// Returns the policy for a number of epochs.
    #[must_use]
    pub fn new(epochs: usize) -> Self {
        Self { common: Common::new(epochs), cycle: Cycle::new(0.25, 25.0) }
    }
    lr_setter!();
    common_setters!();
    cycle_setters!(pct_start = "0.25", div = "25");
}

impl Policy for OneCycle {
    fn course(&self, groups: usize, defaults: &Defaults) -> Result<Course> {
        let Cycle { pct_start, div, div_final, moms } = self.cycle;
        fraction("pct_start", pct_start)?;
        divisor("div", div)?;
        divisor("div_final", div_final)?;
        let (mut course, lrs) = self.common.course(groups, defaults)?;
        let cycle = |start, peak, end| Schedule::cos_cos(pct_start, start, peak, end);
        let (start, peak, end) = moms.unwrap_or(defaults.moms);
        [start, peak, end].iter().try_for_each(|mom| Hyper::Mom.check("moms", *mom))?;
        let lrs = lrs.iter().map(|lr| cycle(lr / div, *lr, lr / div_final));
        course.schedules =
            vec![(Hyper::Lr, lrs.collect()), (Hyper::Mom, vec![cycle(start, peak, end); groups])];
        Ok(course)
    }
}
