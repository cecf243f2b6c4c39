//! Lookahead: slow weights.

use crate::{
    error::{Error, Result},
    sys::TensorList,
};
use tch::Tensor;

/// Slow weights. After every `k` steps, they move a fraction of the way to the trained weights, which then
/// restart from there.
#[derive(Debug)]
pub(super) struct Lookahead {
    k: u64,
    alpha: f64,
    count: u64,
    /// The slow weights, copied from the parameters at the first step.
    slow: Option<TensorList>,
}

impl Lookahead {
    pub(super) fn new(k: usize, alpha: f64) -> Result<Self> {
        if k == 0 || !(0.0..=1.0).contains(&alpha) {
            let why = "`k` must be 1 or more and `alpha` between 0 and 1";
            return Err(Error::config("lookahead", why));
        }
        Ok(Self { k: k as u64, alpha, count: 0, slow: None })
    }

    pub(super) fn description(&self) -> String {
        format!(" with lookahead of {} steps and {}", self.k, self.alpha)
    }

    pub(super) fn before_step(&mut self, params: &TensorList) -> Result<()> {
        if self.slow.is_none() {
            self.slow = Some(params.copies()?);
        }
        Ok(())
    }

    pub(super) fn after_step(&mut self, params: &TensorList) -> Result<()> {
        self.count += 1;
        match &self.slow {
            Some(slow) if self.count.is_multiple_of(self.k) => {
                slow.lerp(params, self.alpha)?;
                params.copy_from(slow)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn clear(&mut self) {
        (self.count, self.slow) = (0, None);
    }

    /// Returns the slow weights, and the number of steps so far.
    pub(super) fn state(&self) -> Option<(&TensorList, u64)> {
        self.slow.as_ref().map(|slow| (slow, self.count))
    }

    pub(super) fn load(&mut self, slow: &[Tensor], count: u64) -> Result<()> {
        (self.slow, self.count) = (Some(TensorList::new(slow)?.copies()?), count);
        Ok(())
    }
}
