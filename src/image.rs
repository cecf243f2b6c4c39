//! Pixels without tensors: decode, crop, pad, resize.

pub use finetune_image::image::{
    Codes, Decode, Facts, Filter, Image, PadMode, Turn, inspect, promised_format,
};
