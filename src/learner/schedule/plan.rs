//! One fit after another.

use super::{Course, Defaults, FineTune, Policy};
use crate::error::Result;

/// What [`Learner::fit_or_resume`](crate::learner::Learner::fit_or_resume) trains by: a [`Policy`], which is one
/// fit, or a [`FineTune`], which is two.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a training plan",
    note = "use a policy such as `OneCycle::new(epochs)`, or `FineTune::new(epochs)`"
)]
pub trait TrainingPlan {
    /// The fits to do one after the other, for `groups` parameter groups. For each: the first group that is
    /// trained, or `None` to leave that as it is, and what to do.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for an option that cannot be used.
    fn courses(&self, groups: usize, defaults: &Defaults) -> Result<Vec<(Option<usize>, Course)>>;
}

impl<P: Policy> TrainingPlan for P {
    fn courses(&self, groups: usize, defaults: &Defaults) -> Result<Vec<(Option<usize>, Course)>> {
        Ok(vec![(None, self.course(groups, defaults)?)])
    }
}

impl TrainingPlan for FineTune {
    fn courses(&self, groups: usize, defaults: &Defaults) -> Result<Vec<(Option<usize>, Course)>> {
        let (head, whole) = self.stages();
        Ok(vec![
            (Some(groups.saturating_sub(1)), head.course(groups, defaults)?),
            (Some(0), whole.course(groups, defaults)?),
        ])
    }
}
