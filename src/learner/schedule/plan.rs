//! Training plans: sequences of fits.

use super::{Course, Defaults, FineTune, Policy};
use crate::error::Result;

/// The plan of [`Learner::fit_or_resume`](crate::learner::Learner::fit_or_resume): a [`Policy`], which is
/// one fit, or a [`FineTune`], which is two.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a training plan",
    note = "use a policy such as `OneCycle::new(epochs)`, or `FineTune::new(epochs)`"
)]
pub trait TrainingPlan {
    /// Returns the fits to run sequentially, for `groups` parameter groups. Each consists of the first
    /// group that is trained, or `None` to leave that unchanged, and the course.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for an invalid option.
    fn courses(&self, groups: usize, defaults: &Defaults) -> Result<Vec<(Option<usize>, Course)>>;

    /// Returns true if the first fit starts with a linear probe as the head; see [`FineTune::from_probe`].
    /// Default: false.
    fn starts_from_probe(&self) -> bool {
        false
    }
}

impl<P: Policy> TrainingPlan for P {
    fn courses(&self, groups: usize, defaults: &Defaults) -> Result<Vec<(Option<usize>, Course)>> {
        Ok(vec![(None, self.course(groups, defaults)?)])
    }
}

impl TrainingPlan for FineTune {
    fn courses(&self, groups: usize, defaults: &Defaults) -> Result<Vec<(Option<usize>, Course)>> {
        let (head, whole) = self.stages(defaults);
        let whole = (Some(0), whole.course(groups, defaults)?);
        let head = head.map(|head| head.course(groups, defaults)).transpose()?;
        let head = head.map(|course| (Some(groups.saturating_sub(1)), course));
        Ok(head.into_iter().chain([whole]).collect())
    }

    fn starts_from_probe(&self) -> bool {
        self.is_from_probe()
    }
}
