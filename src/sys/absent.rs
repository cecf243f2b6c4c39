//! Replaces the native layer when the documentation is built without libtorch. Its functions are never called.

use crate::error::{Error, Result};
use tch::{Device, Kind, Tensor};

fn absent<T>() -> Result<T> {
    Err(Error::unsupported("doc-only", "this build is for documentation and has no libtorch"))
}

pub(crate) fn tensor_lent(
    data: Vec<f32>,
    _: &[i64],
    _: &[i64],
    give_back: impl FnOnce(Vec<f32>) + Send + 'static,
) -> Result<Tensor> {
    give_back(data);
    absent()
}

pub(super) fn grad_enabled() -> bool {
    true
}

pub(super) fn set_grad_enabled(_: bool) {}

/// Automatic casts, from `enter` until the value is dropped.
#[derive(Debug)]
pub(crate) struct Autocast(());

impl Autocast {
    /// Starts automatic casts to `kind` on `device`.
    ///
    /// # Errors
    /// Always, in this build.
    pub(crate) fn enter(_: Device, _: Kind) -> Result<Self> {
        absent()
    }
}

pub(crate) fn recomputed(
    _: &Tensor,
    _: impl Fn(&Tensor, bool) -> Tensor + Send + Sync + 'static,
) -> Result<Tensor> {
    absent()
}

pub(super) fn has_cuda_half() -> Result<bool> {
    absent()
}

pub(crate) fn pinned(_: &Tensor) -> Result<Tensor> {
    absent()
}

/// Returns the version of the libtorch that this program was compiled against.
#[must_use]
pub(crate) fn version() -> String {
    String::new()
}

/// Returns the processor instructions that libtorch uses.
#[must_use]
pub(crate) fn capability() -> String {
    String::new()
}
