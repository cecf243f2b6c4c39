//! The types and functions that most programs need: `use finetune::prelude::*`.

#[cfg(feature = "csv")]
pub use crate::callback::CsvLogger;
#[cfg(feature = "download")]
pub use crate::download::{URLs, untar_data};
pub use crate::{
    Error, Result,
    callback::{
        CutMix, EarlyStopping, GradientAccumulation, GradientClip, MixUp, ReduceLrOnPlateau,
        SaveBest,
    },
    data::{
        CategoryBlock, DataBlock, DataLoaders, ImageBlock, MultiCategoryBlock, RandomSplitter,
        RegexLabeller, RegressionBlock, get_image_files, parent_label, using_name, verify_images,
    },
    interpret::ClassificationInterpretation,
    learner::{
        Callback, FineTune, FlatCos, Learner, OneCycle, Outcome, Predictor, Progress, Scope, Step,
        Training, unet_learner, vision_learner,
    },
    metric::{accuracy, error_rate},
    model::{
        efficientnet_b0, efficientnet_lite0, mobilenet_v3_large, resnet18, resnet34, resnet50,
    },
    sample::Batch,
    transform::{Resize, aug_transforms},
};
pub use tch::{Device, Tensor};
