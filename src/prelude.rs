//! All that a program usually needs.

pub use crate::{
    Error, Result,
    callback::{
        CsvLogger, CutMix, EarlyStopping, GradientAccumulation, GradientClip, MixUp,
        ReduceLrOnPlateau, SaveBest,
    },
    data::{
        CategoryBlock, DataBlock, DataLoaders, ImageBlock, MultiCategoryBlock, RandomSplitter,
        RegexLabeller, RegressionBlock, URLs, get_image_files, parent_label, untar_data,
        using_name, verify_images,
    },
    interpret::ClassificationInterpretation,
    learner::{
        Callback, FineTune, FlatCos, Learner, OneCycle, Predictor, Progress, Scope, Step, Training,
        vision_learner,
    },
    metric::{accuracy, error_rate},
    model::{
        efficientnet_b0, mobilenet_v3_large, mobilenet_v3_small, resnet18, resnet34, resnet50,
        resnet101, resnet152,
    },
    transform::{Resize, aug_transforms},
};
pub use tch::{Device, Tensor};
