//! The training loop, its state, and the events that callbacks handle.

mod advice;
pub(in crate::learner) mod callback;
pub(in crate::learner) mod epochs;
pub(in crate::learner) mod finite;
pub(in crate::learner) mod fit;
pub(in crate::learner) mod mixed_precision;
pub(in crate::learner) mod parallel;
mod shards;
pub(in crate::learner) mod stage;
pub(in crate::learner) mod state;
pub(in crate::learner) mod stop;
mod together;

pub use {
    callback::{Callback, Outcome, Scope, Step, Stop, order},
    mixed_precision::MixedPrecision,
    parallel::DistributedOptions,
    state::{Position, Precision, Training},
    stop::StopHandle,
};
