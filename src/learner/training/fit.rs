//! The fits of a learner.

use super::{advice::Advice, epochs, finite::Finite, stage::Stage, state::Run};
use crate::{
    error::{Error, Result},
    learner::{
        Callback, Course, FineTune, Flat, FlatCos, Learner, OneCycle, ParamScheduler, Policy, Sgdr,
        TrainingPlan, WarmupCosine, probe::standing::BelowProbe, resume::request::Checkpoints,
    },
    optim::Lr,
    sys::caught,
};

/// Callbacks that are passed to a single fit.
pub(in crate::learner) type Lent<'a, 'b> = &'a mut [&'b mut dyn Callback];

impl Learner {
    /// Trains with a constant learning rate: fastai's `fit`.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn fit(&mut self, epochs: usize, lr: impl Into<Lr>) -> Result<()> {
        self.fit_with(&Flat::new(epochs).lr(lr), &mut [])
    }

    /// Trains with the one-cycle policy and the peak rate `lr`: fastai's `fit_one_cycle`. All its
    /// arguments are setters of [`OneCycle`], for [`Learner::fit_with`].
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn fit_one_cycle(&mut self, epochs: usize, lr: impl Into<Lr>) -> Result<()> {
        self.fit_with(&OneCycle::new(epochs).lr(lr), &mut [])
    }

    /// Trains with a constant rate that falls at the end: fastai's `fit_flat_cos`.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn fit_flat_cos(&mut self, epochs: usize, lr: impl Into<Lr>) -> Result<()> {
        self.fit_with(&FlatCos::new(epochs).lr(lr), &mut [])
    }

    /// Trains with a rate that rises linearly for a tenth of the epochs and then falls by a cosine. All
    /// options are setters of [`WarmupCosine`], for [`Learner::fit_with`].
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn fit_warmup_cosine(&mut self, epochs: usize, lr: impl Into<Lr>) -> Result<()> {
        self.fit_with(&WarmupCosine::new(epochs).lr(lr), &mut [])
    }

    /// Trains with warm restarts: fastai's `fit_sgdr`.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn fit_sgdr(&mut self, cycles: usize, cycle_len: usize, lr: impl Into<Lr>) -> Result<()> {
        self.fit_with(&Sgdr::new(cycles, cycle_len).lr(lr), &mut [])
    }

    /// Trains the new head first, then the whole network: fastai's `fine_tune`. Takes the number of epochs,
    /// or a [`FineTune`] with options.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn fine_tune(&mut self, how: impl Into<FineTune>) -> Result<()> {
        self.fine_tune_with(how, &mut [])
    }

    /// As [`Learner::fine_tune`], with callbacks for both of its fits.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn fine_tune_with(
        &mut self,
        how: impl Into<FineTune>,
        callbacks: Lent<'_, '_>,
    ) -> Result<()> {
        let how = how.into();
        let stages = self.stages_of(&how)?;
        if how.starts_from_probe() {
            self.check_callbacks(callbacks)?;
            self.start_from_probe()?;
        }
        self.carry_out(stages, callbacks)
    }

    /// Trains with `policy`, with `callbacks` for this fit only.
    ///
    /// # Errors
    /// [`Error::Config`] for an invalid option, [`Error::NonFiniteLoss`] if the loss is NaN or infinite,
    /// [`Error::NonFiniteWeights`] if a weight is NaN or infinite at the end, and errors and panics of the
    /// data, the model, a metric or a callback.
    pub fn fit_with(&mut self, policy: &dyn Policy, callbacks: Lent<'_, '_>) -> Result<()> {
        let stages = caught(|| self.stages_of(&policy))?;
        self.carry_out(stages, callbacks)
    }

    /// Returns the stages of a plan.
    ///
    /// # Errors
    /// Errors of the plan; [`Error::Config`] if `start_epoch` skips all stages.
    pub(in crate::learner) fn stages_of(&self, plan: &impl TrainingPlan) -> Result<Vec<Stage>> {
        let courses = plan.courses(self.training.model.groups(), &self.defaults)?;
        let skipped = |course: &Course| course.start_epoch >= course.epochs;
        if let Some((_, course)) = courses.iter().max_by_key(|(_, course)| course.epochs)
            && course.start_epoch > 0
            && courses.iter().all(|(_, course)| skipped(course))
        {
            let (start, epochs) = (course.start_epoch, course.epochs);
            let why = format!("is {start}; it must be below the number of epochs, {epochs}");
            return Err(Error::config("start_epoch", why));
        }
        Ok(courses.into_iter().map(|(freeze_to, course)| Stage { freeze_to, course }).collect())
    }

    fn carry_out(&mut self, stages: Vec<Stage>, callbacks: Lent<'_, '_>) -> Result<()> {
        self.stages(Checkpoints::of(stages.clone()), stages, callbacks, None)
    }

    /// Returns an error if two callbacks of a fit exclude each other.
    pub(in crate::learner) fn check_callbacks(&self, lent: &[&mut dyn Callback]) -> Result<()> {
        let of = |c: &dyn Callback| Some((c.exclusive()?, c.name().to_owned()));
        let all: Vec<(String, String)> = caught(|| {
            let kept = self.callbacks.iter().filter_map(|c| of(&**c));
            Ok(kept.chain(lent.iter().filter_map(|c| of(&**c))).collect())
        })?;
        for (i, (does, second)) in all.iter().enumerate() {
            if let Some((_, first)) = all[..i].iter().find(|(other, _)| other == does) {
                let why = format!(
                    "`{first}` and `{second}` exclude each other, because each of them {does}: use only one of \
                     them in a fit"
                );
                return Err(Error::config("callbacks", why));
            }
        }
        Ok(())
    }

    /// Runs the remaining stages sequentially. If the first of them is resumed, it starts at the given
    /// batch of the current epoch. `checkpoints` contains all stages.
    pub(in crate::learner) fn stages(
        &mut self,
        mut checkpoints: Checkpoints,
        left: Vec<Stage>,
        callbacks: Lent<'_, '_>,
        mut resumed: Option<usize>,
    ) -> Result<()> {
        checkpoints.identify(self.callback_fingerprints(callbacks), self.columns());
        self.training.stage = checkpoints.number_of_stages().saturating_sub(left.len());
        self.training.checkpoints = checkpoints;
        self.training.plan = left.into();
        let mut advice = Advice::new(self.advice.take(), &self.training);
        while let Some(stage) = self.training.plan.front().cloned() {
            let from = resumed.take();
            let mut finite = Finite;
            let mut below = self.probed.clone().map(BelowProbe::new);
            let mut lent: Vec<&mut dyn Callback> = vec![&mut finite, &mut advice];
            lent.extend(below.as_mut().map(|b| b as &mut dyn Callback));
            lent.extend(callbacks.iter_mut().map(|c| &mut **c as &mut dyn Callback));
            let done = self.one(stage, lent, Run::Fit, from);
            self.training.plan.pop_front();
            self.training.stage += 1;
            if done.is_err() {
                self.training.plan.clear();
                return done;
            }
        }
        Ok(())
    }

    /// Runs one fit or sweep, from batch `from` of the first epoch if it is resumed.
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
                "{} training items are fewer than one batch of {}: choose a smaller `bs`",
                train.len(),
                train.bs()
            );
            return Err(Error::config("bs", why));
        }
        self.training.check()?;
        self.check_callbacks(&lent)?;
        let Stage { freeze_to, course } = stage;
        if from.is_none() {
            if let Some(first) = freeze_to {
                self.freeze_to(first);
            }
            if course.reset_opt {
                self.training.opt = caught(|| (self.opt_func)(self.training.model.params()))?;
            }
            for (hyper, values) in &course.set {
                self.training.opt.set(*hyper, values)?;
            }
            self.training.notes.clear();
            self.training.tensors.clear();
        }
        if !self.training.model.params().iter().any(|p| p.tensor.requires_grad()) {
            let groups = self.training.model.groups();
            let why =
                format!("no parameter is trainable: the model has {groups} groups; see `unfreeze`");
            return Err(Error::config("freeze_to", why));
        }
        let epochs = match from {
            Some(_) => self.training.at.epoch..course.epochs,
            None => course.start_epoch..course.epochs,
        };
        if let (Run::Fit, Some(probed)) = (run, &mut self.probed) {
            probed.is_installed = false;
        }
        let mut scheduler = ParamScheduler::new(course.schedules);
        let Self { training, recorder, progress, mixed, callbacks: kept, .. } = self;
        let mut all: Vec<&mut dyn Callback> = vec![recorder, &mut scheduler];
        all.extend(mixed.as_mut().map(|m| m as &mut dyn Callback));
        all.extend(progress.as_mut().map(|p| p as &mut dyn Callback));
        let skips = |c: &dyn Callback| caught(|| Ok(run != Run::Fit && c.skip_evaluation()));
        for callback in kept {
            if !skips(&**callback)? {
                all.push(&mut **callback);
            }
        }
        all.extend(lent.into_iter().map(|c| c as &mut dyn Callback));
        training.resumed = from.is_some();
        training.run = run;
        let done = epochs::fit(training, all, epochs, from.unwrap_or(0));
        (training.resumed, training.run) = (false, Run::Fit);
        // Gradients of a cancelled batch are not carried into the next fit.
        training.opt.zero_grad();
        done?;
        match run {
            Run::Fit => training.model.check_finite(),
            Run::Sweep(_) | Run::Evaluation => Ok(()),
        }
    }

    /// Freezes the parameter groups before `first`, except for their normalization layers. Resets the
    /// optimizer's state, as fastai does.
    pub fn freeze_to(&mut self, first: usize) {
        self.training.model.freeze_to(first, self.train_bn);
        self.training.opt.clear_state();
    }

    /// Freezes all groups but the last, the head.
    pub fn freeze(&mut self) {
        self.freeze_to(self.training.model.groups().saturating_sub(1));
    }

    /// Unfreezes all groups.
    pub fn unfreeze(&mut self) {
        self.freeze_to(0);
    }
}

impl Stage {
    /// Creates a stage of this course, with trainable groups unchanged.
    pub(in crate::learner) fn only(course: Course) -> Self {
        Self { freeze_to: None, course }
    }
}
