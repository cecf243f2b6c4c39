//! # How data flows
//!
//! 1. [`DataBlock`](data::DataBlock) lists the items of a source, labels them, and splits them into training and
//!    validation.
//! 2. [`DataLoaders`](data::DataLoaders) decode each image on a pool of threads, apply the item transforms, and
//!    assemble batches.
//! 3. Batch transforms add to a [`Plan`](transform::Plan): crops, warps and color changes of a whole batch. One pass over the
//!    pixels executes it.
//! 4. A [`Learner`](learner::Learner) sends each batch through its [`Model`](model::Model) and [`Loss`](loss::Loss),
//!    and an [`Optimizer`](optim::Optimizer) updates the parameters. [Callbacks](callback) are called at every step.
//! 5. [`History`](learner::History) records losses and metrics, and an [interpretation](interpret) shows what the model
//!    confuses.
//! 6. [`Learner::export`](learner::Learner::export) writes the model to one file. A [`Predictor`](learner::Predictor) loads it and
//!    prepares images with the same code as validation.
//!
// In the README, links point to files of the repository; in the API reference, to pages of the guide. Markdown
// uses the first definition of a link, so `readme.links` comes before the README.
#![doc = include_str!("../docs/readme.links")]
#![doc = include_str!("../README.md")]

pub mod callback;
pub mod data;
pub mod disk;
pub mod distributed;
mod doctor;
#[cfg(feature = "download")]
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
mod onnx;
pub mod optim;
pub mod prelude;
pub mod sample;
pub mod seed;
#[cfg(feature = "show")]
pub mod show;
mod sys;
pub mod transform;

pub use distributed::default_device;
pub use doctor::{Diagnosis, doctor};
pub use error::{BoxError, Error, Result};
pub use ndarray;
pub use sys::{CudaStatus, cuda};
pub use tch;
