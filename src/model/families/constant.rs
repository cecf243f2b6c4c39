//! Tensors that a layer computes once: tables of positions, masks.

use std::sync::{Mutex, PoisonError};
use tch::{Device, Tensor};

/// A tensor that is neither trained nor saved. It is moved to the device on which it is first used.
#[derive(Debug)]
pub(super) struct Constant(Mutex<Tensor>);

impl Constant {
    pub(super) fn new(tensor: Tensor) -> Self {
        Self(Mutex::new(tensor))
    }

    /// Returns the tensor on `device`.
    pub(super) fn on(&self, device: Device) -> Tensor {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if own.device() != device {
            *own = own.to_device(device);
        }
        own.shallow_clone()
    }
}
