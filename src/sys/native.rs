//! Calls into `shim.cpp`.

use super::message::{checked, take};
use crate::error::{Error, Result};
use std::ffi::{CStr, c_char, c_void};
use tch::{Device, Kind, Tensor};

unsafe extern "C" {
    fn finetune_from_blob(
        data: *mut c_void,
        sizes: *const i64,
        strides: *const i64,
        dims: usize,
        drop: extern "C" fn(*mut c_void),
        context: *mut c_void,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn finetune_autocast_get(cuda: bool) -> i32;
    fn finetune_autocast_set(cuda: bool, state: i32, entering: bool) -> *mut c_char;
    fn finetune_version() -> *const c_char;
    fn finetune_capability() -> *mut c_char;
}

/// Returns a float tensor over the vector's own memory: nothing is copied. Strides are in elements. `give_back` gets the
/// vector when the last use of the tensor ends, on the thread that ends it. It must not panic.
///
/// # Errors
/// [`Error::Mismatch`] if sizes and strides reach beyond the vector.
pub(crate) fn tensor_lent(
    data: Vec<f32>,
    sizes: &[i64],
    strides: &[i64],
    give_back: impl FnOnce(Vec<f32>) + Send + 'static,
) -> Result<Tensor> {
    /// The vector and who gets it.
    type Lent = (Vec<f32>, Box<dyn FnOnce(Vec<f32>) + Send>);
    let fits = sizes.len() == strides.len() && sizes.iter().chain(strides).all(|n| *n >= 0);
    let empty = sizes.contains(&0);
    let last: i64 = sizes.iter().zip(strides).map(|(n, s)| (n - 1) * s).sum();
    if !fits || (!empty && last as usize >= data.len()) {
        let why = format!("{sizes:?} by {strides:?} does not fit {} numbers", data.len());
        return Err(Error::mismatch("tensor_lent", why));
    }
    extern "C" fn end(context: *mut c_void) {
        // SAFETY: the context is the box made below, and libtorch calls this once.
        let (data, give_back) = *unsafe { Box::from_raw(context.cast::<Lent>()) };
        give_back(data);
    }
    let mut owner: Box<Lent> = Box::new((data, Box::new(give_back)));
    let pointer = owner.0.as_mut_ptr().cast::<c_void>();
    let context = Box::into_raw(owner).cast::<c_void>();
    let mut out = std::ptr::null_mut();
    // SAFETY: the memory outlives the tensor, which gives it back by `end`; sizes and strides were
    // checked to stay within it.
    let made = checked(unsafe {
        finetune_from_blob(
            pointer,
            sizes.as_ptr(),
            strides.as_ptr(),
            sizes.len(),
            end,
            context,
            &raw mut out,
        )
    });
    if let Err(e) = made {
        end(context);
        return Err(e);
    }
    // SAFETY: the native layer returned a new tensor, which is ours now.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
}

/// libtorch's numbers of the two 16-bit types.
const HALF: i32 = 5;
const BFLOAT16: i32 = 15;

/// Automatic casts, from `enter` to the end of the value's life: libtorch chooses the 16-bit type for
/// the operations that it holds to be safe in it. Restored on unwinding too.
#[derive(Debug)]
#[must_use = "the casts end with this value"]
pub(crate) struct Autocast {
    cuda: bool,
    before: i32,
}

impl Autocast {
    /// Begins to cast on `device` to `kind`, [`Kind::BFloat16`] or [`Kind::Half`].
    ///
    /// # Errors
    /// [`Error::Config`] for another type or device, or for 16-bit floats on a CPU.
    pub(crate) fn enter(device: Device, kind: Kind) -> Result<Self> {
        let (cuda, code) = match (device, kind) {
            (Device::Cpu, Kind::BFloat16) => (false, BFLOAT16),
            (Device::Cuda(_), Kind::BFloat16) => (true, BFLOAT16),
            (Device::Cuda(_), Kind::Half) => (true, HALF),
            _ => {
                let why =
                    format!("{kind:?} on {device:?}: use bf16 on a CPU, fp16 or bf16 on CUDA");
                return Err(Error::unsupported("precision", why));
            }
        };
        // SAFETY: reads and writes thread-local settings of libtorch.
        let before = unsafe { finetune_autocast_get(cuda) };
        checked(unsafe { finetune_autocast_set(cuda, code * 2 + 1, true) })?;
        Ok(Self { cuda, before })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: puts back what `enter` read.
        let message = unsafe { finetune_autocast_set(self.cuda, self.before, false) };
        if !message.is_null() {
            take(message);
        }
    }
}

/// The version of the libtorch that this program was compiled against, such as `2.11.0`.
#[must_use]
pub(crate) fn version() -> String {
    // SAFETY: a zero-terminated text that lives as long as the program.
    unsafe { CStr::from_ptr(finetune_version()) }.to_string_lossy().into_owned()
}

/// The processor instructions that libtorch uses: `DEFAULT`, `AVX2`, `AVX512` and so on.
#[must_use]
pub(crate) fn capability() -> String {
    // SAFETY: returns text that it allocated for the caller.
    take(unsafe { finetune_capability() })
}
