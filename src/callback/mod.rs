//! Callbacks to add to a fit. Each is a file of its own.

mod accumulate;
mod clip;
mod csv_log;
mod early_stop;
mod mixup;
mod monitor;
mod reduce_lr;
mod save_best;

pub use {
    accumulate::GradientAccumulation,
    clip::GradientClip,
    csv_log::CsvLogger,
    early_stop::EarlyStopping,
    mixup::{CutMix, MixUp},
    monitor::{Better, Monitor},
    reduce_lr::ReduceLrOnPlateau,
    save_best::SaveBest,
};
