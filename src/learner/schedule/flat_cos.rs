//! A constant learning rate with a cosine at the end.

use super::policy::{
    Common, Course, Defaults, Policy, common_setters, divisor, fraction, lr_setter,
};
use crate::{
    error::Result,
    optim::{Hyper, Lr, Schedule},
};

/// A constant learning rate that falls along a cosine at the end: fastai's `fit_flat_cos`.
#[derive(Debug, Clone)]
pub struct FlatCos {
    common: Common,
    div_final: f64,
    pct_start: f64,
}

impl FlatCos {
    /// Returns the policy for a number of epochs.
    #[must_use]
    pub fn new(epochs: usize) -> Self {
        Self { common: Common::new(epochs), div_final: 1e5, pct_start: 0.75 }
    }
    lr_setter!();
    common_setters!();
    /// Sets the ratio of the constant to the final learning rate. Default: 100,000.
    #[must_use]
    pub fn div_final(mut self, div: f64) -> Self {
        self.div_final = div;
        self
    }
    /// Sets the fraction of the fit after which the rate begins to fall, from 0 to 1: 0 is a cosine without a
    /// constant part, 1 a constant rate. Default: 0.75.
    #[must_use]
    pub fn pct_start(mut self, pct: f64) -> Self {
        self.pct_start = pct;
        self
    }
}

impl Policy for FlatCos {
    fn course(&self, groups: usize, defaults: &Defaults) -> Result<Course> {
        fraction("pct_start", self.pct_start)?;
        divisor("div_final", self.div_final)?;
        let (mut course, lrs) = self.common.course(groups, defaults)?;
        let fall = |lr: &f64| Schedule::cos_cos(self.pct_start, *lr, *lr, lr / self.div_final);
        course.schedules = vec![(Hyper::Lr, lrs.iter().map(fall).collect())];
        Ok(course)
    }
}
