#![doc = include_str!("../README.md")]

mod failure;
mod file;
mod input;
mod network;
mod outputs;
mod parts;
mod predictor;

pub use finetune_image::{
    BoxError, Error, Result,
    card::{ModelCard, NetworkInput, NetworkOutput, OutputActivation},
    image::Image,
    ndarray,
    prediction::Prediction,
    preparation::{Preparation, Prepared},
    sample::{Point, Target, Task},
    source::ImageSource,
};
pub use input::Input;
pub use network::Network;
pub use predictor::Predictor;
