//! The error type, which the crate of images and this one share.

pub use finetune_image::{BoxError, Error, Result};
