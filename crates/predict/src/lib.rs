#![doc = include_str!("../README.md")]

mod failure;
mod file;
mod network;
mod outputs;
mod predictor;

pub use finetune_image::{
    BoxError, Error, Result,
    card::{ModelCard, NetworkInput, NetworkOutput, OutputActivation},
    image::Image,
    ndarray,
    prediction::Prediction,
    sample::{Point, Target, Task},
    source::ImageSource,
};
pub use predictor::Predictor;
