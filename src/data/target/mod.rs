//! Target blocks: from labels to what a model learns.

pub(in crate::data) mod category;
pub(in crate::data) mod multi_category;
pub(in crate::data) mod regression;

pub use {
    category::{CategoryBlock, NA, Sort, TargetBlock},
    multi_category::{EncodedMultiCategoryBlock, MultiCategoryBlock},
    regression::{RegressionBlock, RegressionLabel},
};
