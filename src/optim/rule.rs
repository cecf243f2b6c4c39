//! Update rules.

use super::Hypers;
use crate::{error::Result, sys::TensorList};
use std::fmt::Debug;

/// Parameters that are updated together: those of one group, decay class and step count.
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
    /// Returns the parameters.
    #[must_use]
    pub fn params(&self) -> &TensorList {
        &self.params
    }
    /// Returns their gradients, which a rule may change.
    #[must_use]
    pub fn grads(&self) -> &TensorList {
        &self.grads
    }
    /// Returns the state number `i` of the parameters, in the order of [`Rule::state_names`].
    ///
    /// # Panics
    /// If the rule has no state of this number.
    #[must_use]
    pub fn state(&self, i: usize) -> &TensorList {
        &self.state[i]
    }
    /// Returns the number of this step for these parameters, from 1.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }
    /// Returns the hyperparameters of the group.
    #[must_use]
    pub fn hypers(&self) -> &Hypers {
        &self.hypers
    }
    /// Returns the weight decay that applies to these parameters: the group's, or 0.
    #[must_use]
    pub fn decay(&self) -> f64 {
        self.decay
    }

    /// Applies the decay: multiplies the weights by `1 - lr * wd` if it is decoupled, otherwise
    /// adds `wd` times the weights to the gradients (L2 regularization).
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn apply_decay(&self, decoupled: bool) -> Result<()> {
        if self.decay == 0.0 {
            Ok(())
        } else if decoupled {
            self.params.mul(1.0 - self.hypers.lr * self.decay)
        } else {
            self.grads.add(&self.params, self.decay)
        }
    }

    /// Updates the damped running means of the gradients (state 0) and of their squares (state 1),
    /// and returns the two divisors that correct their bias.
    pub(super) fn average(&self) -> Result<(f64, f64)> {
        let Hypers { mom, sqr_mom, .. } = self.hypers;
        self.state(0).lerp(&self.grads, 1.0 - mom)?;
        self.average_squares(1)?;
        Ok((self.debias(mom), self.debias(sqr_mom)))
    }

    /// Updates the damped running mean of squared gradients, state `i`.
    pub(super) fn average_squares(&self, i: usize) -> Result<()> {
        self.state(i).mul(self.hypers.sqr_mom)?;
        self.state(i).addcmul(&self.grads, &self.grads, 1.0 - self.hypers.sqr_mom)
    }

    /// Adds the gradients to the undamped sum, state `i`.
    pub(super) fn sum(&self, i: usize) -> Result<()> {
        self.state(i).mul(self.hypers.mom)?;
        self.state(i).add(&self.grads, 1.0)
    }

    /// Returns the divisor that corrects the bias of a damped running mean after this step.
    pub(super) fn debias(&self, mom: f64) -> f64 {
        1.0 - mom.powi(i32::try_from(self.step).unwrap_or(i32::MAX))
    }

    /// Returns `√(x / by) + eps` for state `i`.
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

/// An update rule. The rules of this crate are fastai's. Your own rule needs a few calls on
/// [`TensorList`]s:
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
pub trait Rule: Debug + Send {
    /// Returns the initial hyperparameters.
    fn hypers(&self) -> Hypers;

    /// Returns the names of the state tensors of each parameter. Each has the parameter's shape and starts
    /// as zeros. Default: none.
    fn state_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns true if the rule depends on the number of steps of a parameter; the count is then saved with
    /// the state. Default: false.
    fn counts(&self) -> bool {
        false
    }

    /// Updates the parameters of one group.
    ///
    /// # Errors
    /// Errors of libtorch.
    fn step(&self, group: &StepGroup) -> Result<()>;
}
