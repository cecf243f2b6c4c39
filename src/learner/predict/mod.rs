//! Prediction: on loaders, on single images, and from an exported file.

pub(in crate::learner) mod evaluate;
pub(in crate::learner) mod pixels;
pub(in crate::learner) mod prediction;
pub(in crate::learner) mod predictor;
pub(in crate::learner) mod tiles;
pub(in crate::learner) mod tta;

pub use {
    evaluate::{PredictOptions, Predictions},
    prediction::Prediction,
    predictor::Predictor,
    tiles::Tiles,
    tta::Tta,
};
