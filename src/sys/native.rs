//! Calls into `shim.cpp`.

use crate::error::{Error, Result};
use std::ffi::{CStr, c_char, c_void};
use tch::{Device, Kind, Tensor};

unsafe extern "C" {
    fn finetune_free(text: *mut c_char);
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
    fn finetune_adamw(
        params: *mut *mut c_void,
        grads: *mut *mut c_void,
        avgs: *mut *mut c_void,
        sqrs: *mut *mut c_void,
        steps: *mut *mut c_void,
        n: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        decay: f64,
        eps: f64,
    ) -> *mut c_char;
    fn finetune_foreach_mul(xs: *mut *mut c_void, n: usize, factor: f64) -> *mut c_char;
    fn finetune_foreach_add(
        xs: *mut *mut c_void,
        ys: *mut *mut c_void,
        n: usize,
        factor: f64,
    ) -> *mut c_char;
    fn finetune_version() -> *const c_char;
    fn finetune_capability() -> *mut c_char;
}

/// Takes a text that the native layer allocated.
fn take(text: *mut c_char) -> String {
    // SAFETY: the native layer returns zero-terminated text that it allocated for the caller.
    unsafe {
        let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
        finetune_free(text);
        owned
    }
}

fn checked(message: *mut c_char) -> Result<()> {
    if message.is_null() { Ok(()) } else { Err(tch::TchError::Torch(take(message)).into()) }
}

fn pointers(tensors: &[Tensor]) -> Vec<*mut c_void> {
    tensors.iter().map(|t| t.as_ptr().cast_mut().cast::<c_void>()).collect()
}

/// A float tensor over the vector's own memory: nothing is copied, and the memory is freed when the
/// last use of the tensor ends. Strides are in elements.
///
/// # Errors
/// [`Error::Config`] if sizes and strides reach beyond the vector.
pub fn tensor_from_vec(data: Vec<f32>, sizes: &[i64], strides: &[i64]) -> Result<Tensor> {
    let fits = sizes.len() == strides.len() && sizes.iter().chain(strides).all(|n| *n >= 0);
    let empty = sizes.contains(&0);
    let last: i64 = sizes.iter().zip(strides).map(|(n, s)| (n - 1) * s).sum();
    if !fits || (!empty && last as usize >= data.len()) {
        let why = format!("{sizes:?} by {strides:?} does not fit {} numbers", data.len());
        return Err(Error::config("tensor_from_vec", why));
    }
    extern "C" fn drop_vec(context: *mut c_void) {
        // SAFETY: the context is the box made below, and libtorch calls this once.
        drop(unsafe { Box::from_raw(context.cast::<Vec<f32>>()) });
    }
    let mut owner = Box::new(data);
    let pointer = owner.as_mut_ptr().cast::<c_void>();
    let context = Box::into_raw(owner).cast::<c_void>();
    let mut out = std::ptr::null_mut();
    // SAFETY: the memory outlives the tensor, which frees it by `drop_vec`; sizes and strides were
    // checked to stay within it.
    let made = checked(unsafe {
        finetune_from_blob(
            pointer,
            sizes.as_ptr(),
            strides.as_ptr(),
            sizes.len(),
            drop_vec,
            context,
            &raw mut out,
        )
    });
    if let Err(e) = made {
        drop_vec(context);
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
pub struct Autocast {
    cuda: bool,
    before: i32,
}

impl Autocast {
    /// Begins to cast on `device` to `kind`, [`Kind::BFloat16`] or [`Kind::Half`].
    ///
    /// # Errors
    /// [`Error::Config`] for another type or device, or for 16-bit floats on a CPU.
    pub fn enter(device: Device, kind: Kind) -> Result<Self> {
        let (cuda, code) = match (device, kind) {
            (Device::Cpu, Kind::BFloat16) => (false, BFLOAT16),
            (Device::Cuda(_), Kind::BFloat16) => (true, BFLOAT16),
            (Device::Cuda(_), Kind::Half) => (true, HALF),
            _ => {
                let why =
                    format!("{kind:?} on {device:?}: use bf16 on a CPU, fp16 or bf16 on CUDA");
                return Err(Error::config("precision", why));
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

/// One step of Adam for many parameters: see `optim::adam`.
pub(crate) struct AdamStep {
    pub(crate) lr: f64,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) decay: f64,
    pub(crate) eps: f64,
}

/// Adam with decoupled decay for all parameters in one call; `steps` counts each one's steps.
pub(crate) fn adamw(
    params: &[Tensor],
    grads: &[Tensor],
    avgs: &[Tensor],
    sqrs: &[Tensor],
    steps: &[Tensor],
    how: &AdamStep,
) -> Result<()> {
    let n = params.len();
    if n == 0 {
        return Ok(());
    }
    let lists = [grads.len(), avgs.len(), sqrs.len(), steps.len()];
    if lists.iter().any(|l| *l != n) {
        return Err(Error::config("adam", "as many states as parameters are needed"));
    }
    let (mut p, mut g, mut a) = (pointers(params), pointers(grads), pointers(avgs));
    let (mut s, mut t) = (pointers(sqrs), pointers(steps));
    // SAFETY: the pointers are those of live tensors, `n` of each.
    checked(unsafe {
        finetune_adamw(
            p.as_mut_ptr(),
            g.as_mut_ptr(),
            a.as_mut_ptr(),
            s.as_mut_ptr(),
            t.as_mut_ptr(),
            n,
            how.lr,
            how.beta1,
            how.beta2,
            how.decay,
            how.eps,
        )
    })
}

/// Multiplies every tensor by a number.
pub(crate) fn foreach_mul(xs: &[Tensor], factor: f64) -> Result<()> {
    let mut all = pointers(xs);
    // SAFETY: the pointers are those of live tensors.
    checked(unsafe { finetune_foreach_mul(all.as_mut_ptr(), xs.len(), factor) })
}

/// Adds `factor * ys[i]` to `xs[i]`.
pub(crate) fn foreach_add(xs: &[Tensor], ys: &[Tensor], factor: f64) -> Result<()> {
    if xs.len() != ys.len() {
        return Err(Error::config("foreach_add", "as many tensors on both sides are needed"));
    }
    let (mut x, mut y) = (pointers(xs), pointers(ys));
    // SAFETY: the pointers are those of live tensors, as many on both sides.
    checked(unsafe { finetune_foreach_add(x.as_mut_ptr(), y.as_mut_ptr(), xs.len(), factor) })
}

/// The version of the libtorch that this program was compiled against, such as `2.11.0`.
#[must_use]
pub fn version() -> String {
    // SAFETY: a zero-terminated text that lives as long as the program.
    unsafe { CStr::from_ptr(finetune_version()) }.to_string_lossy().into_owned()
}

/// The processor instructions that libtorch uses: `DEFAULT`, `AVX2`, `AVX512` and so on.
#[must_use]
pub fn capability() -> String {
    // SAFETY: returns text that it allocated for the caller.
    take(unsafe { finetune_capability() })
}
