//! A fit as data, so that it can be taken up again.

use crate::learner::Course;
use serde::{Deserialize, Serialize};

/// One fit of possibly several: `fine_tune` has two.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::learner) struct Stage {
    /// The first group that learns; none to leave that as it is.
    pub(in crate::learner) freeze_to: Option<usize>,
    pub(in crate::learner) course: Course,
}
