//! The part of [`finetune`](https://docs.rs/finetune) that training and a predictor without libtorch share: decoding by
//! content, resizing as Pillow does it, transforms that run on a CPU, targets and predictions.
//!
//! `finetune` re-exports these modules; use them from there. The feature `torch` adds everything that takes or returns
//! tensors of libtorch.

pub mod card;
mod caught;
mod error;
pub mod image;
mod memory;
pub mod prediction;
pub mod preparation;
pub mod sample;
pub mod seed;
pub mod source;
mod sys;
pub mod transform;

pub use caught::{Panic, caught};
pub use error::{BoxError, Error, Result};
pub use ndarray;
