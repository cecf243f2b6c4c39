//! Copies data to the device.

use crate::{error::Result, sys};
use tch::{Device, Tensor};

/// Copies bytes to `device`, asynchronously if possible.
pub(super) fn bytes_on(bytes: &[u8], shape: &[i64], device: Device) -> Result<Tensor> {
    match device {
        Device::Cuda(_) => {
            let pinned = sys::pinned_bytes(bytes, shape)?;
            Ok(pinned.f_to_device_(device, pinned.kind(), true, false)?)
        }
        device => Ok(Tensor::f_from_slice(bytes)?.f_view(shape)?.f_to_device(device)?),
    }
}

/// Copies a tensor to `device`, asynchronously if possible.
pub(super) fn move_to(x: Tensor, device: Device) -> Result<Tensor> {
    match device {
        Device::Cpu => Ok(x),
        Device::Cuda(_) => {
            let kind = x.kind();
            Ok(sys::pinned(&x)?.f_to_device_(device, kind, true, false)?)
        }
        device => Ok(x.f_to_device(device)?),
    }
}
