//! Calls into `shim.cpp`.

use super::message::{checked, take};
use crate::error::{Error, Result};
use std::{
    ffi::{CStr, c_char, c_void},
    marker::PhantomData,
};
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
    fn finetune_grad_enabled() -> bool;
    fn finetune_set_grad_enabled(enabled: bool);
    fn finetune_autocast_get(cuda: bool, state: *mut i32) -> *mut c_char;
    fn finetune_autocast_set(cuda: bool, state: i32, entering: bool) -> *mut c_char;
    fn finetune_fast_depthwise() -> *mut c_char;
    fn finetune_has_cuda_half(has: *mut bool) -> *mut c_char;
    fn finetune_pinned(of: *mut c_void, out: *mut *mut c_void) -> *mut c_char;
    fn finetune_version() -> *const c_char;
    fn finetune_capability() -> *mut c_char;
}

/// Returns a float tensor over the memory of `data`, without a copy. Strides are in elements. When the last
/// handle to the memory is dropped, `give_back` is called with the vector on that thread. It must not panic.
///
/// # Errors
/// [`Error::Mismatch`] if sizes and strides reach beyond the vector.
pub(crate) fn tensor_lent(
    data: Vec<f32>,
    sizes: &[i64],
    strides: &[i64],
    give_back: impl FnOnce(Vec<f32>) + Send + 'static,
) -> Result<Tensor> {
    /// The vector and the function that receives it.
    type Lent = (Vec<f32>, Box<dyn FnOnce(Vec<f32>) + Send>);
    if !fits(sizes, strides, data.len()) {
        let why = format!(
            "sizes {sizes:?} and strides {strides:?} reach beyond the vector of {} elements",
            data.len()
        );
        return Err(Error::mismatch("tensor_lent", why));
    }
    extern "C" fn end(context: *mut c_void) {
        // SAFETY: the context is the box created below, and libtorch calls this function once.
        let (data, give_back) = *unsafe { Box::from_raw(context.cast::<Lent>()) };
        give_back(data);
    }
    let mut owner: Box<Lent> = Box::new((data, Box::new(give_back)));
    let pointer = owner.0.as_mut_ptr().cast::<c_void>();
    let context = Box::into_raw(owner).cast::<c_void>();
    let mut out = std::ptr::null_mut();
    // SAFETY: the memory outlives the tensor, which releases it by `end`; `fits` has checked that sizes and
    // strides stay within it. The native layer owns the context and calls `end` once, even if the call fails.
    checked(unsafe {
        finetune_from_blob(
            pointer,
            sizes.as_ptr(),
            strides.as_ptr(),
            sizes.len(),
            end,
            context,
            &raw mut out,
        )
    })?;
    // SAFETY: the native layer returned a new tensor, which the caller owns.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
}

/// Returns true if a tensor of these sizes and strides, in elements, stays within `len` elements, and its
/// number of bytes is at most `i64::MAX`.
fn fits(sizes: &[i64], strides: &[i64], len: usize) -> bool {
    if sizes.len() != strides.len() || sizes.iter().chain(strides).any(|n| *n < 0) {
        return false;
    }
    // libtorch multiplies all sizes to a number of bytes, even those of an empty tensor.
    let count = sizes.iter().try_fold(1_i64, |all, n| all.checked_mul(*n.max(&1)));
    if count.and_then(|n| n.checked_mul(size_of::<f32>() as i64)).is_none() {
        return false;
    }
    let last = sizes.iter().zip(strides).try_fold(0_i64, |last, (n, stride)| {
        last.checked_add((n - 1).max(0).checked_mul(*stride)?)
    });
    sizes.contains(&0) || last.is_some_and(|last| (last as usize) < len)
}

/// Returns whether this thread records gradients.
pub(super) fn grad_enabled() -> bool {
    // SAFETY: the call reads thread-local state.
    unsafe { finetune_grad_enabled() }
}

/// Sets whether this thread records gradients.
pub(super) fn set_grad_enabled(enabled: bool) {
    // SAFETY: the call writes thread-local state.
    unsafe { finetune_set_grad_enabled(enabled) }
}

/// libtorch's numbers of the types float16 and bfloat16.
const HALF: i32 = 5;
const BFLOAT16: i32 = 15;

/// Automatic casts, from `enter` until the value is dropped: libtorch uses the 16-bit type in the operations
/// that it considers safe. The previous state is restored on unwinding too.
///
/// The state is thread-local, so the value is not `Send`.
#[derive(Debug)]
#[must_use = "the casts end with this value"]
pub(crate) struct Autocast {
    cuda: bool,
    before: i32,
    this_thread: PhantomData<*const ()>,
}

impl Autocast {
    /// Starts automatic casts to `kind`, [`Kind::BFloat16`] or [`Kind::Half`], on `device`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another type or device, or for [`Kind::Half`] on a CPU.
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
        if !cuda {
            // SAFETY: the call has no arguments; the first one registers a kernel in libtorch, under its lock.
            checked(unsafe { finetune_fast_depthwise() })?;
        }
        let mut before = 0;
        // SAFETY: the call reads thread-local state and writes it to `before`.
        checked(unsafe { finetune_autocast_get(cuda, &raw mut before) })?;
        // SAFETY: the call writes thread-local state.
        checked(unsafe { finetune_autocast_set(cuda, code * 2 + 1, true) })?;
        Ok(Self { cuda, before, this_thread: PhantomData })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: the call restores the thread-local state that `enter` read on this thread.
        let message = unsafe { finetune_autocast_set(self.cuda, self.before, false) };
        if !message.is_null() {
            take(message);
        }
    }
}

/// Returns true if libtorch's CUDA libraries were loaded when libtorch looked for them, which it does once.
pub(super) fn has_cuda_half() -> Result<bool> {
    let mut has = false;
    // SAFETY: the call writes to a local variable.
    checked(unsafe { finetune_has_cuda_half(&raw mut has) })?;
    Ok(has)
}

/// Returns a copy in pinned memory, from which a GPU copies asynchronously. A tensor in pinned memory is returned
/// unchanged.
///
/// # Errors
/// [`Error::Torch`] if libtorch reports an error, for example because there is no GPU or memory cannot be pinned.
pub(crate) fn pinned(of: &Tensor) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    // SAFETY: the tensor is alive.
    checked(unsafe { finetune_pinned(of.as_ptr().cast_mut().cast(), &raw mut out) })?;
    // SAFETY: the native layer returned a new handle, which this function owns.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
}

/// Returns the version of the libtorch that this program was compiled against, such as `2.11.0`.
#[must_use]
pub(crate) fn version() -> String {
    // SAFETY: the call returns a zero-terminated text with static lifetime.
    unsafe { CStr::from_ptr(finetune_version()) }.to_string_lossy().into_owned()
}

/// Returns the processor instructions that libtorch uses: `DEFAULT`, `AVX2`, `AVX512` and so on.
#[must_use]
pub(crate) fn capability() -> String {
    // SAFETY: the call returns zero-terminated text that it allocated for the caller.
    take(unsafe { finetune_capability() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    #[test]
    fn sizes_and_strides_that_reach_beyond_the_vector_are_errors() {
        let huge = (1_i64 << 32) + 1;
        for (sizes, strides) in [
            (vec![huge], vec![1 << 32]),
            (vec![huge, 1 << 31], vec![0, 0]),
            (vec![0, i64::MAX, i64::MAX], vec![1, 1, 1]),
            (vec![i64::MAX, 2], vec![i64::MAX, i64::MAX]),
            (vec![5], vec![1]),
            (vec![2, 2], vec![3, 1]),
            (vec![-1], vec![1]),
            (vec![2], vec![-1]),
            (vec![2], vec![]),
        ] {
            let made = tensor_lent(vec![0.0; 4], &sizes, &strides, drop);
            assert!(made.is_err(), "{sizes:?} by {strides:?}");
        }
        for (sizes, strides) in [(vec![4], vec![1]), (vec![2, 2], vec![1, 2]), (vec![9], vec![0])] {
            assert_eq!(tensor_lent(vec![0.0; 4], &sizes, &strides, drop).unwrap().size(), sizes);
        }
        assert_eq!(tensor_lent(vec![], &[0, 3], &[3, 1], drop).unwrap().numel(), 0);
    }

    /// Compiles only if `Autocast` is not `Send`: otherwise both implementations would apply.
    #[test]
    fn automatic_casts_stay_on_their_thread() {
        trait Ambiguous<T> {
            fn none() {}
        }
        impl<T> Ambiguous<()> for T {}
        impl<T: Send> Ambiguous<u8> for T {}
        <Autocast as Ambiguous<_>>::none();
    }

    /// Returns the gradients of a sum of squares of the outputs of a depthwise convolution.
    fn gradients(x: &Tensor, w: &Tensor, stride: i64) -> [Tensor; 2] {
        let [x, w] = [x, w].map(|t| t.detach().copy().set_requires_grad(true));
        let size = w.size();
        let pad = [size[2] / 2, size[3] / 2];
        let y = x.conv2d(&w, None::<Tensor>, [stride; 2], pad, [1, 1], size[0]);
        (y.to_kind(Kind::Float) * y.detach().to_kind(Kind::Float)).sum(Kind::Float).backward();
        [x.grad(), w.grad()]
    }

    #[test]
    fn gradients_of_depthwise_convolutions_in_bfloat16_are_those_of_32_bits_rounded() {
        tch::manual_seed(3);
        for (size, stride) in [(3, 2), (5, 1), (5, 2), (7, 1)] {
            let x = Tensor::randn([2, 6, 12, 11], (Kind::Float, Device::Cpu));
            let w = Tensor::randn([6, 1, size, size], (Kind::Float, Device::Cpu));
            let [x, w] = [x, w].map(|t| t.to_kind(Kind::BFloat16));
            let cast = Autocast::enter(Device::Cpu, Kind::BFloat16).unwrap();
            let ours = gradients(&x, &w, stride);
            drop(cast);
            let [wide_x, wide_w] = [&x, &w].map(|t| t.to_kind(Kind::Float));
            let exact = gradients(&wide_x, &wide_w, stride);
            for (ours, exact) in ours.iter().zip(exact) {
                assert_eq!(ours.kind(), Kind::BFloat16);
                let scale = exact.abs().max().double_value(&[]);
                let off = (ours.to_kind(Kind::Float) - exact).abs().max().double_value(&[]) / scale;
                assert!(
                    off < 0.01,
                    "window {size}, stride {stride}: {off} of the largest gradient"
                );
            }
        }
    }

    #[test]
    fn the_vector_is_given_back_once() {
        let times = Arc::new(AtomicUsize::new(0));
        let count = times.clone();
        let back = move |data: Vec<f32>| {
            assert_eq!(data, [1.0, 2.0]);
            count.fetch_add(1, Ordering::Relaxed);
        };
        let tensor = tensor_lent(vec![1.0, 2.0], &[2], &[1], back).unwrap();
        let view = tensor.narrow(0, 1, 1);
        drop(tensor);
        assert_eq!(times.load(Ordering::Relaxed), 0);
        drop(view);
        assert_eq!(times.load(Ordering::Relaxed), 1);
    }
}
