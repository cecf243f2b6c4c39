//! The learner: a model, its data, and the loop that trains it.

mod callback;
mod checkpoint;
mod fastai;
mod history;
mod lr_find;
mod nan_guard;
mod policy;
mod predict;
mod predictor;
mod progress;
mod recorder;
mod run;
mod training;
mod vision;

pub use {
    callback::{Callback, Outcome, Scope, Step, Stop, order},
    history::{History, Row},
    lr_find::{LrFind, LrSweep},
    policy::{Course, Defaults, FineTune, Flat, FlatCos, OneCycle, ParamScheduler, Policy, Sgdr},
    predict::{Prediction, Predictions},
    predictor::Predictor,
    progress::Progress,
    training::{Position, Precision, Training},
    vision::{VisionLearner, vision_learner},
};

use crate::{
    data::{DataLoader, DataLoaders},
    error::{Error, Result},
    loss::Loss,
    metric::Metric,
    model::{Model, Param},
    optim::{Adam, Lr, Optimizer},
    sample::Split,
    seed::Seed,
};
use nan_guard::NanGuard;
use recorder::Recorder;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// Makes an optimizer for the parameters of a model.
pub type OptFunc = Box<dyn Fn(&[Param]) -> Result<Optimizer>>;

/// A model, its data, and the loop that trains it: fastai's
/// [`Learner`](https://docs.fast.ai/learner.html).
#[derive(derive_more::Debug)]
pub struct Learner {
    training: Training,
    recorder: Recorder,
    progress: Option<Progress>,
    callbacks: Vec<Box<dyn Callback>>,
    #[debug(skip)]
    opt_func: OptFunc,
    defaults: Defaults,
    train_bn: bool,
    model_dir: PathBuf,
}

impl Learner {
    /// A learner for a model and a loss of your own, with Adam.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no training batches.
    pub fn new(dls: DataLoaders, model: Model, loss: impl Loss + 'static) -> Result<Self> {
        Self::assemble(dls, model, Box::new(loss), Box::new(|p| Optimizer::new(p, Adam::new())))
    }

    fn assemble(
        dls: DataLoaders,
        model: Model,
        loss: Box<dyn Loss>,
        opt_func: OptFunc,
    ) -> Result<Self> {
        let training = Training {
            opt: opt_func(model.params())?,
            seed: dls.seed(),
            model,
            loss,
            dls,
            metrics: vec![],
            history: History::default(),
            at: Position::start(),
            precision: Precision::Full,
        };
        Ok(Self {
            training,
            recorder: Recorder::new(),
            progress: Some(Progress::new()),
            callbacks: vec![],
            opt_func,
            defaults: Defaults::default(),
            train_bn: true,
            model_dir: PathBuf::from("models"),
        })
    }

    /// Reports one more metric.
    #[must_use]
    pub fn metric(mut self, metric: impl Metric + 'static) -> Self {
        self.training.metrics.push(Box::new(metric));
        self
    }

    /// Keeps a callback for every fit from now on. For one fit only, see [`Learner::fit_with`].
    #[must_use]
    pub fn callback(mut self, callback: impl Callback + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Another optimizer than Adam; it begins without moments.
    ///
    /// # Errors
    /// As the function, which is called at once.
    pub fn opt_func(mut self, f: impl Fn(&[Param]) -> Result<Optimizer> + 'static) -> Result<Self> {
        self.training.opt = f(self.training.model.params())?;
        self.opt_func = Box::new(f);
        Ok(self)
    }

    /// The learning rate, momentum and weight decay where a fit leaves them out.
    #[must_use]
    pub fn defaults(mut self, defaults: Defaults) -> Self {
        self.defaults = defaults;
        self
    }

    /// Whether normalizations of frozen groups stay trainable. Default: true, as in fastai.
    #[must_use]
    pub fn train_bn(mut self, yes: bool) -> Self {
        self.train_bn = yes;
        self
    }

    /// Whether metrics are reported for training batches too. Default: false.
    #[must_use]
    pub fn train_metrics(mut self, yes: bool) -> Self {
        self.recorder.train_metrics = yes;
        self
    }

    /// Where [`Learner::save`] writes. Default: `models` in the current folder.
    #[must_use]
    pub fn model_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.model_dir = folder.into();
        self
    }

    /// Another way to show progress than the default, which draws bars on a terminal's standard error
    /// and prints the table of epochs to standard output.
    #[must_use]
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Neither bars nor table.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.progress = None;
        self
    }

    /// Trains in bfloat16 where libtorch finds it safe. Weights stay 32-bit. Fast on processors and
    /// GPUs with bfloat16 instructions, slow elsewhere.
    #[must_use]
    pub fn to_bf16(mut self) -> Self {
        self.training.precision = Precision::BFloat16;
        self
    }

    /// Trains in 32 bits: the default.
    #[must_use]
    pub fn to_fp32(mut self) -> Self {
        self.training.precision = Precision::Full;
        self
    }

    /// What was recorded of the last fit.
    #[must_use]
    pub fn recorder(&self) -> &History {
        &self.training.history
    }

    /// The data.
    #[must_use]
    pub fn dls(&self) -> &DataLoaders {
        &self.training.dls
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.training.model
    }

    /// Everything that a callback may read or change.
    pub fn training(&mut self) -> &mut Training {
        &mut self.training
    }

    /// Trains with the same learning rate throughout: fastai's `fit`.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn fit(&mut self, epochs: usize, lr: impl Into<Lr>) -> Result<()> {
        self.fit_with(&Flat::new(epochs).lr(lr), &mut [])
    }

    /// Trains by one cycle with the peak `lr`: fastai's `fit_one_cycle`. All its arguments are setters of
    /// [`OneCycle`], for [`Learner::fit_with`].
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn fit_one_cycle(&mut self, epochs: usize, lr: impl Into<Lr>) -> Result<()> {
        self.fit_with(&OneCycle::new(epochs).lr(lr), &mut [])
    }

    /// Trains with a flat rate that falls at the end: fastai's `fit_flat_cos`.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn fit_flat_cos(&mut self, epochs: usize, lr: impl Into<Lr>) -> Result<()> {
        self.fit_with(&FlatCos::new(epochs).lr(lr), &mut [])
    }

    /// Trains with warm restarts: fastai's `fit_sgdr`.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn fit_sgdr(&mut self, cycles: usize, cycle_len: usize, lr: impl Into<Lr>) -> Result<()> {
        self.fit_with(&Sgdr::new(cycles, cycle_len).lr(lr), &mut [])
    }

    /// Trains the new head first, then the whole network: fastai's `fine_tune`. Takes the epochs, or a
    /// [`FineTune`] with more.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn fine_tune(&mut self, how: impl Into<FineTune>) -> Result<()> {
        let (head, whole) = how.into().stages();
        self.freeze();
        self.fit_with(&head, &mut [])?;
        self.unfreeze();
        self.fit_with(&whole, &mut [])
    }

    /// Trains by `policy`, with `callbacks` for this fit only.
    ///
    /// # Errors
    /// [`Error::Config`] for an option that cannot be used, [`Error::NonFiniteLoss`] where the loss is no
    /// longer a number, and whatever the data, a metric or a callback reports.
    pub fn fit_with(
        &mut self,
        policy: &dyn Policy,
        callbacks: &mut [&mut dyn Callback],
    ) -> Result<()> {
        let course = policy.course(self.training.model.groups(), &self.defaults)?;
        let mut all: Vec<&mut dyn Callback> = vec![];
        let mut guard = NanGuard;
        all.push(&mut guard);
        all.extend(callbacks.iter_mut().map(|c| &mut **c as &mut dyn Callback));
        self.carry_out(course, all, true)
    }

    fn carry_out(
        &mut self,
        course: Course,
        lent: Vec<&mut dyn Callback>,
        progress: bool,
    ) -> Result<()> {
        if self.training.dls.train().n_batches() == 0 {
            let why = format!(
                "{} training items make no batch of {}: choose a smaller `bs`",
                self.training.dls.train().len(),
                self.training.dls.train().batch_size()
            );
            return Err(Error::config("bs", why));
        }
        if course.reset_opt {
            self.training.opt = (self.opt_func)(self.training.model.params())?;
        }
        for (hyper, values) in &course.set {
            self.training.opt.set(*hyper, values);
        }
        let epochs = course.start_epoch..course.epochs;
        let mut scheduler = ParamScheduler::new(course.schedules);
        let Self { training, recorder, progress: shown, callbacks: kept, .. } = self;
        let mut all: Vec<&mut dyn Callback> = vec![recorder, &mut scheduler];
        all.extend(kept.iter_mut().map(|c| &mut **c as &mut dyn Callback));
        all.extend(lent.into_iter().map(|c| c as &mut dyn Callback));
        if progress {
            all.extend(shown.as_mut().map(|p| p as &mut dyn Callback));
        }
        let done = run::fit(training, all, epochs);
        // Whatever a cancelled batch left behind is not carried into the next fit.
        training.opt.zero_grad();
        done
    }

    /// Lets only the groups from `first` on learn, and the normalizations of the others. The optimizer
    /// forgets its moments, as in fastai.
    pub fn freeze_to(&mut self, first: usize) {
        self.training.model.freeze_to(first, self.train_bn);
        self.training.opt.clear_state();
    }

    /// Lets only the last group learn: the head.
    pub fn freeze(&mut self) {
        self.freeze_to(self.training.model.groups().saturating_sub(1));
    }

    /// Lets every group learn.
    pub fn unfreeze(&mut self) {
        self.freeze_to(0);
    }

    /// A mock training with a rising learning rate, to find a good one. It leaves no trace: weights,
    /// optimizer, history and random streams are as before, also where it fails.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn lr_find(&mut self) -> Result<LrFind> {
        self.lr_find_with(LrSweep::new())
    }

    /// [`Learner::lr_find`] with another range or number of steps.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn lr_find_with(&mut self, sweep: LrSweep) -> Result<LrFind> {
        let t = &self.training;
        let (batches, groups) = (t.dls.train().n_batches(), t.model.groups());
        let (mut finder, course) = sweep.finder(batches, groups)?;
        let weights: Vec<_> =
            t.model.state_dict().into_iter().map(|(n, w)| (n, w.detach().copy())).collect();
        let state: Vec<_> = t.opt.state().into_iter().map(|(n, s)| (n, s.copy())).collect();
        let hypers = t.opt.hypers().to_vec();
        let (at, history) = (t.at, t.history.clone());

        let done = self.carry_out(course, vec![&mut finder], false);
        let found = finder.found(&self.training);

        let t = &mut self.training;
        t.model.load_state_dict(&weights)?;
        t.opt.load_state(&state)?;
        t.opt.set_hypers(&hypers);
        (t.at, t.history) = (at, history);
        done.map(|()| found)
    }

    /// Loss and metrics over the validation items, under the names of the table. The history is not
    /// touched.
    ///
    /// # Errors
    /// Whatever the data, a metric or a callback reports.
    pub fn validate(&mut self) -> Result<Vec<(String, Option<f64>)>> {
        let Self { training, recorder, callbacks: kept, .. } = self;
        let before = (training.at, std::mem::take(&mut training.history));
        let mut all: Vec<&mut dyn Callback> = vec![recorder];
        all.extend(kept.iter_mut().map(|c| &mut **c as &mut dyn Callback));
        let done = run::validate(training, all);
        let (at, history) = before;
        training.at = at;
        let validated = std::mem::replace(&mut training.history, history);
        done?;
        let values = validated.rows.into_iter().next().unwrap_or_default().values;
        let from = validated.names.iter().position(|n| n == "valid_loss").unwrap_or(0);
        Ok(validated.names.into_iter().zip(values).skip(from).collect())
    }

    /// Predictions for the validation items, with targets and losses.
    ///
    /// # Errors
    /// Whatever the data reports.
    pub fn get_preds(&mut self) -> Result<Predictions> {
        let valid = self.training.dls.valid().clone();
        self.get_preds_of(&valid)
    }

    /// Predictions for every item of `loader`, in its data set's order where it is not shuffled.
    ///
    /// # Errors
    /// Whatever the data reports.
    pub fn get_preds_of(&mut self, loader: &DataLoader) -> Result<Predictions> {
        predict::gather(&self.training, loader, self.training.at.pass)
    }

    /// Predictions averaged over `n` augmented passes and one plain one, in which the plain one has the
    /// weight `beta`: fastai's [`tta`](https://docs.fast.ai/learner.html#learner.tta), with defaults 4
    /// and 0.25. The augmented passes use the training transforms, the random crop included.
    ///
    /// # Errors
    /// [`Error::Config`] if `n` is 0 or `beta` is not between 0 and 1; whatever the data reports.
    pub fn tta(&mut self, n: usize, beta: f64) -> Result<Predictions> {
        if n == 0 || !(0.0..=1.0).contains(&beta) {
            return Err(Error::config("tta", "needs `n` of 1 or more and `beta` between 0 and 1"));
        }
        let valid = self.training.dls.valid().clone();
        let mut plain = predict::gather(&self.training, &valid, 0)?;
        let augmented = valid.with_split(Split::Train);
        let mut mean = plain.preds.clone() * 0.0;
        for pass in 0..n {
            let pass = self.training.at.pass + pass as u64;
            mean = mean + predict::gather(&self.training, &augmented, pass)?.preds;
        }
        let (n, beta) = (n as f32, beta as f32);
        plain.preds = mean / n * (1.0 - beta) + &plain.preds * beta;
        let shape = [plain.len() as i64, -1];
        let flat: Vec<f32> = plain.preds.iter().copied().collect();
        let preds = Tensor::from_slice(&flat).view(shape);
        plain.decoded = predict::decode(&self.training.loss.decode(&preds), &plain.task)?;
        Ok(plain)
    }

    /// What the model says of one image file, prepared as a validation item is.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Image`] if the file cannot be read or decoded.
    pub fn predict(&mut self, image: impl AsRef<Path>) -> Result<Prediction> {
        let loader = self.training.dls.test_dl(vec![image.as_ref().to_owned()])?;
        let t = &self.training;
        let _guard = tch::no_grad_guard();
        let batch = loader.one_batch()?;
        let preds = t.loss.activation(&t.forward_as(&batch.x, false)?);
        let mut all = predict::one(&preds, &*t.loss, &loader.task())?;
        all.pop().ok_or_else(|| Error::config("predict", "the image made no batch"))
    }

    /// Writes the weights, and the optimizer's state beside them, as `NAME.safetensors` and
    /// `NAME.opt.safetensors` below [`Learner::model_dir`]; returns the first path. A file is replaced
    /// only by a complete one.
    ///
    /// A name that ends in `.pth` is written as fastai's `Learner.save` would, weights and optimizer in
    /// one file: fastai's `load` goes on from it.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn save(&self, name: &str) -> Result<PathBuf> {
        checkpoint::save(&self.training, &self.model_dir, name, true)
    }

    /// Reads what [`Learner::save`] wrote; a fit then goes on as if it had never stopped. A name that
    /// ends in `.pth` is a checkpoint of fastai's, with or without its optimizer.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] listing what is missing, unexpected or of another shape. Nothing is loaded
    /// then.
    pub fn load(&mut self, name: &str) -> Result<()> {
        checkpoint::load(&mut self.training, &self.model_dir, name, true)
    }

    /// Writes one file that [`Predictor::load`] reads: weights, vocabulary and preparation of images, as
    /// data.
    ///
    /// # Errors
    /// [`Error::Config`] if the model or a transform cannot be described as data; [`Error::Io`] naming
    /// the file.
    pub fn export(&self, path: impl AsRef<Path>) -> Result<()> {
        predictor::export(&self.training, path.as_ref())
    }

    pub(crate) fn set_seed(&mut self, seed: Seed) {
        self.training.seed = seed;
    }
}
