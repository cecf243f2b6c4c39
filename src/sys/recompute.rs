//! Calls into `recompute.cpp`.

use super::{caught, message::checked};
use crate::error::Result;
use std::{
    any::Any,
    ffi::{c_char, c_void},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::null_mut,
    sync::{Arc, Mutex, PoisonError},
};
use tch::Tensor;

unsafe extern "C" {
    fn finetune_message(text: *const c_char, n: usize) -> *mut c_char;
    fn finetune_recompute(
        x: *mut c_void,
        run: extern "C" fn(*mut c_void, *mut c_void, bool, *mut *mut c_void) -> *mut c_char,
        context: *mut c_void,
        drop: extern "C" fn(*mut c_void),
        out: *mut *mut c_void,
    ) -> *mut c_char;
}

/// The block. The flag is false in the first pass and true in the backward pass.
type Run = Box<dyn Fn(&Tensor, bool) -> Tensor + Send + Sync>;

/// The state that the autograd graph keeps for a block.
struct Context {
    run: Run,
    /// The panic of the first pass, which is resumed after the return from C++.
    panicked: Arc<Mutex<Option<Box<dyn Any + Send>>>>,
}

/// Returns `text` as a message of the native layer.
fn message(text: &str) -> *mut c_char {
    let text = text.replace('\0', " ");
    // SAFETY: the call copies `text.len()` bytes, none of which is zero.
    unsafe { finetune_message(text.as_ptr().cast(), text.len()) }
}

extern "C" fn run(
    context: *mut c_void,
    x: *mut c_void,
    again: bool,
    out: *mut *mut c_void,
) -> *mut c_char {
    // SAFETY: the context is the box that `recomputed` leaked, which lives as long as the graph. It is
    // `Sync`, so that passes on several threads may share it.
    let context = unsafe { &*context.cast::<Context>() };
    // SAFETY: the native layer created this handle for this function, which owns it.
    let x = unsafe { Tensor::from_ptr(x.cast()) };
    let y = if again {
        // The backward pass may run on a thread of libtorch, which a panic must not unwind.
        match caught(|| Ok((context.run)(&x, true))) {
            Ok(y) => y,
            Err(e) => return message(&e.to_string()),
        }
    } else {
        match catch_unwind(AssertUnwindSafe(|| (context.run)(&x, false))) {
            Ok(y) => y,
            Err(payload) => {
                *context.panicked.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
                return message("a block panicked");
            }
        }
    };
    // SAFETY: `out` is valid for one write. The caller then owns the handle, which is forgotten here.
    unsafe { *out = y.as_ptr().cast_mut().cast() };
    std::mem::forget(y);
    null_mut()
}

extern "C" fn end(context: *mut c_void) {
    // SAFETY: the context is the box that `recomputed` leaked, and the native layer calls this function once.
    let context = unsafe { Box::from_raw(context.cast::<Context>()) };
    // A panic must not unwind into C++.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(context)));
}

/// Returns `run_block(x, false)`. If gradients are recorded, the graph keeps only `x`, and the backward pass
/// computes `run_block(x, true)`, with the same random numbers and the same automatic casts, on the thread
/// of the backward pass. The parameters of the block are found in its graph. If both calls compute the same
/// values, the gradients are those of the plain computation, bit for bit.
///
/// # Errors
/// [`Error::Torch`](crate::Error::Torch) if the block changes its input in place, and any error of libtorch. A
/// panic of the first call is resumed.
pub(crate) fn recomputed(
    x: &Tensor,
    run_block: impl Fn(&Tensor, bool) -> Tensor + Send + Sync + 'static,
) -> Result<Tensor> {
    let panicked = Arc::new(Mutex::new(None));
    let context = Box::new(Context { run: Box::new(run_block), panicked: panicked.clone() });
    let context = Box::into_raw(context).cast::<c_void>();
    let mut out = null_mut();
    // SAFETY: `x` is alive, `run` and `end` expect this context, and the native layer takes ownership of it.
    let done = checked(unsafe {
        finetune_recompute(x.as_ptr().cast_mut().cast(), run, context, end, &raw mut out)
    });
    let payload = panicked.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(payload) = payload {
        resume_unwind(payload);
    }
    done?;
    // SAFETY: the native layer returned a new handle, which the caller owns.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
}
