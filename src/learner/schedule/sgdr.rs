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

/// The largest number of cycles. Each of them is a part of the schedule of every parameter group.
const MAX_CYCLES: usize = 10_000;

impl Sgdr {
    /// Returns the policy for `cycles` cycles, at most 10,000, the first of which takes `cycle_len` epochs.
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

    /// Returns the length of each cycle in epochs, and their sum; `None` if the sum is larger than `usize::MAX`.
    fn lengths(&self) -> Option<(Vec<usize>, usize)> {
        let (mut lengths, mut sum, mut next) = (vec![], 0_usize, Some(self.cycle_len));
        for _ in 0..self.cycles {
            let length = next?;
            sum = sum.checked_add(length)?;
            lengths.push(length);
            next = length.checked_mul(self.cycle_mult);
        }
        Some((lengths, sum))
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
        if self.cycles > MAX_CYCLES {
            let why = format!("`cycles` is {}; it must be at most {MAX_CYCLES}", self.cycles);
            return Err(Error::config("Sgdr", why));
        }
        let (lengths, epochs) = self.lengths().ok_or_else(|| {
            let why = format!(
                "the cycles have too many epochs: `cycles` is {}, `cycle_len` {} and `cycle_mult` {}",
                self.cycles, self.cycle_len, self.cycle_mult
            );
            Error::config("Sgdr", why)
        })?;
        let common = Common { epochs, ..self.common.clone() };
        let (mut course, lrs) = common.course(groups, defaults)?;
        let parts: Vec<f64> = lengths.iter().map(|n| *n as f64 / epochs as f64).collect();
        let falls = |lr: f64| parts.iter().map(|&part| (part, Anneal::Cos, lr, 0.0)).collect();
        let each = lrs.iter().map(|&lr| Schedule::combine(falls(lr))).collect::<Result<_>>()?;
        course.schedules = vec![(Hyper::Lr, each)];
        Ok(course)
    }
}
