//! A constant learning rate.

use super::policy::{Common, Course, Defaults, Policy, common_setters, lr_setter};
use crate::{error::Result, optim::Lr};

/// A constant learning rate: fastai's `fit`.
#[derive(Debug, Clone)]
pub struct Flat {
    common: Common,
}

impl Flat {
    /// Returns the policy for a number of epochs.
    #[must_use]
    pub fn new(epochs: usize) -> Self {
        Self { common: Common::new(epochs) }
    }
    lr_setter!();
    common_setters!();
}

impl Policy for Flat {
    fn course(&self, groups: usize, defaults: &Defaults) -> Result<Course> {
        Ok(self.common.course(groups, defaults)?.0)
    }
}
