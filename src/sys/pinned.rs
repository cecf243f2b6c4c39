//! Bytes in pinned memory, for copies to a GPU.

use super::native::pinned;
use crate::error::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Returns a tensor with a copy of `bytes` in pinned memory, from which a GPU can copy asynchronously. The bytes are
/// copied once.
///
/// # Errors
/// [`Error::Mismatch`] if the product of the sizes is not the number of bytes; [`Error::Torch`] if libtorch
/// reports an error, for example because memory cannot be pinned.
pub(crate) fn pinned_bytes(bytes: &[u8], sizes: &[i64]) -> Result<Tensor> {
    let count = sizes.iter().try_fold(1_i64, |all, n| all.checked_mul(*n));
    if count.and_then(|n| usize::try_from(n).ok()) != Some(bytes.len()) {
        let why = format!("the sizes are {sizes:?}, but there are {} bytes", bytes.len());
        return Err(Error::mismatch("pinned_bytes", why));
    }
    let mut strides = vec![1; sizes.len()];
    for i in (1..sizes.len()).rev() {
        strides[i - 1] = strides[i] * sizes[i];
    }
    // SAFETY: the memory has the extent that sizes and strides describe and outlives the view, which is
    // dropped at the end of this function. The returned tensor is always a copy.
    let view =
        unsafe { Tensor::f_from_blob(bytes.as_ptr(), sizes, &strides, Kind::Uint8, Device::Cpu)? };
    let pinned = pinned(&view)?;
    // Memory that is already pinned is returned unchanged, which would be the caller's memory: copy it.
    if pinned.data_ptr() == view.data_ptr() { Ok(view.f_detach_copy()?) } else { Ok(pinned) }
}
