//! The events of a fit that callbacks handle, and how a callback ends a part of it.

use crate::{error::Error, learner::Training, sample::Batch};
use std::fmt::Debug;
use tch::Tensor;

/// The order numbers of the callbacks of this crate; lower numbers are called first.
///
/// The numbers are fastai's.
pub mod order {
    /// Stops on a NaN loss, before it is recorded.
    pub const NAN_GUARD: i32 = -9;
    /// Averages weights, before other callbacks see the weights that are validated.
    pub const EMA: i32 = -5;
    /// Changes batches: MixUp, CutMix.
    pub const MIX: i32 = 0;
    /// Accumulates gradients over several batches.
    pub const GRADIENT_ACCUMULATION: i32 = 6;
    /// Scales the loss and unscales the gradients.
    pub const MIXED_PRECISION: i32 = 10;
    /// Clips gradients, after they are unscaled.
    pub const GRADIENT_CLIP: i32 = 11;
    /// Writes the history.
    pub const RECORDER: i32 = 50;
    /// Sets hyperparameters, shows progress, runs the learning-rate finder.
    pub const SCHEDULER: i32 = 60;
    /// Saves the best model.
    pub const SAVE_BEST: i32 = 61;
    /// Lowers the learning rate on a plateau.
    pub const REDUCE_LR: i32 = 62;
    /// Stops a fit when a value stops improving.
    pub const EARLY_STOPPING: i32 = 63;
    /// Writes checkpoints, after all other callbacks have seen the batch.
    pub const CHECKPOINT: i32 = 10_000;
}

/// A part of a fit that can be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The whole fit.
    Fit,
    /// One epoch: training and validation.
    Epoch,
    /// The training of one epoch.
    Train,
    /// The validation of one epoch.
    Validate,
    /// One batch.
    Batch,
    /// The backward pass of one batch.
    Backward,
    /// The optimizer's step after one batch.
    Step,
}

impl Scope {
    /// Ends this part now. The fit continues after it.
    ///
    /// # Errors
    /// Always: the cancel is passed as an `Err` up to the part that it ends, and never leaves a fit.
    pub fn cancel(self) -> Step {
        Err(Stop::Cancel(self))
    }
}

/// The reason why a callback stops. A cancel never leaves `fit`. Exhaustive, so that a callback that wraps
/// another one can handle every case.
#[derive(Debug)]
pub enum Stop {
    /// The end of one part of the fit.
    Cancel(Scope),
    /// The end of the fit, which returns this error.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(e: E) -> Self {
        Self::Failed(e.into())
    }
}

/// The result of a callback: continue, or stop.
pub type Step = Result<(), Stop>;

/// The output and the loss of a batch. A cancelled batch may have neither.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// The model's output.
    pub pred: Option<Tensor>,
    /// The loss, a single number, without any scaling.
    pub loss: Option<Tensor>,
}

/// Handles events of a fit. Every method does nothing by default.
///
/// The events of one epoch, in order: `before_epoch`, `before_train`, for each training batch
/// `before_batch`, `after_pred`, `after_loss`, `before_backward`, `after_backward`, `before_step`,
/// `after_step`, `after_batch`; then `after_train`, `before_validate`, for each validation batch
/// `before_batch`, `after_pred`, `after_loss`, `after_batch`; then `after_validate`, `after_epoch`.
/// `before_fit` is called before and `after_fit` after all epochs.
///
/// How a part of a fit can end:
///
/// | reason | `after_cancel` | rest of the part | `after_…` of the part | outer parts | `fit` returns |
/// |---|---|---|---|---|---|
/// | normal end | no | executed | yes | continue | `Ok` |
/// | [`Scope::cancel`] inside it | once | skipped | yes | continue | `Ok` |
/// | an error | no | skipped | only `after_fit` | skipped | `Err` naming callback and event |
/// | a panic in user code: callback, model, loss, metric, optimizer, data set, transform | no | skipped | only `after_fit` | skipped | `Err` with the message of the panic |
/// | a cancel of a part that is not running | no | skipped | only `after_fit` | skipped | `Err` |
///
/// The events are those of [fastai's callbacks](https://docs.fast.ai/callback.core.html). Its seven
/// `after_cancel_…` events are one method here, and `after_fit` is always called.
#[allow(unused_variables)] // the default bodies name their arguments for the reader
pub trait Callback: Debug + Send {
    /// Returns the name of the callback for errors. Default: the type's name.
    fn name(&self) -> &str {
        let path = std::any::type_name::<Self>();
        path.split('<').next().and_then(|p| p.rsplit("::").next()).unwrap_or(path)
    }
    /// Returns the order number. Lower numbers are called first; callbacks with equal numbers in the order
    /// in which they were added. Default: 0. See [`order`] for those of this crate.
    fn order(&self) -> i32 {
        0
    }
    /// If true, the callback is skipped by `lr_find`, `validate`, `get_preds` and `predict`. Return true if
    /// it writes files or tracks best values. Default: false.
    fn skip_evaluation(&self) -> bool {
        false
    }
    /// If true, the callback is called only on rank 0 when several processes train together. Return true if
    /// it prints, draws or writes files. A callback that changes the training must be called on all ranks.
    /// Default: false.
    fn only_on_first_rank(&self) -> bool {
        false
    }
    /// Called before anything else.
    fn before_fit(&mut self, t: &mut Training) -> Step {
        Ok(())
    }
    /// Called before the training and the validation of an epoch.
    fn before_epoch(&mut self, t: &mut Training) -> Step {
        Ok(())
    }
    /// Called before the training batches of an epoch.
    fn before_train(&mut self, t: &mut Training) -> Step {
        Ok(())
    }
    /// Called before the forward pass of a batch. The batch may be changed.
    fn before_batch(&mut self, t: &mut Training, batch: &mut Batch) -> Step {
        Ok(())
    }
    /// Called after the forward pass. The output and the targets may be changed.
    fn after_pred(&mut self, t: &mut Training, batch: &mut Batch, pred: &mut Tensor) -> Step {
        Ok(())
    }
    /// Called after the loss is computed. It may be changed; the changed loss is recorded.
    fn after_loss(&mut self, t: &mut Training, batch: &Batch, loss: &mut Tensor) -> Step {
        Ok(())
    }
    /// Called before the backward pass of `loss`, which may be scaled here; the unscaled loss is
    /// recorded.
    fn before_backward(&mut self, t: &mut Training, batch: &Batch, loss: &mut Tensor) -> Step {
        Ok(())
    }
    /// Called after the backward pass.
    fn after_backward(&mut self, t: &mut Training) -> Step {
        Ok(())
    }
    /// Called before the optimizer's step.
    fn before_step(&mut self, t: &mut Training) -> Step {
        Ok(())
    }
    /// Called after the optimizer's step, even if it was cancelled. The gradients still exist.
    fn after_step(&mut self, t: &mut Training) -> Step {
        Ok(())
    }
    /// Called after a batch, even if it was cancelled.
    fn after_batch(&mut self, t: &mut Training, batch: &Batch, outcome: &Outcome) -> Step {
        Ok(())
    }
    /// Called after the training batches of an epoch.
    fn after_train(&mut self, t: &mut Training) -> Step {
        Ok(())
    }
    /// Called before the validation batches of an epoch.
    fn before_validate(&mut self, t: &mut Training) -> Step {
        Ok(())
    }
    /// Called after the validation batches of an epoch.
    fn after_validate(&mut self, t: &mut Training) -> Step {
        Ok(())
    }
    /// Called after training and validation of an epoch.
    fn after_epoch(&mut self, t: &mut Training) -> Step {
        Ok(())
    }
    /// Called at the end of every fit, even if it failed.
    fn after_fit(&mut self, t: &mut Training) -> Step {
        Ok(())
    }
    /// Called before a checkpoint is written, after `after_batch`. Store in [`Training::notes`] and
    /// [`Training::tensors`] the state that you need when the fit is resumed.
    fn before_checkpoint(&mut self, t: &mut Training) -> Step {
        Ok(())
    }
    /// Returns a text that identifies a callback that changes the training: its name and options. A run is
    /// resumed only with equal ones. Return `None` if the callback only reads. Default: `None`.
    fn fingerprint(&self) -> Option<String> {
        None
    }
    /// Returns what only one callback of a fit can do, as in "averages the weights". A fit with two callbacks
    /// that return the same text is an error. A callback that stores state for checkpoints returns a text with
    /// the key. Default: `None`.
    fn exclusive(&self) -> Option<String> {
        None
    }
    /// Called when a part was cancelled, before its `after_…` event.
    fn after_cancel(&mut self, t: &mut Training, scope: Scope) -> Step {
        Ok(())
    }
}
