//! Fine-tunes image classifiers on libtorch: what fastai gives Python notebooks, for Rust programs.

pub mod callback;
pub mod data;
mod doctor;
pub mod download;
mod error;
pub mod format;
pub mod guide;
pub mod image;
pub mod interpret;
pub mod learner;
pub mod loss;
pub mod metric;
pub mod model;
pub mod optim;
pub mod prelude;
pub mod sample;
pub mod seed;
#[cfg(feature = "show")]
pub mod show;
pub mod sys;
pub mod transform;

pub use doctor::{Diagnosis, doctor};
pub use error::{BoxError, Error, Result};
pub use tch;

/// The first GPU where there is one, else the CPU. Loads libtorch's CUDA half if it is there.
#[must_use]
pub fn default_device() -> tch::Device {
    match sys::cuda() {
        sys::CudaStatus::Available(_) => tch::Device::Cuda(0),
        _ => tch::Device::Cpu,
    }
}
