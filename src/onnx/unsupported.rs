//! The error of a network that cannot be exported.

use crate::error::Error;

/// The error of a network that cannot be exported.
pub(super) fn unsupported(why: impl Into<String>) -> Error {
    Error::unsupported("export_onnx", why)
}
