//! Loss scaling in training with 16-bit floats.

use crate::{
    error::{Error, Result},
    learner::{Callback, Precision, Scope, Step, Training, order},
    optim::{GradScaler, ScalerState},
    sample::Batch,
};
use tch::{Device, Tensor};

/// Scales the loss before the backward pass, unscales the gradients before other callbacks see
/// them, and skips steps whose gradients are infinite or NaN: fastai's
/// [`MixedPrecision`](https://docs.fast.ai/callback.fp16.html#mixedprecision), with torch's
/// [`GradScaler`](https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling).
///
/// A skipped step is a cancelled step: `after_step` is still called, and the scale is reduced.
/// [`Learner::to_fp16`](crate::learner::Learner::to_fp16) adds it together with autocast; added as a
/// callback on its own, it only scales. The scale is stored in checkpoints.
#[derive(Debug, Clone)]
pub struct MixedPrecision {
    begin: GradScaler,
    scaler: GradScaler,
    /// True if gradients were unscaled and the scale has not been updated for them yet.
    unscaled: bool,
}

/// The key of the scale in [`Training::notes`].
const NOTE: &str = "MixedPrecision";

impl MixedPrecision {
    /// Uses torch's default scaler, which starts at 65,536.
    #[must_use]
    pub fn new() -> Self {
        Self::with_scaler(GradScaler::new())
    }

    /// Uses another scaler; each fit starts with a copy of it.
    #[must_use]
    pub fn with_scaler(scaler: GradScaler) -> Self {
        Self { begin: scaler.clone(), scaler, unscaled: false }
    }

    /// Returns the current scale.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scaler.get_scale()
    }

    fn update(&mut self, t: &mut Training) -> Result<()> {
        if std::mem::take(&mut self.unscaled) {
            self.scaler.update()?;
            let state = serde_json::to_value(self.scaler.state()).map_err(Error::other)?;
            t.notes.insert(NOTE.to_owned(), state);
        }
        Ok(())
    }
}

impl Default for MixedPrecision {
    fn default() -> Self {
        Self::new()
    }
}

impl Callback for MixedPrecision {
    fn fingerprint(&self) -> Option<String> {
        Some(format!("MixedPrecision of {:?}", self.begin))
    }

    fn order(&self) -> i32 {
        order::MIXED_PRECISION
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        if t.precision == Precision::Half && !matches!(t.model.device(), Device::Cuda(_)) {
            let why = format!(
                "float16 needs a CUDA device, but the model is on {:?}: use `to_bf16`",
                t.model.device()
            );
            return Err(Error::unsupported("to_fp16", why).into());
        }
        self.scaler = self.begin.clone();
        self.unscaled = false;
        if let (true, Some(state)) = (t.is_resumed(), t.notes.get(NOTE)) {
            let state: ScalerState = serde_json::from_value(state.clone()).map_err(Error::other)?;
            self.scaler.load_state(state)?;
        }
        Ok(())
    }

    fn before_backward(&mut self, _: &mut Training, _: &Batch, loss: &mut Tensor) -> Step {
        *loss = self.scaler.scale(loss);
        Ok(())
    }

    fn before_step(&mut self, t: &mut Training) -> Step {
        let infinite = self.scaler.unscale(&t.opt)?;
        self.unscaled = true;
        if infinite { Scope::Step.cancel() } else { Ok(()) }
    }

    fn after_step(&mut self, t: &mut Training) -> Step {
        Ok(self.update(t)?)
    }

    fn after_cancel(&mut self, t: &mut Training, scope: Scope) -> Step {
        // A batch cancelled by a later callback has no `after_step`.
        if scope == Scope::Batch {
            self.update(t)?;
        }
        Ok(())
    }
}
