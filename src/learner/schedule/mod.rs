//! Policies: schedules of the hyperparameters over a fit.

mod fine_tune;
mod flat;
mod flat_cos;
mod one_cycle;
mod plan;
mod policy;
mod scheduler;
mod sgdr;
mod warmup_cosine;

pub use {
    fine_tune::FineTune,
    flat::Flat,
    flat_cos::FlatCos,
    one_cycle::OneCycle,
    plan::TrainingPlan,
    policy::{Course, Defaults, Policy},
    scheduler::ParamScheduler,
    sgdr::Sgdr,
    warmup_cosine::WarmupCosine,
};
