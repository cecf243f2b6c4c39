//! Batch normalization that can keep its running statistics while frozen, and that can share its statistics between
//! processes.

use super::switch::Switch;
use crate::{
    error::{Error, Result},
    sys::Group,
};
use std::cell::{Cell, RefCell};
use tch::{
    Kind, Tensor,
    nn::{self, BatchNormConfig, ModuleT, Path},
};

thread_local! {
    /// If true, frozen layers use their running statistics in training too.
    static HELD: Cell<bool> = const { Cell::new(false) };
}

/// If `yes`, holds frozen layers on this thread until the result is dropped.
pub(super) fn hold(yes: bool) -> Switch {
    Switch::set(&HELD, yes)
}

/// Returns true if frozen layers are held on this thread.
pub(super) fn is_held() -> bool {
    HELD.get()
}

thread_local! {
    /// True while a training pass is computed again, whose items the running statistics already include.
    static AGAIN: Cell<bool> = const { Cell::new(false) };
}

/// If `yes`, keeps the running statistics unchanged on this thread until the result is dropped.
pub(super) fn again(yes: bool) -> Switch {
    Switch::set(&AGAIN, yes)
}

thread_local! {
    /// The processes with which the layers share their statistics.
    static SYNCED: RefCell<Option<Group>> = const { RefCell::new(None) };
    /// The error of a failed exchange.
    static FAILED: RefCell<Option<Error>> = const { RefCell::new(None) };
}

/// Makes the layers on this thread share their statistics until the value is dropped.
pub(super) struct Synced {
    before: Option<Group>,
}

impl Synced {
    pub(super) fn new(group: Option<Group>) -> Self {
        Self { before: SYNCED.replace(group) }
    }
}

impl Drop for Synced {
    fn drop(&mut self) {
        SYNCED.set(self.before.take());
    }
}

/// Returns the error if the statistics of the last forward pass on this thread could not be shared.
pub(super) fn failure() -> Option<Error> {
    FAILED.take()
}

/// Protects the running statistics in a training pass over one item.
///
/// The variance of a single value is NaN, and would make the running variance NaN permanently. PyTorch
/// rejects this in Python; libtorch and `tch` do not.
pub(super) struct Statistics {
    /// The running means and variances by name: a copy and the current tensor.
    kept: Vec<(String, Tensor, Tensor)>,
}

impl Statistics {
    /// Copies the statistics if the pass could make them NaN: with one item, in training.
    pub(super) fn before(buffers: &[(String, Tensor)], x: &Tensor, train: bool) -> Result<Self> {
        let one = train && x.size().first() == Some(&1);
        let running = |name: &str| name.ends_with("running_mean") || name.ends_with("running_var");
        let kept = buffers.iter().filter(|(name, _)| one && running(name));
        let kept =
            kept.map(|(name, now)| Ok((name.clone(), now.f_detach_copy()?, now.shallow_clone())));
        Ok(Self { kept: kept.collect::<Result<_>>()? })
    }

    /// Restores the statistics if the pass has made them NaN.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if so, naming the first of them.
    pub(super) fn check(mut self) -> Result<()> {
        let is_nan = |t: &Tensor| Ok::<_, Error>(bool::try_from(t.f_isnan()?.f_any()?)?);
        for (name, before, now) in &self.kept {
            if !is_nan(now)? || is_nan(before)? {
                continue;
            }
            let why = format!(
                "`{}` has one value per channel, so its variance is undefined: use a larger `bs`, \
                 or `drop_last(true)` if the last batch has one item",
                name.rsplit_once('.').map_or("", |(layer, _)| layer)
            );
            let _guard = tch::no_grad_guard();
            for (_, before, now) in &mut self.kept {
                now.f_copy_(before)?;
            }
            return Err(Error::unsupported("batch normalization", why));
        }
        Ok(())
    }
}

/// `tch`'s batch normalization with support for
/// [`Model::hold_frozen_norms`](super::Model::hold_frozen_norms): if that is set and the weight is frozen, the layer
/// uses its running statistics in training too, and does not update them.
///
/// If several processes train together, it can normalize by the statistics of all their items; see
/// [`DistributedOptions::sync_bn`](crate::learner::DistributedOptions::sync_bn).
#[derive(Debug)]
pub struct BatchNorm {
    norm: nn::BatchNorm,
    eps: f64,
    momentum: f64,
    cudnn: bool,
}

impl ModuleT for BatchNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let learns = self.norm.ws.as_ref().is_some_and(Tensor::requires_grad);
        let train = train && (learns || !HELD.get());
        if train && let Some(group) = SYNCED.with_borrow(Clone::clone) {
            match self.synced(x, &group) {
                Ok(y) => return y,
                Err(e) => FAILED.set(Some(e)),
            }
        }
        if train && AGAIN.get() {
            // Runs the same kernel as the first pass, with copies of the statistics, which are discarded.
            let (mean, var) = (self.norm.running_mean.copy(), self.norm.running_var.copy());
            let (weight, bias) = (self.norm.ws.as_ref(), self.norm.bs.as_ref());
            let (eps, momentum) = (self.eps, self.momentum);
            return x.batch_norm(
                weight,
                bias,
                Some(&mean),
                Some(&var),
                true,
                momentum,
                eps,
                self.cudnn,
            );
        }
        self.norm.forward_t(x, train)
    }
}

impl BatchNorm {
    fn new(norm: nn::BatchNorm, config: BatchNormConfig) -> Self {
        let BatchNormConfig { eps, momentum, cudnn_enabled: cudnn, .. } = config;
        Self { norm, eps, momentum, cudnn }
    }

    /// Normalizes by mean and variance over the items of all processes. The squares are summed around the
    /// common mean, which takes a second exchange but avoids cancellation.
    fn synced(&self, x: &Tensor, group: &Group) -> Result<Tensor> {
        let kind = x.kind();
        let x = x.f_to_kind(Kind::Float)?;
        let channels = x.size()[1];
        let others: Vec<i64> = (0..x.dim() as i64).filter(|d| *d != 1).collect();
        let sums = |t: &Tensor| t.f_sum_dim_intlist(&others[..], false, Kind::Float);
        let mut shape = vec![1; x.dim()];
        shape[1] = channels;
        let along = |t: &Tensor| t.f_view(&shape[..]);
        let own = (x.numel() as i64 / channels) as f64;
        let own = Tensor::f_full([1], own, (Kind::Float, x.device()))?;
        let all = group.sum(&Tensor::f_cat(&[sums(&x)?, own], 0)?)?;
        let count = all.f_narrow(0, channels, 1)?.detach();
        let mean = all.f_narrow(0, 0, channels)? / &count;
        let centered = x - along(&mean)?;
        let squares = group.sum(&sums(&centered.f_square()?)?)?;
        let mut y = centered * along(&(&squares / &count + self.eps).f_rsqrt()?)?;
        if let (Some(weight), Some(bias)) = (&self.norm.ws, &self.norm.bs) {
            y = y * along(weight)? + along(bias)?;
        }
        let _guard = tch::no_grad_guard();
        let unbiased = squares / (count - 1.0);
        for (running, new) in [(&self.norm.running_mean, mean), (&self.norm.running_var, unbiased)]
        {
            let _ = running.shallow_clone().f_lerp_(&new.detach(), self.momentum)?;
        }
        Ok(y.f_to_kind(kind)?)
    }
}

/// Creates a batch normalization of `[N, C]` or `[N, C, L]`, like [`nn::batch_norm1d`].
///
/// # Panics
/// As that function, if `channels` is not positive.
#[must_use]
pub fn batch_norm1d(path: &Path<'_>, channels: i64, config: BatchNormConfig) -> BatchNorm {
    BatchNorm::new(nn::batch_norm1d(path, channels, config), config)
}

/// Creates a batch normalization of `[N, C, H, W]`, like [`nn::batch_norm2d`].
///
/// # Panics
/// As that function, if `channels` is not positive.
#[must_use]
pub fn batch_norm2d(path: &Path<'_>, channels: i64, config: BatchNormConfig) -> BatchNorm {
    BatchNorm::new(nn::batch_norm2d(path, channels, config), config)
}
