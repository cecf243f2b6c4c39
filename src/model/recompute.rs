//! Gradient checkpointing: blocks whose activations the backward pass computes again.
//!
//! Chen et al., [Training Deep Nets with Sublinear Memory Cost](https://arxiv.org/abs/1604.06174).

use super::{batch_norm, switch::Switch};
use crate::sys;
use std::{
    cell::Cell,
    fmt,
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
};
use tch::{Tensor, nn::ModuleT};

thread_local! {
    /// True if blocks on this thread are computed again.
    static RECOMPUTES: Cell<bool> = const { Cell::new(false) };
}

/// If `yes`, enables gradient checkpointing on this thread until the result is dropped.
pub(super) fn recomputing(yes: bool) -> Switch {
    Switch::set(&RECOMPUTES, yes)
}

/// A block. Its network and the autograd graphs that compute it again own it together.
#[derive(Clone)]
pub(super) struct Block(Arc<Mutex<Box<dyn ModuleT>>>);

impl Block {
    pub(super) fn of(block: Box<dyn ModuleT>) -> Self {
        Self(Arc::new(Mutex::new(block)))
    }

    fn plain(&self, x: &Tensor, train: bool) -> Tensor {
        // A block has no state that a panic could corrupt.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).forward_t(x, train)
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fmt(f)
    }
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        if !train || !RECOMPUTES.get() {
            return self.plain(x, train);
        }
        let (block, held) = (self.clone(), batch_norm::is_held());
        let run = move |x: &Tensor, again: bool| {
            // The backward pass may be on another thread.
            let _hold = batch_norm::hold(held);
            let _again = batch_norm::again(again);
            block.plain(x, true)
        };
        // Like the modules of tch, this module reports errors by panics; `Model::forward` converts them to errors.
        sys::recomputed(x, run).unwrap_or_else(|e| resume_unwind(Box::new(e.to_string())))
    }
}
