// Links of the README lead to files of the repository. Here they lead to pages of the guide: of two
// definitions of a link the first counts, so these stand before the README's own.
#![doc = include_str!("../docs/readme.links")]
#![doc = include_str!("../README.md")]

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
mod sys;
pub mod transform;

pub use doctor::{Diagnosis, doctor};
pub use error::{BoxError, Error, Result};
pub use ndarray;
pub use sys::{CudaStatus, cuda};
pub use tch;

/// The first GPU where there is one, else the CPU. Loads libtorch's CUDA half if it is there.
#[must_use]
pub fn default_device() -> tch::Device {
    match sys::cuda() {
        sys::CudaStatus::Available(_) => tch::Device::Cuda(0),
        _ => tch::Device::Cpu,
    }
}
