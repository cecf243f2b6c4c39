//! The linear probe: a logistic regression on the features of the body, as a baseline for fine-tuning
//! and as the head with which it starts.

mod lbfgs;
mod logistic;
mod measure;
mod options;
mod report;
pub(in crate::learner) mod standing;

pub use {options::ProbeOptions, report::Probe};
