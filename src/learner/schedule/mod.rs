//! Policies: schedules of the hyperparameters over a fit.

mod fine_tune;
mod flat;
mod flat_cos;
mod one_cycle;
mod policy;
mod scheduler;
mod sgdr;

pub use {
    fine_tune::FineTune,
    flat::Flat,
    flat_cos::FlatCos,
    one_cycle::OneCycle,
    policy::{Course, Defaults, Policy},
    scheduler::ParamScheduler,
    sgdr::Sgdr,
};
