//! Target blocks, which convert labels to the targets of a model.

pub(in crate::data) mod boxes;
pub(in crate::data) mod category;
pub(in crate::data) mod mask;
pub(in crate::data) mod multi_category;
pub(in crate::data) mod points;
pub(in crate::data) mod regression;

pub use {
    boxes::{BBoxBlock, BBoxLblBlock, Corners},
    category::{CategoryBlock, NA, Sort, TargetBlock},
    mask::MaskBlock,
    multi_category::{EncodedMultiCategoryBlock, MultiCategoryBlock},
    points::PointBlock,
    regression::{RegressionBlock, RegressionLabel},
};
