//! The learner: a model, its data, and the loop that trains it.

pub(crate) mod files;
#[expect(clippy::module_inception, reason = "the file holds the type of that name")]
mod learner;
mod lr_find;
mod predict;
mod probe;
mod record;
mod resume;
mod schedule;
mod training;
mod vision;

pub use {
    files::{
        export::ExportOptions,
        onnx::{OnnxOptions, OnnxReport},
        onnx_report::{OnnxDifference, OnnxVerification},
    },
    learner::{Learner, OptFunc},
    lr_find::{LrCurve, LrFinder, SuggestFunction, Suggestion},
    predict::{PredictOptions, Prediction, Predictions, Predictor, Tiles, Tta},
    probe::{Probe, ProbeOptions},
    record::{EpochRow, History, Progress, Steps},
    resume::{Checkpoint, Difference, OnCheckpointError},
    schedule::{
        Course, Defaults, FineTune, Flat, FlatCos, OneCycle, ParamScheduler, Policy, Sgdr,
        TrainingPlan, WarmupCosine,
    },
    training::{
        Callback, DistributedOptions, MixedPrecision, Outcome, Position, Precision, Scope, Step,
        Stop, StopHandle, Training, order,
    },
    vision::{VisionLearner, unet_learner, vision_learner},
};

pub(crate) use record::history::number as recorder_number;
#[cfg(feature = "dashboard")]
pub(crate) use record::{duration::time, progress::waits};
