//! A fit as data, so that it can be taken up again.

use super::Course;
use serde::{Deserialize, Serialize};

/// One fit of possibly several: `fine_tune` has two.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Stage {
    /// The first group that learns; none to leave that as it is.
    pub(super) freeze_to: Option<usize>,
    pub(super) course: Course,
}
