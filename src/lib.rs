//! finetune

pub mod callback;
pub mod data;
pub mod download;
mod error;
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

pub use error::{BoxError, Error, Result};
pub use tch;
