//! What changes a sample on a worker, and what is planned for a batch and carried out at once.

use crate::{
    error::Result,
    sample::{Sample, Split},
    seed::Rng,
};
use std::fmt::Debug;

/// Changes one sample, on a worker thread.
///
/// It has no state: what is drawn comes from `rng` and ends with the call, so one transform serves
/// every thread. Its `Debug` is its description in `summary`.
pub trait ItemTransform: Debug + Send + Sync {
    /// The changed sample.
    ///
    /// # Errors
    /// Whatever keeps the transform from its work; the loader adds the item's name.
    fn apply(&self, sample: Sample, split: Split, rng: &mut Rng) -> Result<Sample>;
}
