//! The callback that sets scheduled hyperparameters.

use crate::{
    learner::{Callback, Step, Training, order},
    optim::{Hyper, Schedule},
    sample::Batch,
};

/// Sets scheduled hyperparameters before every training batch. A fit adds one for its policy.
///
/// Pass your own to a fit to schedule a hyperparameter that its policy does not set.
#[derive(Debug)]
pub struct ParamScheduler {
    schedules: Vec<(Hyper, Vec<Schedule>)>,
}

impl ParamScheduler {
    /// Creates the callback from one schedule for each hyperparameter and group.
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
                t.opt.set(*hyper, &each.iter().map(|s| s.at(done)).collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }
}
