//! Lists of tensors on which one call operates.

use super::message::checked;
use crate::error::{Error, Result};
use std::{
    ffi::{c_char, c_int, c_void},
    fmt,
    ptr::{NonNull, null_mut},
};
use tch::Tensor;

unsafe extern "C" {
    fn finetune_list(tensors: *mut *mut c_void, n: usize, out: *mut *mut c_void) -> *mut c_char;
    fn finetune_list_free(of: *mut c_void);
    fn finetune_list_get(of: *mut c_void, i: usize, out: *mut *mut c_void) -> *mut c_char;
    fn finetune_list_new(
        what: c_int,
        of: *mut c_void,
        like: *mut c_void,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn finetune_list_laid_out_as(
        of: *mut c_void,
        like: *mut c_void,
        same: *mut bool,
    ) -> *mut c_char;
    fn finetune_foreach(
        what: c_int,
        x: *mut c_void,
        y: *mut c_void,
        z: *mut c_void,
        a: f64,
    ) -> *mut c_char;
    fn finetune_grads(params: *mut c_void, has: *mut bool, out: *mut *mut c_void) -> *mut c_char;
    fn finetune_clear_grads(params: *mut c_void) -> *mut c_char;
    fn finetune_unscale(grads: *mut c_void, factor: f32, found: *mut bool) -> *mut c_char;
    fn finetune_adamw(
        params: *mut c_void,
        grads: *mut c_void,
        avgs: *mut c_void,
        sqrs: *mut c_void,
        step: f64,
        lr: f64,
        beta1: f64,
        beta2: f64,
        decay: f64,
        eps: f64,
    ) -> *mut c_char;
    fn finetune_sgd(
        params: *mut c_void,
        grads: *mut c_void,
        sums: *mut c_void,
        lr: f64,
        mom: f64,
    ) -> *mut c_char;
}

/// A list of tensors on which each method operates in one call, with libtorch's `_foreach` kernels.
///
/// A list contains handles to the tensors that it was created from, not copies. Its operations are not
/// recorded for gradients. Other lists in a call must have the same length and tensors of the same shapes.
///
/// ```
/// use finetune::{optim::TensorList, tch::Tensor};
///
/// let params = TensorList::new(&[Tensor::from_slice(&[1.0_f32, 2.0]), Tensor::from(3.0_f32)])?;
/// let grads = TensorList::new(&[Tensor::from_slice(&[1.0_f32, 1.0]), Tensor::from(2.0_f32)])?;
/// params.add(&grads, -0.5)?;
/// assert_eq!(Vec::<f32>::try_from(params.get(0)?)?, [0.5, 1.5]);
/// assert_eq!(f32::try_from(params.get(1)?)?, 2.0);
/// # Ok::<(), finetune::Error>(())
/// ```
pub struct TensorList {
    of: NonNull<c_void>,
    len: usize,
}

// SAFETY: this value is the only owner of the list, and its tensors may be sent like those of tch, which are
// `Send`. It is not `Sync`, as they are not.
unsafe impl Send for TensorList {}

impl fmt::Debug for TensorList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorList").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for TensorList {
    fn drop(&mut self) {
        // SAFETY: the native layer created the list, and it is freed once.
        unsafe { finetune_list_free(self.of.as_ptr()) }
    }
}

/// The content of a list that `finetune_list_new` creates.
#[derive(Clone, Copy)]
enum NewList {
    Zeros = 0,
    Copies = 1,
    Norms = 2,
    LaidOutAs = 3,
}

/// The operation of `finetune_foreach` on each tensor.
#[derive(Clone, Copy)]
enum Each {
    Mul = 0,
    AddNumber = 1,
    Sqrt = 2,
    Exp = 3,
    Log1p = 4,
    Add = 5,
    Lerp = 6,
    MulBy = 7,
    Copy = 8,
    AddCMul = 9,
    AddCDiv = 10,
}

impl TensorList {
    /// Creates a list of handles to `tensors`.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch reports an error.
    pub fn new(tensors: &[Tensor]) -> Result<Self> {
        let mut all: Vec<*mut c_void> =
            tensors.iter().map(|t| t.as_ptr().cast_mut().cast()).collect();
        let mut out = null_mut();
        // SAFETY: the pointers are those of live tensors, of which the list creates its own handles.
        checked(unsafe { finetune_list(all.as_mut_ptr(), all.len(), &raw mut out) })?;
        Self::made(out, all.len())
    }

    fn made(of: *mut c_void, len: usize) -> Result<Self> {
        let of =
            NonNull::new(of).ok_or_else(|| Error::other("the native layer returned no list"))?;
        Ok(Self { of, len })
    }

    fn derived(&self, what: NewList, like: &Self) -> Result<Self> {
        let mut out = null_mut();
        let (of, like) = (self.of.as_ptr(), like.of.as_ptr());
        // SAFETY: both lists are alive, and the caller owns the new one.
        checked(unsafe { finetune_list_new(what as c_int, of, like, &raw mut out) })?;
        Self::made(out, self.len)
    }

    fn each(&self, what: Each, y: Option<&Self>, z: Option<&Self>, a: f64) -> Result<()> {
        for other in [y, z].into_iter().flatten() {
            if other.len != self.len {
                let why = format!("the lists have {} and {} tensors", self.len, other.len);
                return Err(Error::mismatch("TensorList", why));
            }
        }
        let at = |l: Option<&Self>| l.map_or(null_mut(), |l| l.of.as_ptr());
        // SAFETY: the lists are alive and have equal lengths; the caller passes those that `what` needs.
        checked(unsafe { finetune_foreach(what as c_int, self.of.as_ptr(), at(y), at(z), a) })
    }

    /// Returns the pointer to the list for a native call.
    pub(super) fn pointer(&self) -> *mut c_void {
        self.of.as_ptr()
    }

    /// Returns the number of tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are no tensors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns a handle to tensor `i`, from 0.
    ///
    /// # Errors
    /// [`Error::Torch`] if `i` is not below the number of tensors.
    pub fn get(&self, i: usize) -> Result<Tensor> {
        let mut out = null_mut();
        // SAFETY: the list is alive, and the native layer checks the index.
        checked(unsafe { finetune_list_get(self.of.as_ptr(), i, &raw mut out) })?;
        // SAFETY: the native layer returned a new handle, which the caller owns.
        Ok(unsafe { Tensor::from_ptr(out.cast()) })
    }

    /// Returns handles to all tensors.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch reports an error.
    pub fn tensors(&self) -> Result<Vec<Tensor>> {
        (0..self.len).map(|i| self.get(i)).collect()
    }

    /// Returns new tensors of zeros with the same shapes and memory layouts.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch reports an error.
    pub fn zeros_like(&self) -> Result<Self> {
        self.derived(NewList::Zeros, self)
    }

    /// Returns copies of the tensors.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch reports an error.
    pub fn copies(&self) -> Result<Self> {
        self.derived(NewList::Copies, self)
    }

    /// Returns the Euclidean norm of each tensor, as tensors with one element.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch reports an error.
    pub fn norms(&self) -> Result<Self> {
        self.derived(NewList::Norms, self)
    }

    /// Returns the same tensors, with copies of those whose memory layout differs from that in `like`. The
    /// fused kernels process elements in memory order, so the layouts must match.
    pub(crate) fn laid_out_as(&self, like: &Self) -> Result<Self> {
        self.derived(NewList::LaidOutAs, like)
    }

    /// Returns true if the lists have equal lengths and every tensor has the memory layout of the one in `like`.
    pub(crate) fn is_laid_out_as(&self, like: &Self) -> Result<bool> {
        let mut same = false;
        let (of, like) = (self.of.as_ptr(), like.of.as_ptr());
        // SAFETY: both lists are alive; the native layer returns false if their lengths differ.
        checked(unsafe { finetune_list_laid_out_as(of, like, &raw mut same) })?;
        Ok(same)
    }

    /// Computes `x *= factor` for each tensor `x`.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch reports an error.
    pub fn mul(&self, factor: f64) -> Result<()> {
        self.each(Each::Mul, None, None, factor)
    }

    /// Computes `x += number` for each tensor `x`.
    ///
    /// # Errors
    /// As [`TensorList::mul`].
    pub fn add_number(&self, number: f64) -> Result<()> {
        self.each(Each::AddNumber, None, None, number)
    }

    /// Computes `x = √x` for each tensor `x`.
    ///
    /// # Errors
    /// As [`TensorList::mul`].
    pub fn sqrt(&self) -> Result<()> {
        self.each(Each::Sqrt, None, None, 0.0)
    }

    /// Computes `x = eˣ` for each tensor `x`.
    ///
    /// # Errors
    /// As [`TensorList::mul`].
    pub fn exp(&self) -> Result<()> {
        self.each(Each::Exp, None, None, 0.0)
    }

    /// Computes `x = ln(1 + x)` for each tensor `x`.
    ///
    /// # Errors
    /// As [`TensorList::mul`].
    pub fn log1p(&self) -> Result<()> {
        self.each(Each::Log1p, None, None, 0.0)
    }

    /// Computes `x += factor · y` for each tensor `x` and the tensor of the same index in `y`.
    ///
    /// # Errors
    /// As [`TensorList::mul`]; [`Error::Mismatch`] if the lists have different lengths.
    pub fn add(&self, y: &Self, factor: f64) -> Result<()> {
        self.each(Each::Add, Some(y), None, factor)
    }

    /// Computes `x += part · (y - x)` for each pair of tensors.
    ///
    /// # Errors
    /// As [`TensorList::add`].
    pub fn lerp(&self, y: &Self, part: f64) -> Result<()> {
        self.each(Each::Lerp, Some(y), None, part)
    }

    /// Computes `x *= y` for each pair of tensors; a tensor of `y` may have a single element.
    ///
    /// # Errors
    /// As [`TensorList::add`].
    pub fn mul_by(&self, y: &Self) -> Result<()> {
        self.each(Each::MulBy, Some(y), None, 0.0)
    }

    /// Computes `x = y` for each pair of tensors.
    ///
    /// # Errors
    /// As [`TensorList::add`].
    pub fn copy_from(&self, y: &Self) -> Result<()> {
        self.each(Each::Copy, Some(y), None, 0.0)
    }

    /// Computes `x += factor · y · z` for each triple of tensors.
    ///
    /// # Errors
    /// As [`TensorList::add`].
    pub fn addcmul(&self, y: &Self, z: &Self, factor: f64) -> Result<()> {
        self.each(Each::AddCMul, Some(y), Some(z), factor)
    }

    /// Computes `x += factor · y / z` for each triple of tensors.
    ///
    /// # Errors
    /// As [`TensorList::add`].
    pub fn addcdiv(&self, y: &Self, z: &Self, factor: f64) -> Result<()> {
        self.each(Each::AddCDiv, Some(y), Some(z), factor)
    }
}

/// Returns the gradients of the trainable parameters that have one, and for each parameter whether it is
/// among them.
pub(crate) fn grads(params: &TensorList) -> Result<(TensorList, Vec<bool>)> {
    let mut has = vec![false; params.len];
    let mut out = null_mut();
    // SAFETY: the list is alive, and `has` has the same length.
    checked(unsafe { finetune_grads(params.of.as_ptr(), has.as_mut_ptr(), &raw mut out) })?;
    let len = has.iter().filter(|h| **h).count();
    Ok((TensorList::made(out, len)?, has))
}

/// Removes the gradients of the parameters, which frees their memory.
pub(crate) fn clear_grads(params: &TensorList) -> Result<()> {
    // SAFETY: the list is alive.
    checked(unsafe { finetune_clear_grads(params.of.as_ptr()) })
}

/// Multiplies gradients by `factor`. Returns true if one of them contained an infinite or NaN value. Waits for
/// the device.
pub(crate) fn unscale(grads: &TensorList, factor: f32) -> Result<bool> {
    let mut found = false;
    // SAFETY: the list is alive.
    checked(unsafe { finetune_unscale(grads.of.as_ptr(), factor, &raw mut found) })?;
    Ok(found)
}

/// The step number and the hyperparameters of one step of Adam.
pub(crate) struct AdamStep {
    pub(crate) step: f64,
    pub(crate) lr: f64,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) decay: f64,
    pub(crate) eps: f64,
}

/// Checks that all lists have the same length. Otherwise, the fused kernels would read beyond a list.
fn fit(params: &TensorList, others: &[&TensorList]) -> Result<()> {
    if others.iter().all(|l| l.len == params.len) {
        return Ok(());
    }
    Err(Error::mismatch("optimizer", "the numbers of parameters, gradients and states differ"))
}

/// Takes one step of Adam with decoupled weight decay, for all parameters in one call.
pub(crate) fn adamw(
    params: &TensorList,
    grads: &TensorList,
    avgs: &TensorList,
    sqrs: &TensorList,
    how: &AdamStep,
) -> Result<()> {
    fit(params, &[grads, avgs, sqrs])?;
    let at = |l: &TensorList| l.of.as_ptr();
    let AdamStep { step, lr, beta1, beta2, decay, eps } = *how;
    // SAFETY: the lists are alive and have equal lengths.
    checked(unsafe {
        let (params, grads, avgs, sqrs) = (at(params), at(grads), at(avgs), at(sqrs));
        finetune_adamw(params, grads, avgs, sqrs, step, lr, beta1, beta2, decay, eps)
    })
}

/// Takes one step of gradient descent with undamped momentum, for all parameters in one call.
pub(crate) fn sgd(
    params: &TensorList,
    grads: &TensorList,
    sums: &TensorList,
    lr: f64,
    mom: f64,
) -> Result<()> {
    fit(params, &[grads, sums])?;
    let at = |l: &TensorList| l.of.as_ptr();
    // SAFETY: the lists are alive and have equal lengths.
    checked(unsafe { finetune_sgd(at(params), at(grads), at(sums), lr, mom) })
}
