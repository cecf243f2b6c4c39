//! How long to train, and what the hyper-parameters do meanwhile.

use crate::{
    error::{Error, Result},
    learner::{Callback, Step, Training, order},
    optim::{Anneal, Hyper, Lr, Schedule},
    sample::Batch,
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

/// How long to train, and what the hyper-parameters do meanwhile. [`Flat`], [`OneCycle`], [`FlatCos`]
/// and [`Sgdr`] are the policies of this crate; yours need this one method.
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

/// What the policies of this crate share.
#[derive(Debug, Clone)]
struct Common {
    epochs: usize,
    lr: Option<Lr>,
    wd: Option<f64>,
    reset_opt: bool,
    start_epoch: usize,
}

impl Common {
    fn new(epochs: usize) -> Self {
        Self { epochs, lr: None, wd: None, reset_opt: false, start_epoch: 0 }
    }

    /// The course without schedules, and the learning rate of each group.
    fn course(&self, groups: usize, defaults: &Defaults) -> Result<(Course, Vec<f64>)> {
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
        /// Whether to begin with a new optimizer, without its moments. Default: false.
        #[must_use]
        pub fn reset_opt(mut self, yes: bool) -> Self {
            self.common.reset_opt = yes;
            self
        }
        /// The epoch to begin with, to continue a fit that was stopped. Default: 0.
        #[must_use]
        pub fn start_epoch(mut self, epoch: usize) -> Self {
            self.common.start_epoch = epoch;
            self
        }
    };
}

fn fraction(option: &'static str, value: f64) -> Result<()> {
    let fits = value > 0.0 && value < 1.0;
    if fits {
        Ok(())
    } else {
        Err(Error::config(option, format!("{value} is not between 0 and 1")))
    }
}

fn divisor(option: &'static str, value: f64) -> Result<()> {
    let fits = value.is_finite() && value > 0.0;
    if fits { Ok(()) } else { Err(Error::config(option, format!("{value} is no positive number"))) }
}

/// The same learning rate throughout: fastai's `fit`.
#[derive(Debug, Clone)]
pub struct Flat {
    common: Common,
}

impl Flat {
    /// Trains for `epochs`.
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

/// One cycle: the learning rate rises by a cosine and falls by a cosine, the momentum the other way.
///
/// Smith, [Super-Convergence](https://arxiv.org/abs/1708.07120); fastai's `fit_one_cycle`.
#[derive(Debug, Clone)]
pub struct OneCycle {
    common: Common,
    div: f64,
    div_final: f64,
    pct_start: f64,
    moms: Option<(f64, f64, f64)>,
}

impl OneCycle {
    /// Trains for `epochs`.
    #[must_use]
    pub fn new(epochs: usize) -> Self {
        let common = Common::new(epochs);
        Self { common, div: 25.0, div_final: 1e5, pct_start: 0.25, moms: None }
    }
    lr_setter!();
    common_setters!();
    /// The first learning rate is the peak divided by this. Default: 25.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "fastai's name; a setter divides nothing")]
    pub fn div(mut self, div: f64) -> Self {
        self.div = div;
        self
    }
    /// The last learning rate is the peak divided by this. Default: 100,000.
    #[must_use]
    pub fn div_final(mut self, div: f64) -> Self {
        self.div_final = div;
        self
    }
    /// The part of the fit after which the peak is reached, between 0 and 1. Default: 0.25.
    #[must_use]
    pub fn pct_start(mut self, pct: f64) -> Self {
        self.pct_start = pct;
        self
    }
    /// The momentum at the start, at the peak and at the end. Default: the learner's.
    #[must_use]
    pub fn moms(mut self, start: f64, peak: f64, end: f64) -> Self {
        self.moms = Some((start, peak, end));
        self
    }
}

impl Policy for OneCycle {
    fn course(&self, groups: usize, defaults: &Defaults) -> Result<Course> {
        fraction("pct_start", self.pct_start)?;
        divisor("div", self.div)?;
        divisor("div_final", self.div_final)?;
        let (mut course, lrs) = self.common.course(groups, defaults)?;
        let cycle = |start, peak, end| Schedule::cos_cos(self.pct_start, start, peak, end);
        let (start, peak, end) = self.moms.unwrap_or(defaults.moms);
        let lrs = lrs.iter().map(|lr| cycle(lr / self.div, *lr, lr / self.div_final));
        course.schedules =
            vec![(Hyper::Lr, lrs.collect()), (Hyper::Mom, vec![cycle(start, peak, end); groups])];
        Ok(course)
    }
}

/// A flat learning rate that falls by a cosine at the end: fastai's `fit_flat_cos`.
#[derive(Debug, Clone)]
pub struct FlatCos {
    common: Common,
    div_final: f64,
    pct_start: f64,
}

impl FlatCos {
    /// Trains for `epochs`.
    #[must_use]
    pub fn new(epochs: usize) -> Self {
        Self { common: Common::new(epochs), div_final: 1e5, pct_start: 0.75 }
    }
    lr_setter!();
    common_setters!();
    /// The last learning rate is the flat one divided by this. Default: 100,000.
    #[must_use]
    pub fn div_final(mut self, div: f64) -> Self {
        self.div_final = div;
        self
    }
    /// The part of the fit after which the rate begins to fall, between 0 and 1. Default: 0.75.
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

/// Warm restarts: cycles that each fall to 0 by a cosine, each longer than the one before.
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
    /// Trains for `cycles`, the first of which takes `cycle_len` epochs.
    #[must_use]
    pub fn new(cycles: usize, cycle_len: usize) -> Self {
        Self { common: Common::new(0), cycles, cycle_len, cycle_mult: 2 }
    }
    lr_setter!();
    common_setters!();
    /// How many times longer each cycle is than the one before. Default: 2.
    #[must_use]
    pub fn cycle_mult(mut self, mult: usize) -> Self {
        self.cycle_mult = mult;
        self
    }
}

impl Policy for Sgdr {
    fn course(&self, groups: usize, defaults: &Defaults) -> Result<Course> {
        if self.cycles == 0 || self.cycle_len == 0 || self.cycle_mult == 0 {
            return Err(Error::config("Sgdr", "cycles, cycle_len and cycle_mult must not be 0"));
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

/// Trains the new head first, then the whole network with smaller rates for earlier groups: fastai's
/// [`fine_tune`](https://docs.fast.ai/callback.schedule.html#learner.fine_tune).
///
/// Weight decay, a new optimizer and the epoch to begin with are those of both stages; a stage that is not
/// longer than that epoch has none.
#[derive(Debug, Clone)]
pub struct FineTune {
    /// Of the second stage, without its learning rate.
    common: Common,
    base_lr: f64,
    freeze_epochs: usize,
    lr_mult: f64,
    pct_start: f64,
    div: f64,
    div_final: f64,
    moms: Option<(f64, f64, f64)>,
}

impl FineTune {
    /// Trains for `epochs` after the head's own.
    #[must_use]
    pub fn new(epochs: usize) -> Self {
        Self {
            common: Common::new(epochs),
            base_lr: 2e-3,
            freeze_epochs: 1,
            lr_mult: 100.0,
            pct_start: 0.3,
            div: 5.0,
            div_final: 1e5,
            moms: None,
        }
    }
    common_setters!();
    /// The head's learning rate while the body is frozen; half of it afterwards. Default: 2e-3.
    #[must_use]
    pub fn base_lr(mut self, lr: f64) -> Self {
        self.base_lr = lr;
        self
    }
    /// The epochs with a frozen body. Default: 1.
    #[must_use]
    pub fn freeze_epochs(mut self, epochs: usize) -> Self {
        self.freeze_epochs = epochs;
        self
    }
    /// How many times smaller the first group's rate is than the head's. Default: 100.
    #[must_use]
    pub fn lr_mult(mut self, mult: f64) -> Self {
        self.lr_mult = mult;
        self
    }
    /// The part of the second stage after which the peak is reached. Default: 0.3.
    #[must_use]
    pub fn pct_start(mut self, pct: f64) -> Self {
        self.pct_start = pct;
        self
    }
    /// The second stage begins with the peak divided by this. Default: 5.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "fastai's name; a setter divides nothing")]
    pub fn div(mut self, div: f64) -> Self {
        self.div = div;
        self
    }
    /// Both stages end with the peak divided by this. Default: 100,000.
    #[must_use]
    pub fn div_final(mut self, div: f64) -> Self {
        self.div_final = div;
        self
    }
    /// The momentum at the start, at the peak and at the end of both stages. Default: the learner's.
    #[must_use]
    pub fn moms(mut self, start: f64, peak: f64, end: f64) -> Self {
        self.moms = Some((start, peak, end));
        self
    }

    /// The stage with a frozen body and the one with the whole network.
    pub(in crate::learner) fn stages(&self) -> (OneCycle, OneCycle) {
        let stage = |epochs| OneCycle {
            common: Common { epochs, ..self.common.clone() },
            moms: self.moms,
            ..OneCycle::new(epochs).div_final(self.div_final)
        };
        let lr = self.base_lr / 2.0;
        let head = stage(self.freeze_epochs).lr(..=self.base_lr).pct_start(0.99);
        let whole = stage(self.common.epochs).lr(lr / self.lr_mult..=lr);
        (head, whole.pct_start(self.pct_start).div(self.div))
    }
}

impl From<usize> for FineTune {
    fn from(epochs: usize) -> Self {
        Self::new(epochs)
    }
}

/// Sets hyper-parameters by schedule before every training batch: what carries out a policy.
///
/// Lend one of your own to a fit to drive a hyper-parameter that its policy leaves alone.
#[derive(Debug)]
pub struct ParamScheduler {
    schedules: Vec<(Hyper, Vec<Schedule>)>,
}

impl ParamScheduler {
    /// One schedule for each group and hyper-parameter.
    #[must_use]
    pub fn new(schedules: Vec<(Hyper, Vec<Schedule>)>) -> Self {
        Self { schedules }
    }
}

impl Callback for ParamScheduler {
    fn order(&self) -> i32 {
        order::SCHEDULER
    }

    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        if t.at.is_training() {
            let done = t.at.progress();
            for (hyper, each) in &self.schedules {
                t.opt.set(*hyper, &each.iter().map(|s| s.at(done)).collect::<Vec<_>>());
            }
        }
        Ok(())
    }
}
