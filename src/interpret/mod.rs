//! Interpretation: what a model gets right and wrong, from predictions that are computed once.
//!
//! | task | type |
//! |---|---|
//! | one category per image | [`ClassificationInterpretation`] |
//! | several categories per image | [`MultiLabelInterpretation`] |
//! | numbers | [`RegressionInterpretation`] |
//! | masks | [`SegmentationInterpretation`] |
//! | any task: the best and worst items | [`Interpretation`] |
//!
//! Predictions are computed once; [fastai](https://docs.fast.ai/interpret.html) predicts again in most of
//! its methods.

mod calibration;
mod classification;
mod kept;
mod multi_label;
mod regression;
mod report;
mod segmentation;

pub use crate::metric::{Proportion, Roc};
pub use calibration::{Bin, Calibration};
pub use classification::ClassificationInterpretation;
pub use kept::{Interpretation, ItemLoss};
pub use multi_label::{LabelCounts, MultiLabelInterpretation};
pub use regression::RegressionInterpretation;
pub use report::{ClassificationReport, ReportRow};
pub use segmentation::{CodeOverlap, SegmentationInterpretation};
