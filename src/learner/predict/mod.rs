//! Prediction: on loaders, on single images, and from an exported file.

pub(in crate::learner) mod evaluate;
pub(in crate::learner) mod predictor;
pub(in crate::learner) mod tiles;
pub(in crate::learner) mod tta;

pub use finetune_image::prediction::Prediction;
pub use {
    evaluate::{PredictOptions, Predictions},
    predictor::Predictor,
    tiles::Tiles,
    tta::Tta,
};
