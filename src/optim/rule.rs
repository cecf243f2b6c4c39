//! How parameters take a step.

use super::Hypers;
use crate::{error::Result, sys::TensorList};
use std::fmt::Debug;

/// The parameters that take a step together: those of one group of which decay applies to all or none,
/// and which have taken as many steps.
#[derive(Debug)]
pub struct StepGroup {
    pub(super) params: TensorList,
    pub(super) grads: TensorList,
    pub(super) state: Vec<TensorList>,
    pub(super) step: u64,
    pub(super) hypers: Hypers,
    pub(super) decay: f64,
}

impl StepGroup {
    /// The parameters.
    #[must_use]
    pub fn params(&self) -> &TensorList {
        &self.params
    }
    /// Their gradients, which a rule may change.
    #[must_use]
    pub fn grads(&self) -> &TensorList {
        &self.grads
    }
    /// What the rule keeps of them: the `i`th of [`Rule::state_names`].
    #[must_use]
    pub fn state(&self, i: usize) -> &TensorList {
        &self.state[i]
    }
    /// Which step of theirs this is, from 1.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }
    /// The hyper-parameters of the group.
    #[must_use]
    pub fn hypers(&self) -> &Hypers {
        &self.hypers
    }
    /// The weight decay that applies to them: the group's, or 0.
    #[must_use]
    pub fn decay(&self) -> f64 {
        self.decay
    }

    /// Applies the decay: multiplies the weights by `1 - lr * wd` where it is decoupled, else adds
    /// `wd` times the weights to the gradients (L2 regularization).
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn apply_decay(&self, decoupled: bool) -> Result<()> {
        if self.decay == 0.0 {
            Ok(())
        } else if decoupled {
            self.params.mul(1.0 - self.hypers.lr * self.decay)
        } else {
            self.grads.add(&self.params, self.decay)
        }
    }

    /// Takes the gradients into the damped averages of the gradients and of their squares, states 0 and
    /// 1, and returns what divides the averages to make up for their start at 0.
    pub(super) fn average(&self) -> Result<(f64, f64)> {
        let Hypers { mom, sqr_mom, .. } = self.hypers;
        self.state(0).lerp(&self.grads, 1.0 - mom)?;
        self.average_squares(1)?;
        Ok((self.debias(mom), self.debias(sqr_mom)))
    }

    /// Takes the squares of the gradients into the damped average that is state `i`.
    pub(super) fn average_squares(&self, i: usize) -> Result<()> {
        self.state(i).mul(self.hypers.sqr_mom)?;
        self.state(i).addcmul(&self.grads, &self.grads, 1.0 - self.hypers.sqr_mom)
    }

    /// Takes the gradients into the undamped sum that is state `i`.
    pub(super) fn sum(&self, i: usize) -> Result<()> {
        self.state(i).mul(self.hypers.mom)?;
        self.state(i).add(&self.grads, 1.0)
    }

    /// How much of a damped average is filled after this step.
    pub(super) fn debias(&self, mom: f64) -> f64 {
        1.0 - mom.powi(i32::try_from(self.step).unwrap_or(i32::MAX))
    }

    /// `√(x / by) + eps` of what state `i` keeps.
    pub(super) fn denominator(&self, i: usize, by: f64, eps: f64) -> Result<TensorList> {
        let denominator = self.state(i).copies()?;
        if by != 1.0 {
            denominator.mul(1.0 / by)?;
        }
        denominator.sqrt()?;
        if eps != 0.0 {
            denominator.add_number(eps)?;
        }
        Ok(denominator)
    }
}

/// How parameters take a step. The rules of this crate are fastai's; a rule of your own needs a few
/// calls on [`TensorList`]s:
///
/// ```
/// use finetune::{Result, optim::{Hypers, Rule, StepGroup}};
///
/// /// Plain gradient descent.
/// #[derive(Debug)]
/// struct Plain;
///
/// impl Rule for Plain {
///     fn hypers(&self) -> Hypers {
///         Hypers::new(1e-3)
///     }
///     fn step(&self, group: &StepGroup) -> Result<()> {
///         group.apply_decay(true)?;
///         group.params().add(group.grads(), -group.hypers().lr)
///     }
/// }
/// ```
pub trait Rule: Debug {
    /// The hyper-parameters to begin with.
    fn hypers(&self) -> Hypers;

    /// The names of what is kept for each parameter; each is of the parameter's shape and begins with
    /// zeros. Default: nothing is kept.
    fn state_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the rule depends on how many steps a parameter has taken; the count is then saved with
    /// the state. Default: it does not.
    fn counts(&self) -> bool {
        false
    }

    /// One step of parameters that take it together.
    ///
    /// # Errors
    /// What libtorch reports.
    fn step(&self, group: &StepGroup) -> Result<()>;
}
