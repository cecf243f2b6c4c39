//! The learning-rate finder.

pub(in crate::learner) mod curve;
pub(in crate::learner) mod sweep;

pub use {
    curve::{LrCurve, SuggestFunction, Suggestion},
    sweep::LrFinder,
};
