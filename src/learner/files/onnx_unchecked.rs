//! Replaces the comparison of an ONNX file with the model in builds without a runtime.

use super::onnx_report::OnnxVerification;
use crate::{
    data::DataLoader,
    error::{Error, Result},
    learner::Training,
    onnx::ModelCard,
};
use std::path::Path;

/// The file to compare.
#[expect(dead_code, reason = "builds with a runtime read the fields")]
pub(super) struct Exported<'a> {
    pub(super) path: &'a Path,
    pub(super) bytes: &'a [u8],
    pub(super) card: &'a ModelCard,
    pub(super) half: bool,
}

/// Whether this build has a runtime.
pub(super) const AVAILABLE: bool = false;

/// Fails: there is no runtime.
pub(super) fn available() -> Result<()> {
    Err(absent())
}

/// Fails: there is no runtime.
pub(super) fn verified(
    _: &Training,
    _: &DataLoader,
    _: &Exported<'_>,
    _: usize,
) -> Result<OnnxVerification> {
    Err(absent())
}

fn absent() -> Error {
    let why = "this program was built without the cargo feature `onnx` of `finetune`, which verifies files: enable the \
               feature, or leave `OnnxOptions::verify` out";
    Error::unsupported("export_onnx", why)
}
