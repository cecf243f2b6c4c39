//! Many tensors that one call works on.

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

/// Many tensors that one call works on, by libtorch's `_foreach` kernels.
///
/// A list shares its tensors with those it was made of. Nothing that is done to a list is recorded for
/// gradients. Where a call takes other lists, they must be as long and hold tensors of the same shapes.
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

// SAFETY: the list is owned by this value alone, and its tensors are as safe to send as tch's, which
// are `Send` themselves. It is not `Sync`, as they are not.
unsafe impl Send for TensorList {}

impl fmt::Debug for TensorList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorList").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for TensorList {
    fn drop(&mut self) {
        // SAFETY: the list was made by the native layer and is freed once.
        unsafe { finetune_list_free(self.of.as_ptr()) }
    }
}

/// What `finetune_list_new` makes of a list.
#[derive(Clone, Copy)]
enum NewList {
    Zeros = 0,
    Copies = 1,
    Norms = 2,
    LaidOutAs = 3,
}

/// What `finetune_foreach` does to each tensor.
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
    /// A list of handles to these tensors.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn new(tensors: &[Tensor]) -> Result<Self> {
        let mut all: Vec<*mut c_void> =
            tensors.iter().map(|t| t.as_ptr().cast_mut().cast()).collect();
        let mut out = null_mut();
        // SAFETY: the pointers are those of live tensors, of which the list takes handles of its own.
        checked(unsafe { finetune_list(all.as_mut_ptr(), all.len(), &raw mut out) })?;
        Self::made(out, all.len())
    }

    fn made(of: *mut c_void, len: usize) -> Result<Self> {
        let of = NonNull::new(of).ok_or_else(|| Error::other("the native layer made no list"))?;
        Ok(Self { of, len })
    }

    fn derived(&self, what: NewList, like: &Self) -> Result<Self> {
        let mut out = null_mut();
        let (of, like) = (self.of.as_ptr(), like.of.as_ptr());
        // SAFETY: both lists are alive; the new one is ours.
        checked(unsafe { finetune_list_new(what as c_int, of, like, &raw mut out) })?;
        Self::made(out, self.len)
    }

    fn each(&self, what: Each, y: Option<&Self>, z: Option<&Self>, a: f64) -> Result<()> {
        for other in [y, z].into_iter().flatten() {
            if other.len != self.len {
                let why = format!("lists of {} and {} tensors do not fit", self.len, other.len);
                return Err(Error::mismatch("TensorList", why));
            }
        }
        let at = |l: Option<&Self>| l.map_or(null_mut(), |l| l.of.as_ptr());
        // SAFETY: the lists are alive and equally long; those that `what` needs are given.
        checked(unsafe { finetune_foreach(what as c_int, self.of.as_ptr(), at(y), at(z), a) })
    }

    /// The list, for a native call.
    pub(super) fn pointer(&self) -> *mut c_void {
        self.of.as_ptr()
    }

    /// How many tensors there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A handle to the tensor at `i`.
    ///
    /// # Errors
    /// [`Error::Torch`] if there are not so many.
    pub fn get(&self, i: usize) -> Result<Tensor> {
        let mut out = null_mut();
        // SAFETY: the list is alive and the index is checked there.
        checked(unsafe { finetune_list_get(self.of.as_ptr(), i, &raw mut out) })?;
        // SAFETY: the native layer returned a new handle, which is ours now.
        Ok(unsafe { Tensor::from_ptr(out.cast()) })
    }

    /// Handles to all tensors.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn tensors(&self) -> Result<Vec<Tensor>> {
        (0..self.len).map(|i| self.get(i)).collect()
    }

    /// New tensors of zeros, of the same shapes and memory layouts.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn zeros_like(&self) -> Result<Self> {
        self.derived(NewList::Zeros, self)
    }

    /// Copies of the tensors.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn copies(&self) -> Result<Self> {
        self.derived(NewList::Copies, self)
    }

    /// The Euclidean norm of each tensor, as tensors of one number.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn norms(&self) -> Result<Self> {
        self.derived(NewList::Norms, self)
    }

    /// The same tensors, but copies of those whose memory is laid out in another way than that of
    /// `like`: the fused kernels take numbers in the order of memory.
    pub(crate) fn laid_out_as(&self, like: &Self) -> Result<Self> {
        self.derived(NewList::LaidOutAs, like)
    }

    /// Whether every tensor's memory is laid out as that of `like`.
    pub(crate) fn is_laid_out_as(&self, like: &Self) -> Result<bool> {
        let mut same = false;
        let (of, like) = (self.of.as_ptr(), like.of.as_ptr());
        // SAFETY: both lists are alive; a shorter one is an error there.
        checked(unsafe { finetune_list_laid_out_as(of, like, &raw mut same) })?;
        Ok(same)
    }

    /// `x *= factor`
    ///
    /// # Errors
    /// What libtorch reports; so for all that follow.
    pub fn mul(&self, factor: f64) -> Result<()> {
        self.each(Each::Mul, None, None, factor)
    }

    /// `x += number`
    ///
    /// # Errors
    /// As [`TensorList::mul`].
    pub fn add_number(&self, number: f64) -> Result<()> {
        self.each(Each::AddNumber, None, None, number)
    }

    /// `x = √x`
    ///
    /// # Errors
    /// As [`TensorList::mul`].
    pub fn sqrt(&self) -> Result<()> {
        self.each(Each::Sqrt, None, None, 0.0)
    }

    /// `x = eˣ`
    ///
    /// # Errors
    /// As [`TensorList::mul`].
    pub fn exp(&self) -> Result<()> {
        self.each(Each::Exp, None, None, 0.0)
    }

    /// `x = ln(1 + x)`
    ///
    /// # Errors
    /// As [`TensorList::mul`].
    pub fn log1p(&self) -> Result<()> {
        self.each(Each::Log1p, None, None, 0.0)
    }

    /// `x += factor · y`
    ///
    /// # Errors
    /// As [`TensorList::mul`]; [`Error::Config`] if the lists are not equally long.
    pub fn add(&self, y: &Self, factor: f64) -> Result<()> {
        self.each(Each::Add, Some(y), None, factor)
    }

    /// `x += part · (y - x)`
    ///
    /// # Errors
    /// As [`TensorList::add`].
    pub fn lerp(&self, y: &Self, part: f64) -> Result<()> {
        self.each(Each::Lerp, Some(y), None, part)
    }

    /// `x *= y`, where a `y` may be a single number.
    ///
    /// # Errors
    /// As [`TensorList::add`].
    pub fn mul_by(&self, y: &Self) -> Result<()> {
        self.each(Each::MulBy, Some(y), None, 0.0)
    }

    /// `x = y`
    ///
    /// # Errors
    /// As [`TensorList::add`].
    pub fn copy_from(&self, y: &Self) -> Result<()> {
        self.each(Each::Copy, Some(y), None, 0.0)
    }

    /// `x += factor · y · z`
    ///
    /// # Errors
    /// As [`TensorList::add`].
    pub fn addcmul(&self, y: &Self, z: &Self, factor: f64) -> Result<()> {
        self.each(Each::AddCMul, Some(y), Some(z), factor)
    }

    /// `x += factor · y / z`
    ///
    /// # Errors
    /// As [`TensorList::add`].
    pub fn addcdiv(&self, y: &Self, z: &Self, factor: f64) -> Result<()> {
        self.each(Each::AddCDiv, Some(y), Some(z), factor)
    }
}

/// The gradients of the parameters that learn and have one, and which of them do.
pub(crate) fn grads(params: &TensorList) -> Result<(TensorList, Vec<bool>)> {
    let mut has = vec![false; params.len];
    let mut out = null_mut();
    // SAFETY: the list is alive and `has` is as long.
    checked(unsafe { finetune_grads(params.of.as_ptr(), has.as_mut_ptr(), &raw mut out) })?;
    let len = has.iter().filter(|h| **h).count();
    Ok((TensorList::made(out, len)?, has))
}

/// Leaves the parameters without gradients; their memory is free then.
pub(crate) fn clear_grads(params: &TensorList) -> Result<()> {
    // SAFETY: the list is alive.
    checked(unsafe { finetune_clear_grads(params.of.as_ptr()) })
}

/// Multiplies by `factor` and tells whether a number was infinite or NaN. This waits for the device.
pub(crate) fn unscale(grads: &TensorList, factor: f32) -> Result<bool> {
    let mut found = false;
    // SAFETY: the list is alive.
    checked(unsafe { finetune_unscale(grads.of.as_ptr(), factor, &raw mut found) })?;
    Ok(found)
}

/// The numbers of one step of Adam.
pub(crate) struct AdamStep {
    pub(crate) step: f64,
    pub(crate) lr: f64,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) decay: f64,
    pub(crate) eps: f64,
}

/// As many tensors in each list, or the fused kernels would read beyond one.
fn fit(params: &TensorList, others: &[&TensorList]) -> Result<()> {
    if others.iter().all(|l| l.len == params.len) {
        return Ok(());
    }
    Err(Error::mismatch("optimizer", "as many gradients and states as parameters are needed"))
}

/// Adam with decoupled decay for all parameters in one call.
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
    // SAFETY: the lists are alive and equally long.
    checked(unsafe {
        let (params, grads, avgs, sqrs) = (at(params), at(grads), at(avgs), at(sqrs));
        finetune_adamw(params, grads, avgs, sqrs, step, lr, beta1, beta2, decay, eps)
    })
}

/// Gradient descent with undamped momentum for all parameters in one call.
pub(crate) fn sgd(
    params: &TensorList,
    grads: &TensorList,
    sums: &TensorList,
    lr: f64,
    mom: f64,
) -> Result<()> {
    fit(params, &[grads, sums])?;
    let at = |l: &TensorList| l.of.as_ptr();
    // SAFETY: the lists are alive and equally long.
    checked(unsafe { finetune_sgd(at(params), at(grads), at(sums), lr, mom) })
}
