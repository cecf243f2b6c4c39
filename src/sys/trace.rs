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

/// The function that is recorded, and the error that it returned, if any.
pub(super) struct Recorded<'a> {
    forward: &'a mut dyn FnMut(&Tensor) -> Result<Tensor>,
    failed: Option<Error>,
}

impl<'a> Recorded<'a> {
    pub(super) fn new(forward: &'a mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Self {
        Self { forward, failed: None }
    }

    /// The context for [`call`].
    pub(super) fn context(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }

    /// The error of the function if it failed, otherwise `done`.
    pub(super) fn or(self, done: Result<()>) -> Result<()> {
        match self.failed {
            Some(e) => Err(e),
            None => done,
        }
    }
}

/// Records what `forward` does to `input`, and writes it to `path` as TorchScript.
pub(crate) fn trace(
    input: &Tensor,
    path: &Path,
    what: &TraceOptions<'_>,
    mut forward: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    let variables = Variables::new(what.parameters, what.buffers)?;
    let file_names = what.files.iter().map(|(name, _)| text(name)).collect::<Result<Vec<_>>>()?;
    let file_texts = what.files.iter().map(|(_, t)| text(t)).collect::<Result<Vec<_>>>()?;
    let (file_names_at, file_texts_at) = (pointers(&file_names), pointers(&file_texts));
    let path =
        path.to_str().ok_or_else(|| Error::config("path", format!("{path:?} is no UTF-8")))?;
    let path = text(path)?;
    let mut recorded = Recorded::new(&mut forward);
    // SAFETY: every pointer is that of a live value: texts end in zero, tensors and names are as many,
    // and the context is what `call` casts it back to.
    let done = checked(unsafe {
        finetune_trace(
            variables.names().as_ptr(),
            variables.tensors().as_ptr(),
            what.parameters.len(),
            variables.tensors().len(),
            input.as_ptr().cast_mut().cast(),
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

/// Text for C++.
fn text(text: &str) -> Result<CString> {
    CString::new(text)
        .map_err(|_| Error::unsupported("tracing", format!("{text:?} has a zero byte")))
}

fn pointers(all: &[CString]) -> Vec<*const c_char> {
    all.iter().map(|t| t.as_ptr()).collect()
}

/// The variables of a network, as C++ takes them.
pub(super) struct Variables {
    names: Vec<CString>,
    names_at: Vec<*const c_char>,
    tensors: Vec<Tensor>,
    tensors_at: Vec<*mut c_void>,
}

impl Variables {
    /// The parameters, and after them the buffers.
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

    /// Pointers to the names, valid as long as `self`.
    pub(super) fn names(&self) -> &[*const c_char] {
        debug_assert_eq!(self.names.len(), self.names_at.len());
        &self.names_at
    }

    /// Pointers to the tensors, valid as long as `self`.
    pub(super) fn tensors(&self) -> &[*mut c_void] {
        debug_assert_eq!(self.tensors.len(), self.tensors_at.len());
        &self.tensors_at
    }
}

/// Calls the closure that `context` points to. Null if it failed: why is in the context.
pub(super) extern "C" fn call(context: *mut c_void, x: *mut c_void) -> *mut c_void {
    // SAFETY: the caller of the native layer passes `Recorded::context`, whose value lives until that returns.
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
