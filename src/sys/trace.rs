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
        other: *mut c_void,
        forward: extern "C" fn(*mut c_void, *mut c_void) -> *mut c_void,
        context: *mut c_void,
        file_names: *const *const c_char,
        file_texts: *const *const c_char,
        files: usize,
        path: *const c_char,
    ) -> *mut c_char;
}

/// The content of a TorchScript file in addition to the recorded operations.
pub(crate) struct TraceOptions<'a> {
    /// The trainable variables, by name.
    pub(crate) parameters: &'a [(String, Tensor)],
    /// The other variables, by name.
    pub(crate) buffers: &'a [(String, Tensor)],
    /// Additional text files, by name.
    pub(crate) files: &'a [(&'a str, &'a str)],
}

/// The recorded function, and the error that it returned, if any.
pub(super) struct Recorded<'a> {
    forward: &'a mut dyn FnMut(&Tensor) -> Result<Tensor>,
    failed: Option<Error>,
}

impl<'a> Recorded<'a> {
    pub(super) fn new(forward: &'a mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Self {
        Self { forward, failed: None }
    }

    /// Returns the context for [`call`].
    pub(super) fn context(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }

    /// Returns the error of the function if it failed, otherwise `done`.
    pub(super) fn or(self, done: Result<()>) -> Result<()> {
        match self.failed {
            Some(e) => Err(e),
            None => done,
        }
    }
}

/// The sizes of the two batches that are recorded to find the numbers that depend on the number of images.
pub(crate) const BATCHES: [i64; 2] = [2, 3];

/// Records the operations of `forward` and writes them to `path` as TorchScript, for any number of images. `inputs`
/// are batches of the sizes [`BATCHES`].
pub(crate) fn trace(
    inputs: [&Tensor; 2],
    path: &Path,
    what: &TraceOptions<'_>,
    mut forward: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    let variables = Variables::new(what.parameters, what.buffers)?;
    let file_names = what.files.iter().map(|(name, _)| text(name)).collect::<Result<Vec<_>>>()?;
    let file_texts = what.files.iter().map(|(_, t)| text(t)).collect::<Result<Vec<_>>>()?;
    let (file_names_at, file_texts_at) = (pointers(&file_names), pointers(&file_texts));
    let path =
        path.to_str().ok_or_else(|| Error::config("path", format!("{path:?} is not UTF-8")))?;
    let path = text(path)?;
    let mut recorded = Recorded::new(&mut forward);
    // SAFETY: every pointer is that of a live value, texts are zero-terminated, there are as many tensors as
    // names, and the context has the type to which `call` casts it back.
    let done = checked(unsafe {
        finetune_trace(
            variables.names().as_ptr(),
            variables.tensors().as_ptr(),
            what.parameters.len(),
            variables.tensors().len(),
            inputs[0].as_ptr().cast_mut().cast(),
            inputs[1].as_ptr().cast_mut().cast(),
            call,
            recorded.context(),
            file_names_at.as_ptr(),
            file_texts_at.as_ptr(),
            what.files.len(),
            path.as_ptr(),
        )
    });
    recorded.or(done)
}

/// Converts a text for C++.
fn text(text: &str) -> Result<CString> {
    CString::new(text)
        .map_err(|_| Error::unsupported("tracing", format!("{text:?} has a zero byte")))
}

fn pointers(all: &[CString]) -> Vec<*const c_char> {
    all.iter().map(|t| t.as_ptr()).collect()
}

/// The variables of a network in the form that the native layer takes.
pub(super) struct Variables {
    names: Vec<CString>,
    names_at: Vec<*const c_char>,
    tensors: Vec<Tensor>,
    tensors_at: Vec<*mut c_void>,
}

impl Variables {
    /// Creates the list: the parameters, followed by the buffers.
    pub(super) fn new(
        parameters: &[(String, Tensor)],
        buffers: &[(String, Tensor)],
    ) -> Result<Self> {
        let all = || parameters.iter().chain(buffers);
        let names = all().map(|(name, _)| text(name)).collect::<Result<Vec<_>>>()?;
        let tensors: Vec<_> = all().map(|(_, t)| t.shallow_clone()).collect();
        let tensors_at = tensors.iter().map(|t| t.as_ptr().cast_mut().cast()).collect();
        Ok(Self { names_at: pointers(&names), names, tensors, tensors_at })
    }

    /// Returns pointers to the names, valid as long as `self`.
    pub(super) fn names(&self) -> &[*const c_char] {
        debug_assert_eq!(self.names.len(), self.names_at.len());
        &self.names_at
    }

    /// Returns pointers to the tensors, valid as long as `self`.
    pub(super) fn tensors(&self) -> &[*mut c_void] {
        debug_assert_eq!(self.tensors.len(), self.tensors_at.len());
        &self.tensors_at
    }
}

/// Calls the function in `context`. Returns null if it failed, and stores the error in the context.
pub(super) extern "C" fn call(context: *mut c_void, x: *mut c_void) -> *mut c_void {
    // SAFETY: the native layer passes the pointer of `Recorded::context`, whose value outlives the call.
    let recorded = unsafe { &mut *context.cast::<Recorded<'_>>() };
    // SAFETY: the native layer passes a new tensor, which this function owns.
    let x = unsafe { Tensor::from_ptr(x.cast()) };
    match caught(|| (recorded.forward)(&x)) {
        // The native layer takes ownership of this handle.
        Ok(out) => std::mem::ManuallyDrop::new(out).as_ptr().cast_mut().cast(),
        Err(e) => {
            recorded.failed = Some(e);
            std::ptr::null_mut()
        }
    }
}
