//! Images in memory: decoding, cropping, padding and resizing, without tensors.

pub use finetune_image::image::{
    Codes, Decode, Facts, Filter, Image, PadMode, Turn, inspect, promised_format,
};
