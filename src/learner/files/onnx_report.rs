//! The comparison of an ONNX file with the model, as a value.

use std::fmt;

/// The comparison of an ONNX file with the model on validation items.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OnnxVerification {
    /// The runtime: `tract`.
    pub runtime: &'static str,
    /// The number of items that were compared.
    pub items: usize,
    /// The largest difference between an output of the file and of the model: of logits, or of probabilities if the
    /// file contains the activation.
    pub largest_difference: f64,
    /// The largest absolute output of the model: the scale of the differences.
    pub scale: f64,
    /// The items whose label differs; at most the fraction [`OnnxOptions::tolerance`](super::onnx::OnnxOptions::tolerance).
    /// For numbers, points and masks, those with an output that differs by more than 0.001 of the largest output, or 0.01 with
    /// 16-bit weights.
    pub differing: Vec<OnnxDifference>,
}

/// An item whose label by the ONNX file differs from that by the model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OnnxDifference {
    /// The position of the item in its data set.
    pub item: usize,
    /// The name of the item: its file, if it has one.
    pub name: String,
    /// The label by the model.
    pub expected: String,
    /// The label by the file.
    pub found: String,
}

impl fmt::Display for OnnxVerification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runtime, items, largest_difference, scale, differing } = self;
        write!(
            f,
            "{} of {items} items have the model's label in {runtime}, outputs differ by at most {largest_difference:.1e} of \
             {scale:.1e}",
            items - differing.len()
        )
    }
}
