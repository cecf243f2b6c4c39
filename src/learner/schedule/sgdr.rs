//! Cosine annealing with warm restarts.

use super::policy::{Common, Course, Defaults, Policy, common_setters, lr_setter};
use crate::{
    error::{Error, Result},
    optim::{Anneal, Hyper, Lr, Schedule},
};

/// Warm restarts: cycles in which the rate falls to 0 along a cosine, each longer than the previous one.
///
/// Loshchilov, Hutter, [SGDR](https://arxiv.org/abs/1608.03983); fastai's `fit_sgdr`.
#[derive(Debug, Clone)]
pub struct Sgdr {
    common: Common,
    cycles: usize,
    cycle_len: usize,
    cycle_mult: usize,
}

impl Sgdr {
    /// Returns the policy for `cycles` cycles, the first of which takes `cycle_len` epochs.
    #[must_use]
    pub fn new(cycles: usize, cycle_len: usize) -> Self {
        Self { common: Common::new(0), cycles, cycle_len, cycle_mult: 2 }
    }
    lr_setter!();
    common_setters!();
    /// Sets the ratio of the length of each cycle to that of the previous one. Default: 2.
    #[must_use]
    pub fn cycle_mult(mut self, mult: usize) -> Self {
        self.cycle_mult = mult;
        self
    }
}

impl Policy for Sgdr {
    fn course(&self, groups: usize, defaults: &Defaults) -> Result<Course> {
        if self.cycles == 0 || self.cycle_len == 0 || self.cycle_mult == 0 {
            return Err(Error::config(
                "Sgdr",
                "`cycles`, `cycle_len` and `cycle_mult` must not be 0",
            ));
        }
        let lengths: Vec<f64> = (0..self.cycles)
            .map(|i| self.cycle_len as f64 * (self.cycle_mult as f64).powi(i as i32))
            .collect();
        let epochs: f64 = lengths.iter().sum();
        let common = Common { epochs: epochs as usize, ..self.common.clone() };
        let (mut course, lrs) = common.course(groups, defaults)?;
        let parts: Vec<f64> = lengths.iter().map(|n| n / epochs).collect();
        let falls = |lr: f64| parts.iter().map(|&part| (part, Anneal::Cos, lr, 0.0)).collect();
        let each = lrs.iter().map(|&lr| Schedule::combine(falls(lr))).collect::<Result<_>>()?;
        course.schedules = vec![(Hyper::Lr, each)];
        Ok(course)
    }
}
