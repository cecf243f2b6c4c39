//! The fits of a learner. All go through one door.

use super::{epochs, finite::Finite, stage::Stage, state::Run};
use crate::{
    error::{Error, Result},
    learner::{
        Callback, Course, FineTune, Flat, FlatCos, Learner, OneCycle, ParamScheduler, Policy, Sgdr,
    },
    optim::Lr,
};

/// Callbacks for one fit only: the caller has them back afterwards.
type Lent<'a, 'b> = &'a mut [&'b mut dyn Callback];

impl Learner {
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
        self.fine_tune_with(how, &mut [])
    }

    /// [`Learner::fine_tune`] with callbacks that take part in both of its fits.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn fine_tune_with(
        &mut self,
        how: impl Into<FineTune>,
        callbacks: Lent<'_, '_>,
    ) -> Result<()> {
        let (head, whole) = how.into().stages();
        let groups = self.training.model.groups();
        let stage = |policy: &dyn Policy, freeze_to| -> Result<Stage> {
            let course = policy.course(groups, &self.defaults)?;
            Ok(Stage { freeze_to: Some(freeze_to), course })
        };
        let stages = vec![stage(&head, groups.saturating_sub(1))?, stage(&whole, 0)?];
        self.carry_out(stages, callbacks)
    }

    /// Trains by `policy`, with `callbacks` for this fit only.
    ///
    /// # Errors
    /// [`Error::Config`] for an option that cannot be used, [`Error::NonFiniteLoss`] where the loss is no
    /// longer a number, and whatever the data, a metric or a callback reports.
    pub fn fit_with(&mut self, policy: &dyn Policy, callbacks: Lent<'_, '_>) -> Result<()> {
        let course = policy.course(self.training.model.groups(), &self.defaults)?;
        self.carry_out(vec![Stage::only(course)], callbacks)
    }

    /// Goes on where the checkpoint `name` was written, in the middle of an epoch too, until the fit
    /// that it was written in ends, and the second stage of a `fine_tune` after it. The weights end bit
    /// for bit as if nothing had happened, whatever the number of workers.
    ///
    /// The learner must be built as the one that wrote it: the same data, model, optimizer and seed.
    /// Checkpoints are written by the callback `Checkpoint`; name it here again to
    /// go on writing them.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Checkpoint`] if the file cannot be read or is not of such a learner,
    /// and as [`Learner::fit_with`].
    ///
    /// ```no_run
    /// # fn f(mut learn: finetune::learner::Learner) -> finetune::Result<()> {
    /// use finetune::{callback::Checkpoint, learner::FineTune};
    ///
    /// let mut every = Checkpoint::new("last").every(100);
    /// if learn.has_checkpoint("last") {
    ///     learn.resume("last", &mut [&mut every])?;
    /// } else {
    ///     learn.fine_tune_with(FineTune::new(5), &mut [&mut every])?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn resume(&mut self, name: &str, callbacks: Lent<'_, '_>) -> Result<()> {
        let path = self.training.checkpoint_path(name)?;
        let (stages, batch) = self.training.read_checkpoint(&path)?;
        self.stages(stages, callbacks, Some(batch))
    }

    /// Whether there is a checkpoint of that name for [`Learner::resume`].
    #[must_use]
    pub fn has_checkpoint(&self, name: &str) -> bool {
        self.training.checkpoint_path(name).is_ok_and(|path| path.exists())
    }

    fn carry_out(&mut self, stages: Vec<Stage>, callbacks: Lent<'_, '_>) -> Result<()> {
        self.stages(stages, callbacks, None)
    }

    /// Does the stages one after the other, the first of them from the given batch of its first epoch
    /// on if it is resumed.
    fn stages(
        &mut self,
        stages: Vec<Stage>,
        callbacks: Lent<'_, '_>,
        mut resumed: Option<usize>,
    ) -> Result<()> {
        self.training.plan = stages.into();
        while let Some(stage) = self.training.plan.front().cloned() {
            let from = resumed.take();
            let mut finite = Finite;
            let mut lent: Vec<&mut dyn Callback> = vec![&mut finite];
            lent.extend(callbacks.iter_mut().map(|c| &mut **c as &mut dyn Callback));
            let done = self.one(stage, lent, Run::Fit, from);
            self.training.plan.pop_front();
            if done.is_err() {
                self.training.plan.clear();
                return done;
            }
        }
        Ok(())
    }

    /// One fit or sweep, in the first epoch from batch `from` on if it is resumed.
    pub(in crate::learner) fn one(
        &mut self,
        stage: Stage,
        lent: Vec<&mut dyn Callback>,
        run: Run,
        from: Option<usize>,
    ) -> Result<()> {
        let train = self.training.dls.train();
        if train.num_batches() == 0 {
            let why = format!(
                "{} training items make no batch of {}: choose a smaller `bs`",
                train.len(),
                train.bs()
            );
            return Err(Error::config("bs", why));
        }
        let Stage { freeze_to, course } = stage;
        if from.is_none() {
            if let Some(first) = freeze_to {
                self.freeze_to(first);
            }
            if course.reset_opt {
                self.training.opt = (self.opt_func)(self.training.model.params())?;
            }
            for (hyper, values) in &course.set {
                self.training.opt.set(*hyper, values);
            }
            self.training.notes.clear();
        }
        let epochs = match from {
            Some(_) => self.training.at.epoch..course.epochs,
            None => course.start_epoch..course.epochs,
        };
        let mut scheduler = ParamScheduler::new(course.schedules);
        let Self { training, recorder, progress, mixed, callbacks: kept, .. } = self;
        let mut all: Vec<&mut dyn Callback> = vec![recorder, &mut scheduler];
        all.extend(mixed.as_mut().map(|m| m as &mut dyn Callback));
        all.extend(progress.as_mut().map(|p| p as &mut dyn Callback));
        let kept = kept.iter_mut().filter(|c| run == Run::Fit || !c.skip_evaluation());
        all.extend(kept.map(|c| &mut **c as &mut dyn Callback));
        all.extend(lent.into_iter().map(|c| c as &mut dyn Callback));
        training.resumed = from.is_some();
        training.run = run;
        let done = epochs::fit(training, all, epochs, from.unwrap_or(0));
        (training.resumed, training.run) = (false, Run::Fit);
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
}

impl Stage {
    /// Only this course, with what learns left as it is.
    pub(in crate::learner) fn only(course: Course) -> Self {
        Self { freeze_to: None, course }
    }
}
