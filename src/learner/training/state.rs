//! The state of a training, which callbacks read and change.

use super::{parallel::Parallel, stage::Stage};
use crate::{
    data::DataLoaders,
    error::{Error, Result},
    learner::{
        History, StopHandle,
        record::{history::number, metrics},
        resume::request::Checkpoints,
    },
    loss::Loss,
    metric::Metric,
    model::Model,
    optim::{Hyper, Optimizer},
    sample::{Batch, Split, Task},
    seed::Seed,
    sys::{self, caught, caught_tensor},
};
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::{Duration, Instant},
};
use tch::{Device, Kind, Tensor};

/// The state of a training, which callbacks read and change.
#[derive(Debug)]
#[non_exhaustive]
pub struct Training {
    /// The network with its weights.
    pub model: Model,
    /// The optimizer.
    pub opt: Optimizer,
    /// The loss.
    pub loss: Box<dyn Loss>,
    /// The data.
    pub dls: DataLoaders,
    /// The metrics.
    pub metrics: Vec<Box<dyn Metric>>,
    /// The history of this fit so far.
    pub history: History,
    /// The position of the training.
    pub at: Position,
    /// The number format of the forward pass.
    pub precision: Precision,
    /// The seed of all random streams.
    pub seed: Seed,
    /// The folder for relative file names; see [`Learner::model_dir`](crate::learner::Learner::model_dir).
    pub model_dir: PathBuf,
    /// State of callbacks for a resumed fit, with keys of their choice. Empty at the start of a fit; in a
    /// resumed fit, the content at the time of the checkpoint.
    pub notes: BTreeMap<String, serde_json::Value>,
    /// Tensors that callbacks need when a fit is resumed, by the name of the callback and a name of its
    /// choice: set in [`Callback::before_checkpoint`](crate::learner::Callback::before_checkpoint).
    pub tensors: BTreeMap<String, Vec<(String, Tensor)>>,
    pub(in crate::learner) resumed: bool,
    /// The number of messages that the checkpoint of a resumed fit contained.
    pub(in crate::learner) old_messages: usize,
    pub(in crate::learner) checkpoints: Checkpoints,
    pub(in crate::learner) run: Run,
    /// The current stage and those after it.
    pub(in crate::learner) plan: VecDeque<Stage>,
    /// The number of completed stages of the plan.
    pub(in crate::learner) stage: usize,
    /// Training losses that are not yet in the history, with their batch number.
    pub(in crate::learner) unread: Vec<(usize, Tensor)>,
    pub(in crate::learner) clock: Clock,
    pub(in crate::learner) stop: StopHandle,
    /// The state of a training with several processes.
    pub(in crate::learner) parallel: Option<Parallel>,
}

/// The kind of run of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::learner) enum Run {
    /// A training: a NaN or infinite loss is an error.
    #[default]
    Fit,
    /// A sweep of the learning rate with this many steps. The loss may diverge.
    Sweep(usize),
    /// A validation or prediction.
    Evaluation,
}

/// The elapsed time of a part of an epoch, and the time spent waiting for data.
#[derive(Debug)]
pub(in crate::learner) struct Clock {
    began: Instant,
    pub(in crate::learner) waited: Duration,
}

impl Clock {
    pub(in crate::learner) fn new() -> Self {
        Self { began: Instant::now(), waited: Duration::ZERO }
    }

    pub(in crate::learner) fn restart(&mut self) {
        *self = Self::new();
    }
}

/// The position of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Position {
    /// Training or validation.
    pub split: Split,
    /// The epoch of this fit, from 0.
    pub epoch: usize,
    /// The number of epochs of this fit.
    pub epochs: usize,
    /// The batch of this part, from 0.
    pub batch: usize,
    /// The number of batches of this part.
    pub batches: usize,
    /// The number of training batches done in this fit.
    pub fit_batches: usize,
    /// The number of training batches of all fits so far. It determines dropout's random stream.
    pub step: u64,
    /// The number of passes over the training data in all fits so far. It determines the order and the
    /// augmentation of the data.
    pub pass: u64,
}

impl Position {
    pub(in crate::learner) fn start() -> Self {
        Self {
            split: Split::Train,
            epoch: 0,
            epochs: 0,
            batch: 0,
            batches: 0,
            fit_batches: 0,
            step: 0,
            pass: 0,
        }
    }

    /// Returns the completed fraction of the fit, from 0 to 1, the argument of schedules.
    #[must_use]
    pub fn progress(&self) -> f64 {
        let batches = self.batches.max(1) as f64;
        (self.epoch as f64 + self.batch as f64 / batches) / self.epochs.max(1) as f64
    }

    /// Returns true if the current part is training.
    #[must_use]
    pub fn is_training(&self) -> bool {
        self.split == Split::Train
    }
}

/// The number format of the forward and backward pass. Weights are always 32-bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Full,
    /// 16-bit floats in operations that libtorch considers safe. Needs a GPU and a scaled loss.
    Half,
    /// bfloat16 in operations that libtorch considers safe.
    BFloat16,
}

impl Precision {
    /// Calls `forward` with the automatic casts of this precision on `device`. Returns its output as 32-bit
    /// floats.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the device does not support the precision; the errors of `forward`.
    pub(in crate::learner) fn run(
        self,
        device: Device,
        forward: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let kind = match self {
            Self::Full => return forward(),
            Self::Half => Kind::Half,
            Self::BFloat16 => Kind::BFloat16,
        };
        let _cast = sys::Autocast::enter(device, kind)?;
        Ok(forward()?.f_to_kind(Kind::Float)?)
    }
}

impl Training {
    /// Returns the model's output for `x` as 32-bit floats, computed in the chosen precision: with dropout
    /// and batch statistics in training, without them in validation.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the device does not support the precision; as
    /// [`Model::forward`](crate::model::Model::forward).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.precision.run(self.model.device(), || {
            let pred = self.model.forward(x, self.at.is_training());
            self.model.sync_failure()?;
            pred
        })
    }

    /// Returns the body's output after the head's pooling, as 32-bit floats, computed in the chosen
    /// precision, in evaluation mode.
    pub(in crate::learner) fn pooled_features(&self, x: &Tensor) -> Result<Tensor> {
        self.precision.run(self.model.device(), || self.model.pooled_features(x))
    }

    /// Returns the loss of a batch, a single number.
    ///
    /// # Errors
    /// [`Error::Computation`] with the reason and the shapes.
    pub fn loss(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        caught_tensor(|| self.loss.mean(pred, y)).map_err(self.of_loss(pred, y))
    }

    /// Returns the loss of each item of a batch.
    ///
    /// # Errors
    /// As [`Training::loss`].
    pub(in crate::learner) fn loss_of_each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        caught_tensor(|| self.loss.each(pred, y)).map_err(self.of_loss(pred, y))
    }

    /// Returns the divisor of the sum in [`Training::loss`]; `None` for the number of items.
    pub(in crate::learner) fn loss_divisor(
        &self,
        pred: &Tensor,
        y: &Tensor,
    ) -> Result<Option<Tensor>> {
        let divisor = caught(|| self.loss.divisor(pred, y));
        let divisor = divisor.and_then(|made| made.map(sys::defined).transpose());
        divisor.map_err(self.of_loss(pred, y))
    }

    /// Adds the loss and its arguments to an error.
    fn of_loss(&self, pred: &Tensor, y: &Tensor) -> impl FnOnce(Error) -> Error {
        let (pred, y) = (pred.size(), y.size());
        let name = caught(|| Ok(self.loss.name().to_owned())).unwrap_or_default();
        let what = format!("the loss `{name}` of outputs {pred:?} and targets {y:?}");
        Error::computation(|| what)
    }

    /// Checks the loss and the metrics against the targets.
    pub(in crate::learner) fn check(&self) -> Result<()> {
        let task = self.dls.task();
        caught(|| self.loss.check(&task))?;
        caught(|| self.metrics.iter().try_for_each(|m| m.check(&task)))
    }

    /// Runs up to two items through model, loss and metrics without training, so that mistakes are found
    /// before the training begins.
    pub(in crate::learner) fn try_out(&mut self, batch: &Batch) -> Result<()> {
        self.check()?;
        let _guard = tch::no_grad_guard();
        let few = |t: &Tensor| t.f_narrow(0, 0, t.size().first().map_or(0, |n| (*n).min(2)));
        let pred = self.model.forward(&few(&batch.x)?.f_to_kind(Kind::Float)?, false)?;
        self.check_outputs(&pred)?;
        let Some(y) = &batch.y else { return Ok(()) };
        let y = few(y)?;
        let loss = self.loss(&pred, &y)?;
        let items = batch.items.iter().copied().take(2).collect();
        let mut tried = Batch::new(few(&batch.x)?, Some(y), items);
        tried.placements = batch.placements.iter().take(2).cloned().collect();
        metrics::reset(&mut self.metrics)?;
        metrics::update(&mut self.metrics, &pred, &tried, &loss)?;
        metrics::reset(&mut self.metrics)
    }

    /// Checks that the model has as many outputs as there are categories, or outputs per pixel as there are codes,
    /// if the loss is one of this crate. Other losses may have other outputs.
    pub(in crate::learner) fn check_outputs(&self, pred: &Tensor) -> Result<()> {
        let task = self.dls.task();
        let classes = task.vocab().len() as i64;
        let Some(spec) = self.loss.spec() else { return Ok(()) };
        let (outputs, of) = match (&task, &pred.size()[..]) {
            (_, &[_, outputs]) => (outputs, "categories"),
            // A loss without a dimension of codes has one output per pixel.
            (Task::Mask { .. }, &[_, outputs, _, _]) if spec.axis().is_some() => (outputs, "codes"),
            _ => return Ok(()),
        };
        if classes == 0 || outputs == classes {
            return Ok(());
        }
        let why = format!("the model has {outputs} outputs for {classes} {of}");
        Err(Error::mismatch("model", why))
    }

    /// Reads the losses that are still on the device into the history, which blocks until the device is
    /// done. The loop calls this itself: on a CPU after each step, on a GPU after every tenth step and at
    /// the end of each part.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`] if one of them is NaN or infinite.
    pub fn read_losses(&mut self) -> Result<()> {
        for (batch, loss) in std::mem::take(&mut self.unread) {
            let loss = number(&loss)?;
            // On a CPU, each loss was checked before; `lr_find` continues on NaN.
            let must = self.model.device() != Device::Cpu && matches!(self.run, Run::Fit);
            if must && !loss.is_finite() {
                let (loss, epoch) = (f64::from(loss), self.at.epoch);
                return Err(Error::non_finite_loss(loss, epoch, batch));
            }
            let smoothed = self.history.smooth.add(loss);
            self.history.raw_losses.push(f64::from(loss));
            self.history.losses.push(smoothed);
        }
        Ok(())
    }

    /// Adds a message, which is printed between the rows of the table of epochs and stored in
    /// [`History::messages`].
    pub fn say(&mut self, message: impl Into<String>) {
        self.history.messages.push(message.into());
    }

    /// Returns the index of this fit among those of one call, from 0: the second fit of `fine_tune` is 1.
    #[must_use]
    pub fn stage(&self) -> usize {
        self.stage
    }

    /// Returns true if the policy of this fit sets the hyperparameter before each training batch, so that
    /// values set by a callback are overwritten.
    #[must_use]
    pub fn is_scheduled(&self, hyper: Hyper) -> bool {
        self.plan.front().is_some_and(|s| s.course.schedules.iter().any(|(h, _)| *h == hyper))
    }

    /// Returns a handle that stops this fit from another thread.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Returns true if this fit was resumed from a checkpoint, until its first batch: in `before_fit`,
    /// `before_epoch` and `before_train`, where a callback would otherwise reset its state.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Returns the name of the run in [`Learner::fit_or_resume`](crate::learner::Learner::fit_or_resume)
    /// and [`Learner::resume`](crate::learner::Learner::resume).
    #[must_use]
    pub fn run_name(&self) -> Option<&str> {
        self.checkpoints.run.as_deref()
    }

    /// Returns the fraction of the time of this part of the epoch, from 0 to 1, in which the training
    /// waited for data.
    #[must_use]
    pub fn data_wait_fraction(&self) -> f64 {
        let all = self.clock.began.elapsed().as_secs_f64();
        if all > 0.0 { (self.clock.waited.as_secs_f64() / all).min(1.0) } else { 0.0 }
    }
}
