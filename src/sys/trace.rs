//! Calls into `trace.cpp`.

use super::{caught, message::checked};
use crate::error::{Error, Result};
use std::{
    ffi::{CString, c_char, c_void},
    path::Path,
};
use tch::Tensor;

unsafe extern "C" {
    fn finetune_trace(
        names: *const *const c_char,
        tensors: *const *mut c_void,
        parameters: usize,
        n: usize,
        input: *mut c_void,
        forward: extern "C" fn(*mut c_void, *mut c_void) -> *mut c_void,
        context: *mut c_void,
        file_names: *const *const c_char,
        file_texts: *const *const c_char,
        files: usize,
        path: *const c_char,
    ) -> *mut c_char;
}

/// What goes into a TorchScript file beside the recorded operations.
pub(crate) struct TraceOptions<'a> {
    /// The variables that can be trained, by name.
    pub(crate) parameters: &'a [(String, Tensor)],
    /// The other variables.
    pub(crate) buffers: &'a [(String, Tensor)],
    /// Texts, by name.
    pub(crate) files: &'a [(&'a str, &'a str)],
}

/// What is recorded, and why it failed if it did.
struct Recorded<'a> {
    forward: &'a mut dyn FnMut(&Tensor) -> Result<Tensor>,
    failed: Option<Error>,
}

/// Records what `forward` does to `input`, and writes it to `path` as TorchScript.
pub(crate) fn trace(
    input: &Tensor,
    path: &Path,
    what: &TraceOptions<'_>,
    mut forward: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    let text = |text: &str| {
        CString::new(text)
            .map_err(|_| Error::unsupported("torchscript", format!("{text:?} has a zero")))
    };
    let variables = || what.parameters.iter().chain(what.buffers);
    let names = variables().map(|(name, _)| text(name)).collect::<Result<Vec<_>>>()?;
    let tensors: Vec<_> =
        variables().map(|(_, t)| t.as_ptr().cast_mut().cast::<c_void>()).collect();
    let file_names = what.files.iter().map(|(name, _)| text(name)).collect::<Result<Vec<_>>>()?;
    let file_texts = what.files.iter().map(|(_, t)| text(t)).collect::<Result<Vec<_>>>()?;
    let pointers = |all: &[CString]| all.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
    let (file_names_at, file_texts_at) = (pointers(&file_names), pointers(&file_texts));
    let names_at = pointers(&names);
    let path =
        path.to_str().ok_or_else(|| Error::config("path", format!("{path:?} is no UTF-8")))?;
    let path = text(path)?;
    let mut recorded = Recorded { forward: &mut forward, failed: None };
    // SAFETY: every pointer is that of a live value: texts end in zero, tensors and names are as many,
    // and the context is what `call` casts it back to.
    let done = checked(unsafe {
        finetune_trace(
            names_at.as_ptr(),
            tensors.as_ptr(),
            what.parameters.len(),
            tensors.len(),
            input.as_ptr().cast_mut().cast(),
            call,
            (&raw mut recorded).cast(),
            file_names_at.as_ptr(),
            file_texts_at.as_ptr(),
            what.files.len(),
            path.as_ptr(),
        )
    });
    match recorded.failed {
        Some(e) => Err(e),
        None => done,
    }
}

/// Calls the closure that `context` points to. Null if it failed: why is in the context.
extern "C" fn call(context: *mut c_void, x: *mut c_void) -> *mut c_void {
    // SAFETY: `trace` passes the address of its own value, which lives until it returns.
    let recorded = unsafe { &mut *context.cast::<Recorded<'_>>() };
    // SAFETY: the native layer hands over a new tensor.
    let x = unsafe { Tensor::from_ptr(x.cast()) };
    match caught(|| (recorded.forward)(&x)) {
        // The native layer takes this handle over.
        Ok(out) => std::mem::ManuallyDrop::new(out).as_ptr().cast_mut().cast(),
        Err(e) => {
            recorded.failed = Some(e);
            std::ptr::null_mut()
        }
    }
}
