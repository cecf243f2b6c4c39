//! Bytes on their way to a GPU.

use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// A tensor of bytes in pinned memory, from which `device` can copy while the program goes on. The
/// bytes are copied once.
///
/// # Errors
/// What libtorch reports, such as that memory cannot be pinned.
pub(crate) fn pinned_bytes(bytes: &[u8], sizes: &[i64], device: Device) -> Result<Tensor> {
    let wanted: i64 = sizes.iter().product();
    assert_eq!(wanted as usize, bytes.len(), "{sizes:?} does not fit {} bytes", bytes.len());
    let mut strides = vec![1; sizes.len()];
    for i in (1..sizes.len()).rev() {
        strides[i - 1] = strides[i] * sizes[i];
    }
    // SAFETY: the memory is as large as sizes and strides say and outlives the view, which ends with
    // this function; pinning copies what is not pinned.
    let view =
        unsafe { Tensor::f_from_blob(bytes.as_ptr(), sizes, &strides, Kind::Uint8, Device::Cpu)? };
    Ok(view.f_pin_memory(device)?)
}
