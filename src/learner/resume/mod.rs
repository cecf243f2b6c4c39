//! Runs that continue after an interruption: checkpoints, their generations, and what they must fit.

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
