//! Target blocks: from labels to what a model learns.

pub(in crate::data) mod category;
pub(in crate::data) mod values;

pub use {
    category::{CategoryBlock, NA, Sort, TargetBlock},
    values::{EncodedMultiCategoryBlock, MultiCategoryBlock, RegressionBlock, RegressionLabel},
};
