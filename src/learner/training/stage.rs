//! A fit as data, so that it can be resumed.

use crate::learner::Course;
use serde::{Deserialize, Serialize};

/// One fit of a sequence: `fine_tune` has two.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::learner) struct Stage {
    /// The first trainable group; `None` to keep the current one.
    pub(in crate::learner) freeze_to: Option<usize>,
    pub(in crate::learner) course: Course,
}
