//! A linear warm-up and a cosine.

use super::policy::{Common, Course, Defaults, Policy, common_setters, divisor, lr_setter};
use crate::{
    error::{Error, Result},
    optim::{Anneal, Hyper, Lr, Schedule},
};

/// A learning rate that rises linearly during the warm-up and then falls by a cosine to the end: the usual
/// schedule for transformers.
///
/// Each batch has its own rate. The rates are those of timm's `CosineLRScheduler` with `warmup_prefix=True`,
/// `t_in_epochs=False`, and of `get_cosine_schedule_with_warmup` of Hugging Face's transformers. Momentum is
/// not scheduled.
///
/// ```
/// use finetune::{learner::{Defaults, Policy, WarmupCosine}, optim::Hyper};
///
/// let policy = WarmupCosine::new(10).lr(1e-3).warmup_epochs(2.0);
/// let course = policy.course(1, &Defaults::default())?;
/// let (hyper, each) = &course.schedules[0];
/// assert_eq!(*hyper, Hyper::Lr);
/// assert!((each[0].at(0.0) - 1e-5).abs() < 1e-9); // the first batch
/// assert!((each[0].at(0.2) - 1e-3).abs() < 1e-9); // after the warm-up
/// assert!((each[0].at(0.6) - 5e-4).abs() < 1e-7); // the middle of the cosine
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct WarmupCosine {
    common: Common,
    warmup_epochs: Option<f64>,
    div: f64,
    div_final: f64,
}

impl WarmupCosine {
    /// Returns the policy for a number of epochs, including the warm-up.
    #[must_use]
    pub fn new(epochs: usize) -> Self {
        Self { common: Common::new(epochs), warmup_epochs: None, div: 100.0, div_final: 1e5 }
    }
    lr_setter!();
    common_setters!();
    /// Sets the length of the warm-up in epochs, at least 0 and below the number of epochs. 1.5 ends it in the
    /// middle of the second epoch. Default: a tenth of the epochs.
    #[must_use]
    pub fn warmup_epochs(mut self, epochs: f64) -> Self {
        self.warmup_epochs = Some(epochs);
        self
    }
    /// Sets the ratio of the peak to the initial learning rate. Default: 100.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "fastai's name; a setter divides nothing")]
    pub fn div(mut self, div: f64) -> Self {
        self.div = div;
        self
    }
    /// Sets the ratio of the peak to the final learning rate. Default: 100,000.
    #[must_use]
    pub fn div_final(mut self, div: f64) -> Self {
        self.div_final = div;
        self
    }
}

impl Policy for WarmupCosine {
    fn course(&self, groups: usize, defaults: &Defaults) -> Result<Course> {
        divisor("div", self.div)?;
        divisor("div_final", self.div_final)?;
        let epochs = self.common.epochs as f64;
        let warmup = self.warmup_epochs.unwrap_or(epochs / 10.0);
        let fits = warmup == 0.0 || (warmup > 0.0 && warmup < epochs);
        if !fits {
            let why = format!(
                "is {warmup}; it must be at least 0 and below {epochs}, the number of epochs"
            );
            return Err(Error::config("warmup_epochs", why));
        }
        let part = if warmup > 0.0 { warmup / epochs } else { 0.0 };
        let (mut course, lrs) = self.common.course(groups, defaults)?;
        let schedule = |&lr: &f64| {
            let rise = (part, Anneal::Linear, lr / self.div, lr);
            Schedule::combine(vec![rise, (1.0 - part, Anneal::Cos, lr, lr / self.div_final)])
        };
        course.schedules = vec![(Hyper::Lr, lrs.iter().map(schedule).collect::<Result<_>>()?)];
        Ok(course)
    }
}
