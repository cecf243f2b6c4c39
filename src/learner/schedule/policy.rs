//! Training policies: the number of epochs and the schedules of hyperparameters.

use crate::{
    error::{Error, Result},
    optim::{Hyper, Lr, Schedule},
};

/// The course of a fit for a given number of parameter groups. To create one, change the fields of
/// `Course::default()`.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Course {
    /// The total number of epochs.
    pub epochs: usize,
    /// The first epoch; earlier ones count as done, so that a stopped fit can be continued.
    pub start_epoch: usize,
    /// Values set before the first batch, one per group.
    pub set: Vec<(Hyper, Vec<f64>)>,
    /// Values set before every training batch, as functions of the completed fraction of the fit; one
    /// schedule per group.
    pub schedules: Vec<(Hyper, Vec<Schedule>)>,
    /// If true, starts with a new optimizer.
    pub reset_opt: bool,
}

/// The values that a learner uses if a policy does not set them. To create them, change the fields of
/// `Defaults::default()`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Defaults {
    /// The learning rate. Default: 1e-3.
    pub lr: Lr,
    /// The momentum at the start, at the peak of the learning rate and at the end of one cycle.
    /// Default: 0.95, 0.85, 0.95.
    pub moms: (f64, f64, f64),
    /// The weight decay; `None` for the optimizer's own. Default: `None`.
    pub wd: Option<f64>,
    /// The ratio of the learning rate of each group to that of the next group, above 0 and at most 1; `None`
    /// for equal rates. Default: `None`.
    pub layer_decay: Option<f64>,
}

impl Defaults {
    /// Returns the factors of the learning rates of `groups` parameter groups, for a policy whose own layer
    /// decay is `own`. timm's `param_groups_layer_decay` computes the same from the layers of a network.
    pub(in crate::learner) fn layer_scales(
        &self,
        own: Option<f64>,
        groups: usize,
    ) -> Result<Vec<f64>> {
        let Some(decay) = own.or(self.layer_decay) else { return Ok(vec![1.0; groups]) };
        let fits = decay > 0.0 && decay <= 1.0;
        if !fits {
            let why = format!("is {decay}; it must be above 0 and at most 1");
            return Err(Error::config("layer_decay", why));
        }
        Ok((1..=groups).map(|i| decay.powf((groups - i) as f64)).collect())
    }
}

impl Default for Defaults {
    fn default() -> Self {
        Self { lr: Lr::from(1e-3), moms: (0.95, 0.85, 0.95), wd: None, layer_decay: None }
    }
}

/// A training policy: how long to train, and the schedules of the hyperparameters. [`Flat`](super::Flat),
/// [`OneCycle`](super::OneCycle), [`FlatCos`](super::FlatCos), [`WarmupCosine`](super::WarmupCosine) and
/// [`Sgdr`](super::Sgdr) are the policies of this crate; your own needs only this method.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a training policy",
    note = "use `OneCycle::new(epochs)`, `Flat::new(epochs)`, or implement `Policy`"
)]
pub trait Policy {
    /// Returns the course for `groups` parameter groups.
    ///
    /// # Errors
    /// [`Error::Config`] for an invalid option.
    fn course(&self, groups: usize, defaults: &Defaults) -> Result<Course>;
}

impl<P: Policy + ?Sized> Policy for &P {
    fn course(&self, groups: usize, defaults: &Defaults) -> Result<Course> {
        (**self).course(groups, defaults)
    }
}

/// The settings that the policies of this crate share.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) epochs: usize,
    pub(super) lr: Option<Lr>,
    pub(super) layer_decay: Option<f64>,
    pub(super) wd: Option<f64>,
    pub(super) reset_opt: bool,
    pub(super) start_epoch: usize,
}

impl Common {
    pub(super) fn new(epochs: usize) -> Self {
        let (lr, layer_decay, wd) = (None, None, None);
        Self { epochs, lr, layer_decay, wd, reset_opt: false, start_epoch: 0 }
    }

    /// Returns the course without schedules, and the learning rate of each group.
    pub(super) fn course(&self, groups: usize, defaults: &Defaults) -> Result<(Course, Vec<f64>)> {
        let mut lrs = self.lr.as_ref().unwrap_or(&defaults.lr).for_groups(groups)?;
        let scales = defaults.layer_scales(self.layer_decay, groups)?;
        lrs.iter_mut().zip(scales).for_each(|(lr, scale)| *lr *= scale);
        lrs.iter().try_for_each(|lr| Hyper::Lr.check("lr", *lr))?;
        let wd = self.wd.or(defaults.wd);
        wd.iter().try_for_each(|wd| Hyper::Wd.check("wd", *wd))?;
        let mut set = vec![(Hyper::Lr, lrs.clone())];
        set.extend(wd.map(|wd| (Hyper::Wd, vec![wd; groups])));
        let (epochs, start_epoch, reset_opt) = (self.epochs, self.start_epoch, self.reset_opt);
        Ok((Course { epochs, start_epoch, set, schedules: vec![], reset_opt }, lrs))
    }
}

/// Defines the setter of the learning rate.
macro_rules! lr_setter {
    () => {
        /// Sets the peak learning rate: a number, a range over the groups (`1e-6..=1e-4`), or an open range
        /// (`..=1e-3`: a tenth of it for all groups but the last). Default: the learner's.
        #[must_use]
        pub fn lr(mut self, lr: impl Into<Lr>) -> Self {
            self.common.lr = Some(lr.into());
            self
        }
    };
}

/// Defines the setters that every policy has.
macro_rules! common_setters {
    () => {
        /// Sets layer-wise learning-rate decay: the rate of each group is multiplied by `decay` once for every
        /// group after it. The last group, the head, has the full rate. The decay applies to all rates that are
        /// set; `1.0` disables the learner's own decay. Above 0 and at most 1, typically from 0.65 to 0.9.
        /// Default: the learner's.
        ///
        /// The groups should be the blocks of the network, as created by
        /// [`VisionLearner::layer_decay`](crate::learner::VisionLearner::layer_decay) or
        /// [`Arch::split_layers`](crate::model::Arch::split_layers).
        #[must_use]
        pub fn layer_decay(mut self, decay: f64) -> Self {
            self.common.layer_decay = Some(decay);
            self
        }
        /// Sets the weight decay, 0 or more. Default: the learner's.
        #[must_use]
        pub fn wd(mut self, wd: f64) -> Self {
            self.common.wd = Some(wd);
            self
        }
        /// If true, starts with a new optimizer state. Default: false.
        #[must_use]
        pub fn reset_opt(mut self, yes: bool) -> Self {
            self.common.reset_opt = yes;
            self
        }
        /// Sets the first epoch, to continue a stopped fit. Default: 0.
        #[must_use]
        pub fn start_epoch(mut self, epoch: usize) -> Self {
            self.common.start_epoch = epoch;
            self
        }
    };
}

pub(super) use {common_setters, lr_setter};

pub(super) fn fraction(option: &'static str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(Error::config(option, format!("is {value}; it must be from 0 to 1")))
    }
}

pub(super) fn divisor(option: &'static str, value: f64) -> Result<()> {
    let fits = value.is_finite() && value > 0.0;
    if fits {
        Ok(())
    } else {
        Err(Error::config(option, format!("is {value}; it must be positive")))
    }
}
