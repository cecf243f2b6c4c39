//! Batch normalization that can hold still while it is frozen.

use std::cell::Cell;
use tch::{
    Tensor,
    nn::{self, BatchNormConfig, ModuleT, Path},
};

thread_local! {
    /// Whether frozen normalizations use their running statistics in training too.
    static HELD: Cell<bool> = const { Cell::new(false) };
}

/// Holds frozen normalizations on this thread until it is dropped, also by a panic.
pub(super) struct Hold {
    before: bool,
}

impl Hold {
    pub(super) fn new(yes: bool) -> Self {
        Self { before: HELD.replace(yes) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        HELD.set(self.before);
    }
}

/// `tch`'s batch normalization, which
/// [`Model::hold_frozen_norms`](super::Model::hold_frozen_norms) can reach: while it is held and its
/// weight does not learn, it uses its running statistics in training too, and leaves them alone.
#[derive(Debug)]
pub struct BatchNorm(nn::BatchNorm);

impl ModuleT for BatchNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let learns = self.0.ws.as_ref().is_some_and(Tensor::requires_grad);
        self.0.forward_t(x, train && (learns || !HELD.get()))
    }
}

/// Of N×C or N×C×L, as [`nn::batch_norm1d`].
#[must_use]
pub fn batch_norm1d(path: &Path<'_>, channels: i64, config: BatchNormConfig) -> BatchNorm {
    BatchNorm(nn::batch_norm1d(path, channels, config))
}

/// Of N×C×H×W, as [`nn::batch_norm2d`].
#[must_use]
pub fn batch_norm2d(path: &Path<'_>, channels: i64, config: BatchNormConfig) -> BatchNorm {
    BatchNorm(nn::batch_norm2d(path, channels, config))
}
