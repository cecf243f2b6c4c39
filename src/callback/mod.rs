//! Optional callbacks of a fit.

mod accumulate;
mod bn_freeze;
mod clip;
#[cfg(feature = "csv")]
mod csv_log;
#[cfg(feature = "dashboard")]
mod dashboard;
mod early_stop;
mod ema;
mod event_file;
mod mixup;
mod monitor;
mod nan_guard;
mod reduce_lr;
mod save_best;
mod short_epoch;
mod tensorboard;

pub use crate::metric::Better;
#[cfg(feature = "csv")]
pub use csv_log::CsvLogger;
#[cfg(feature = "dashboard")]
pub use dashboard::Dashboard;
pub use {
    crate::learner::Checkpoint,
    accumulate::GradientAccumulation,
    bn_freeze::BnFreeze,
    clip::GradientClip,
    early_stop::EarlyStopping,
    ema::Ema,
    mixup::{Cut, CutMix, MixUp, Pairs},
    monitor::Monitor,
    nan_guard::{NanGuard, NanReport},
    reduce_lr::ReduceLrOnPlateau,
    save_best::SaveBest,
    short_epoch::ShortEpoch,
    tensorboard::TensorBoard,
};
