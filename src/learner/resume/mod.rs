//! Runs that resume after an interruption: checkpoints, their generations, and the comparison with the
//! program.

mod checkpoint;
mod fingerprint;
mod fit_or_resume;
mod generations;
mod identity;
pub(in crate::learner) mod request;
mod saved;
mod signals;
mod write;

pub use {
    checkpoint::{Checkpoint, OnCheckpointError},
    fingerprint::Difference,
};
