//! How long to train, and what the hyperparameters do meanwhile.

use crate::{
    error::{Error, Result},
    optim::{Hyper, Lr, Schedule},
};

/// What a fit is to do, for a given number of parameter groups.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Course {
    /// The epochs in all.
    pub epochs: usize,
    /// The epoch to begin with; those before it are taken as done, so a stopped fit can be continued.
    pub start_epoch: usize,
    /// Values set before the first batch, one for each group.
    pub set: Vec<(Hyper, Vec<f64>)>,
    /// Values set before every training batch, as functions of the part of the fit that is done; one
    /// schedule for each group.
    pub schedules: Vec<(Hyper, Vec<Schedule>)>,
    /// Whether to begin with a new optimizer.
    pub reset_opt: bool,
}

/// What a learner uses where a policy leaves something out.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// The learning rate. Default: 1e-3.
    pub lr: Lr,
    /// The momentum at the start, at the peak of the learning rate and at the end of one cycle.
    /// Default: 0.95, 0.85, 0.95.
    pub moms: (f64, f64, f64),
    /// The weight decay; none for the optimizer's own. Default: none.
    pub wd: Option<f64>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { lr: Lr::from(1e-3), moms: (0.95, 0.85, 0.95), wd: None }
    }
}

/// How long to train, and what the hyperparameters do meanwhile. [`Flat`](super::Flat), [`OneCycle`](super::OneCycle), [`FlatCos`](super::FlatCos)
/// and [`Sgdr`](super::Sgdr) are the policies of this crate; yours need this one method.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no training policy",
    note = "use `OneCycle::new(epochs)`, `Flat::new(epochs)`, or implement `Policy`"
)]
pub trait Policy {
    /// What to do with `groups` parameter groups.
    ///
    /// # Errors
    /// [`Error::Config`] for an option that cannot be used.
    fn course(&self, groups: usize, defaults: &Defaults) -> Result<Course>;
}

impl<P: Policy + ?Sized> Policy for &P {
    fn course(&self, groups: usize, defaults: &Defaults) -> Result<Course> {
        (**self).course(groups, defaults)
    }
}

/// What the policies of this crate share.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) epochs: usize,
    pub(super) lr: Option<Lr>,
    pub(super) wd: Option<f64>,
    pub(super) reset_opt: bool,
    pub(super) start_epoch: usize,
}

impl Common {
    pub(super) fn new(epochs: usize) -> Self {
        Self { epochs, lr: None, wd: None, reset_opt: false, start_epoch: 0 }
    }

    /// The course without schedules, and the learning rate of each group.
    pub(super) fn course(&self, groups: usize, defaults: &Defaults) -> Result<(Course, Vec<f64>)> {
        let lrs = self.lr.as_ref().unwrap_or(&defaults.lr).for_groups(groups)?;
        if lrs.iter().any(|lr| !lr.is_finite() || *lr < 0.0) {
            return Err(Error::config("lr", "must be finite and not negative"));
        }
        let wd = self.wd.or(defaults.wd);
        let mut set = vec![(Hyper::Lr, lrs.clone())];
        set.extend(wd.map(|wd| (Hyper::Wd, vec![wd; groups])));
        let (epochs, start_epoch, reset_opt) = (self.epochs, self.start_epoch, self.reset_opt);
        Ok((Course { epochs, start_epoch, set, schedules: vec![], reset_opt }, lrs))
    }
}

/// The setter of the learning rate.
macro_rules! lr_setter {
    () => {
        /// The peak learning rate: a number, a range over the groups (`1e-6..=1e-4`), or an open range
        /// (`..=1e-3`: a tenth of it for all groups but the last). Default: the learner's.
        #[must_use]
        pub fn lr(mut self, lr: impl Into<Lr>) -> Self {
            self.common.lr = Some(lr.into());
            self
        }
    };
}

/// The setters that every policy has.
macro_rules! common_setters {
    () => {
        /// The weight decay. Default: the learner's.
        #[must_use]
        pub fn wd(mut self, wd: f64) -> Self {
            self.common.wd = Some(wd);
            self
        }
        /// If true, starts with a new optimizer without moments. Default: false.
        #[must_use]
        pub fn reset_opt(mut self, yes: bool) -> Self {
            self.common.reset_opt = yes;
            self
        }
        /// The first epoch, to continue a stopped fit. Default: 0.
        #[must_use]
        pub fn start_epoch(mut self, epoch: usize) -> Self {
            self.common.start_epoch = epoch;
            self
        }
    };
}

pub(super) use {common_setters, lr_setter};

pub(super) fn fraction(option: &'static str, value: f64) -> Result<()> {
    let fits = value > 0.0 && value < 1.0;
    if fits {
        Ok(())
    } else {
        Err(Error::config(option, format!("{value} is not between 0 and 1")))
    }
}

pub(super) fn divisor(option: &'static str, value: f64) -> Result<()> {
    let fits = value.is_finite() && value > 0.0;
    if fits { Ok(()) } else { Err(Error::config(option, format!("{value} is no positive number"))) }
}
