//! Policies: schedules of the hyperparameters over a fit.

pub(in crate::learner) mod policy;

pub use policy::{
    Course, Defaults, FineTune, Flat, FlatCos, OneCycle, ParamScheduler, Policy, Sgdr,
};
