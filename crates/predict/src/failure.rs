//! The error of a prediction.

use finetune_image::Error;

/// Returns the error of a network that cannot be computed for an image.
pub(crate) fn failed(why: impl Into<String>) -> Error {
    Error::computation(|| "the prediction".to_owned())(Error::other(why.into()))
}
