//! The error type, which `finetune-image` and this crate share.

pub use finetune_image::{BoxError, Error, Result};
