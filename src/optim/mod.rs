//! Optimizers over groups of parameters, and schedules of their hyperparameters.

mod adam;
mod lamb;
mod larc;
mod lookahead;
mod lr;
mod optimizer;
mod qhadam;
mod radam;
mod ranger;
mod rms_prop;
mod rule;
mod scaler;
mod schedule;
mod sgd;

pub use {
    crate::sys::TensorList,
    adam::Adam,
    lamb::Lamb,
    larc::Larc,
    lr::Lr,
    optimizer::Optimizer,
    qhadam::QhAdam,
    radam::RAdam,
    ranger::ranger,
    rms_prop::RmsProp,
    rule::{Rule, StepGroup},
    scaler::{GradScaler, ScalerState},
    schedule::{Anneal, Schedule},
    sgd::Sgd,
};

use crate::error::{Error, Result};
use std::fmt;

/// The hyperparameters of one group.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Hypers {
    /// The learning rate.
    pub lr: f64,
    /// The momentum β₁: the decay of the running mean of gradients.
    pub mom: f64,
    /// β₂: the decay of the running mean of squared gradients.
    pub sqr_mom: f64,
    /// The value added to a denominator.
    pub eps: f64,
    /// The weight decay.
    pub wd: f64,
}

impl Hypers {
    /// Returns hyperparameters with this learning rate, without momentum and weight decay.
    #[must_use]
    pub fn new(lr: f64) -> Self {
        Self { lr, mom: 0.0, sqr_mom: 0.0, eps: 0.0, wd: 0.0 }
    }

    /// Checks all values.
    ///
    /// # Errors
    /// As [`Hyper::check`].
    fn check(&self) -> Result<()> {
        Hyper::Lr.check("lr", self.lr)?;
        Hyper::Mom.check("mom", self.mom)?;
        Hyper::SqrMom.check("sqr_mom", self.sqr_mom)?;
        Hyper::Eps.check("eps", self.eps)?;
        Hyper::Wd.check("wd", self.wd)
    }
}

/// A hyperparameter that can be scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Hyper {
    /// The learning rate.
    Lr,
    /// The momentum.
    Mom,
    /// The momentum of squared gradients.
    SqrMom,
    /// The value added to a denominator.
    Eps,
    /// The weight decay.
    Wd,
}

impl fmt::Display for Hyper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Hyper {
    fn name(self) -> &'static str {
        match self {
            Self::Lr => "lr",
            Self::Mom => "mom",
            Self::SqrMom => "sqr_mom",
            Self::Eps => "eps",
            Self::Wd => "wd",
        }
    }

    /// Checks a value, which `option` sets.
    ///
    /// # Errors
    /// [`Error::Config`] if a momentum is not at least 0 and below 1, or another value is negative, NaN or infinite.
    pub(crate) fn check(self, option: &'static str, value: f64) -> Result<()> {
        let (fits, range) = match self {
            Self::Mom | Self::SqrMom => ((0.0..1.0).contains(&value), "at least 0 and below 1"),
            Self::Lr | Self::Eps | Self::Wd => {
                (value.is_finite() && value >= 0.0, "finite and not negative")
            }
        };
        if fits {
            return Ok(());
        }
        Err(Error::config(option, format!("is {value}; it must be {range}")))
    }
}

/// Defines the setters that many rules have.
macro_rules! setters {
    ($($name:ident),*) => { $(setters!(@ $name);)* };
    (@ mom) => {
        /// Sets the momentum β₁: the decay of the running mean of gradients.
        #[must_use]
        pub fn mom(mut self, mom: f64) -> Self {
            self.mom = mom;
            self
        }
    };
    (@ sqr_mom) => {
        /// Sets β₂: the decay of the running mean of squared gradients.
        #[must_use]
        pub fn sqr_mom(mut self, mom: f64) -> Self {
            self.sqr_mom = mom;
            self
        }
    };
    (@ eps) => {
        /// Sets the value added to the denominator.
        #[must_use]
        pub fn eps(mut self, eps: f64) -> Self {
            self.eps = eps;
            self
        }
    };
    (@ wd) => {
        /// Sets the weight decay.
        #[must_use]
        pub fn wd(mut self, wd: f64) -> Self {
            self.wd = wd;
            self
        }
    };
    (@ decouple_wd) => {
        /// If true, the decay multiplies the weights by `1 - lr * wd`; otherwise it is added to the
        /// gradients as L2 regularization. Default: true.
        #[must_use]
        pub fn decouple_wd(mut self, yes: bool) -> Self {
            self.decouple_wd = yes;
            self
        }
    };
}
use setters;
