//! Bytes on their way to a GPU.

use super::native::pinned;
use crate::error::{Error, Result};
use tch::{Device, Kind, Tensor};

/// A tensor of bytes in pinned memory, from which a GPU can copy while the program continues. The bytes are
/// copied once.
///
/// # Errors
/// [`Error::Mismatch`] if the sizes do not fit the bytes; what libtorch reports, such as that memory cannot
/// be pinned.
pub(crate) fn pinned_bytes(bytes: &[u8], sizes: &[i64]) -> Result<Tensor> {
    let count = sizes.iter().try_fold(1_i64, |all, n| all.checked_mul(*n));
    if count.and_then(|n| usize::try_from(n).ok()) != Some(bytes.len()) {
        let why = format!("sizes {sizes:?} do not fit {} bytes", bytes.len());
        return Err(Error::mismatch("pinned_bytes", why));
    }
    let mut strides = vec![1; sizes.len()];
    for i in (1..sizes.len()).rev() {
        strides[i - 1] = strides[i] * sizes[i];
    }
    // SAFETY: the memory is as large as sizes and strides say and outlives the view, which ends with
    // this function; what is returned is a copy in any case.
    let view =
        unsafe { Tensor::f_from_blob(bytes.as_ptr(), sizes, &strides, Kind::Uint8, Device::Cpu)? };
    let pinned = pinned(&view)?;
    // Memory that is pinned already is returned as it is: that would be the caller's.
    if pinned.data_ptr() == view.data_ptr() { Ok(view.f_detach_copy()?) } else { Ok(pinned) }
}
