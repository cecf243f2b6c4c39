//! The learner: a model, its data, and the loop that trains it.

use super::{
    Defaults, History, MixedPrecision, Position, Precision, Progress, StopHandle, Training,
    probe::standing::Standing,
    record::recorder::Recorder,
    resume::request::Checkpoints,
    training::{callback::Callback, state},
};
use crate::{
    data::DataLoaders,
    error::Result,
    loss::Loss,
    metric::Metric,
    model::{Model, Param},
    optim::{Adam, Optimizer},
    seed::Seed,
    sys::caught,
};
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

/// Builds an optimizer for the parameters of a model.
pub type OptFunc = Box<dyn Fn(&[Param]) -> Result<Optimizer> + Send>;

/// A model, its data, and the loop that trains it: fastai's
/// [`Learner`](https://docs.fast.ai/learner.html).
#[derive(derive_more::Debug)]
pub struct Learner {
    pub(super) training: Training,
    pub(super) recorder: Recorder,
    pub(super) progress: Option<Progress>,
    pub(super) mixed: Option<MixedPrecision>,
    pub(super) callbacks: Vec<Box<dyn Callback>>,
    #[debug(skip)]
    pub(super) opt_func: OptFunc,
    pub(super) defaults: Defaults,
    pub(super) train_bn: bool,
    /// The accuracy of the last linear probe.
    pub(super) probed: Option<Standing>,
    /// A message for the first training.
    pub(super) advice: Option<String>,
}

impl Learner {
    /// Returns a learner for a model and a loss of your own, with Adam.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the model has no parameters, and the errors of [`Loss::check`] if
    /// the loss does not support the targets.
    pub fn new(dls: DataLoaders, model: Model, loss: impl Loss + 'static) -> Result<Self> {
        Self::assemble(dls, model, Box::new(loss), Box::new(|p| Optimizer::new(p, Adam::new())))
    }

    pub(super) fn assemble(
        dls: DataLoaders,
        model: Model,
        loss: Box<dyn Loss>,
        opt_func: OptFunc,
    ) -> Result<Self> {
        caught(|| loss.check(&dls.task()))?;
        let training = Training {
            opt: caught(|| opt_func(model.params()))?,
            seed: dls.seed(),
            model,
            loss,
            dls,
            metrics: vec![],
            history: History::default(),
            at: Position::start(),
            precision: Precision::Full,
            model_dir: PathBuf::from("models"),
            notes: BTreeMap::new(),
            tensors: BTreeMap::new(),
            checkpoints: Checkpoints::default(),
            resumed: false,
            old_messages: 0,
            run: state::Run::Fit,
            plan: VecDeque::new(),
            stage: 0,
            unread: vec![],
            clock: state::Clock::new(),
            stop: StopHandle::default(),
            parallel: None,
        };
        Ok(Self {
            training,
            recorder: Recorder::new(),
            progress: Some(Progress::new()),
            mixed: None,
            callbacks: vec![],
            opt_func,
            defaults: Defaults::default(),
            train_bn: true,
            probed: None,
            advice: None,
        })
    }

    /// Adds a metric.
    #[must_use]
    pub fn metric(mut self, metric: impl Metric + 'static) -> Self {
        self.add_metric(metric);
        self
    }

    /// Adds a callback for every fit. For one fit only, see [`Learner::fit_with`].
    #[must_use]
    pub fn callback(mut self, callback: impl Callback + 'static) -> Self {
        self.add_cb(callback);
        self
    }

    /// Adds a metric to a learner that is borrowed, for example as the field of a struct.
    pub fn add_metric(&mut self, metric: impl Metric + 'static) {
        self.training.metrics.push(Box::new(metric));
    }

    /// Adds a callback for every fit to a learner that is borrowed: fastai's `add_cb`.
    pub fn add_cb(&mut self, callback: impl Callback + 'static) {
        self.callbacks.push(Box::new(callback));
    }

    /// Replaces the optimizer; the new one starts without moments. Default: Adam.
    ///
    /// # Errors
    /// The error of the function, which is called at once.
    pub fn opt_func(
        mut self,
        f: impl Fn(&[Param]) -> Result<Optimizer> + Send + 'static,
    ) -> Result<Self> {
        self.training.opt = caught(|| f(self.training.model.params()))?;
        self.opt_func = Box::new(f);
        Ok(self)
    }

    /// Sets the learning rate, momentum, weight decay and layer decay of fits that do not set them.
    #[must_use]
    pub fn defaults(mut self, defaults: Defaults) -> Self {
        self.defaults = defaults;
        self
    }

    /// Sets layer-wise learning-rate decay for fits that do not set it: the rate of each parameter group is
    /// multiplied by `decay` once for every group after it. Above 0 and at most 1. Default: none.
    ///
    /// It is meant for a network of your own, whose groups you set with
    /// [`Path::set_group`](tch::nn::Path::set_group). For a network by name, use
    /// [`VisionLearner::layer_decay`](crate::learner::VisionLearner::layer_decay), which splits it into its blocks.
    #[must_use]
    pub fn layer_decay(mut self, decay: f64) -> Self {
        self.defaults.layer_decay = Some(decay);
        self
    }

    /// If true, normalizations of frozen groups stay trainable. Default: true, as in fastai.
    #[must_use]
    pub fn train_bn(mut self, yes: bool) -> Self {
        self.train_bn = yes;
        self
    }

    /// If true, metrics are reported for training batches too. Default: false.
    #[must_use]
    pub fn train_metrics(mut self, yes: bool) -> Self {
        self.recorder.train_metrics = yes;
        self
    }

    /// Sets the folder in which [`Learner::save`] writes. Default: `models` in the current folder.
    #[must_use]
    pub fn model_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.training.model_dir = folder.into();
        self
    }

    /// Sets how progress is shown. Default: bars on standard error if it is a terminal, and the table of
    /// epochs on standard output.
    #[must_use]
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Disables progress bars and the table.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.progress = None;
        self
    }

    /// Trains in float16, in operations that libtorch considers safe, and with a scaled loss so that small
    /// gradients do not vanish: fastai's `to_fp16`. For CUDA; on a CPU, a fit returns an error that
    /// recommends [`Learner::to_bf16`]. Weights stay 32-bit. See [`MixedPrecision`] for the options of the
    /// scaler.
    #[must_use]
    pub fn to_fp16(self) -> Self {
        self.mixed_precision(MixedPrecision::new())
    }

    /// As [`Learner::to_fp16`], with another initial scale, growth or backoff.
    #[must_use]
    pub fn mixed_precision(mut self, mixed: MixedPrecision) -> Self {
        self.training.precision = Precision::Half;
        self.mixed = Some(mixed);
        self
    }

    /// Trains in bfloat16, in operations that libtorch considers safe. Weights stay 32-bit. Fast on
    /// processors and GPUs with bfloat16 instructions. On other processors it is slower than 32-bit floats, and a
    /// message before the training says so.
    #[must_use]
    pub fn to_bf16(mut self) -> Self {
        self.training.precision = Precision::BFloat16;
        self.mixed = None;
        self
    }

    /// Trains in fp32, the default.
    #[must_use]
    pub fn to_fp32(mut self) -> Self {
        self.training.precision = Precision::Full;
        self.mixed = None;
        self
    }

    /// Returns a handle that stops a fit from another thread.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.training.stop_handle()
    }

    /// Returns the history of the last fit.
    #[must_use]
    pub fn recorder(&self) -> &History {
        &self.training.history
    }

    /// Returns the data loaders.
    #[must_use]
    pub fn dls(&self) -> &DataLoaders {
        &self.training.dls
    }

    /// Returns the model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.training.model
    }

    /// Returns the state that callbacks read.
    #[must_use]
    pub fn training(&self) -> &Training {
        &self.training
    }

    /// Returns the state that callbacks read and change.
    pub fn training_mut(&mut self) -> &mut Training {
        &mut self.training
    }

    /// Writes the weights to `NAME.safetensors` and the optimizer's state to `NAME.opt.safetensors` in
    /// [`Learner::model_dir`]; returns the path of the weights. Files are replaced atomically.
    ///
    /// If the name ends in `.pth`, writes weights and optimizer to one file in the format of fastai's
    /// `Learner.save`, which fastai's `load` reads.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) naming the file.
    pub fn save(&self, name: &str) -> Result<PathBuf> {
        self.training.save(name, true)
    }

    /// Reads the files of [`Learner::save`]; a fit then continues as in the same program. A name that ends
    /// in `.pth` is read as a checkpoint of fastai, with or without its optimizer.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) listing missing and unexpected variables and
    /// differing shapes. On failure, nothing is loaded.
    pub fn load(&mut self, name: &str) -> Result<()> {
        self.training.load(name, true)
    }

    pub(crate) fn set_seed(&mut self, seed: Seed) {
        self.training.seed = seed;
    }
}
