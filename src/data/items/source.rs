//! Where the image of an item is, and what kind of image a block wants.

pub use finetune_image::source::{ImageBlock, ImageSource};
