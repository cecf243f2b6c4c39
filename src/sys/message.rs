//! Error messages of the native layer.

use crate::error::Result;
use std::ffi::{CStr, c_char};

unsafe extern "C" {
    fn finetune_free(text: *mut c_char);
}

/// Takes a text that the native layer allocated.
pub(super) fn take(text: *mut c_char) -> String {
    // SAFETY: the native layer returns zero-terminated text that it allocated for the caller.
    unsafe {
        let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
        finetune_free(text);
        owned
    }
}

/// Converts the message that a call returned to an error. A null pointer means success.
pub(super) fn checked(message: *mut c_char) -> Result<()> {
    if message.is_null() { Ok(()) } else { Err(tch::TchError::Torch(take(message)).into()) }
}
