//! Recording and progress display of a fit.

pub(in crate::learner) mod duration;
pub(in crate::learner) mod history;
pub(in crate::learner) mod metrics;
pub(in crate::learner) mod progress;
pub(in crate::learner) mod recorder;

pub use {
    history::{EpochRow, History},
    progress::{Progress, Steps},
};
