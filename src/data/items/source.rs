//! Image sources, and the kind of image that a block produces.

pub use finetune_image::source::{ImageBlock, ImageSource};
