//! The learning-rate finder.

use crate::{
    error::{Error, Result},
    learner::{
        Callback, Course, Learner, LrCurve, Outcome, Scope, Step, Training, order,
        training::{stage::Stage, state::Run},
    },
    optim::{Anneal, Hyper},
    sample::Batch,
};
use std::panic::{self, AssertUnwindSafe};

/// How a learning rate is looked for: fastai's arguments of `lr_find`.
#[derive(Debug, Clone)]
pub struct LrFinder {
    start_lr: f64,
    end_lr: f64,
    steps: usize,
    stop_diverging: bool,
}

impl Default for LrFinder {
    fn default() -> Self {
        Self { start_lr: 1e-7, end_lr: 10.0, steps: 100, stop_diverging: true }
    }
}

impl LrFinder {
    /// A sweep from 1e-7 to 10 in 100 steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// The first rate. Default: 1e-7.
    #[must_use]
    pub fn start_lr(mut self, lr: f64) -> Self {
        self.start_lr = lr;
        self
    }
    /// The rate that the last step would have. Default: 10.
    #[must_use]
    pub fn end_lr(mut self, lr: f64) -> Self {
        self.end_lr = lr;
        self
    }
    /// The number of steps, at least 6. Default: 100.
    #[must_use]
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }
    /// Whether to stop where the smoothed loss is four times its best. Default: true.
    #[must_use]
    pub fn stop_diverging(mut self, yes: bool) -> Self {
        self.stop_diverging = yes;
        self
    }

    pub(in crate::learner) fn finder(
        self,
        batches: usize,
        groups: usize,
    ) -> Result<(Finder, Course)> {
        let rate = |lr: f64| lr.is_finite() && lr > 0.0;
        if !rate(self.start_lr) || !rate(self.end_lr) {
            return Err(Error::config("lr_find", "both rates must be positive numbers"));
        }
        let steps = self.steps.max(6);
        let set = vec![(Hyper::Lr, vec![self.start_lr; groups])];
        let epochs = self.steps / batches.max(1) + 1;
        let sweep = Self { steps, ..self };
        Ok((Finder { sweep, best: f64::INFINITY }, Course { epochs, set, ..Course::default() }))
    }
}

/// Raises the learning rate step by step until the loss diverges.
#[derive(Debug)]
pub(in crate::learner) struct Finder {
    sweep: LrFinder,
    best: f64,
}

impl Finder {
    /// The curve of a finished sweep, without its ends as fastai drops them.
    pub(in crate::learner) fn found(&self, t: &Training) -> LrCurve {
        LrCurve::trimmed(&t.history.lrs, &t.history.losses, self.sweep.steps)
    }
}

impl Callback for Finder {
    fn name(&self) -> &str {
        "lr_find"
    }

    fn order(&self) -> i32 {
        order::SCHEDULER
    }

    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        let done = t.at.fit_batches as f64 / self.sweep.steps as f64;
        let lr = Anneal::Exp.at(self.sweep.start_lr, self.sweep.end_lr, done);
        t.opt.set(Hyper::Lr, &vec![lr; t.opt.hypers().len()]);
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        let Some(&loss) = t.history.losses.last() else { return Ok(()) };
        self.best = self.best.min(loss);
        let diverged = self.sweep.stop_diverging && loss > 4.0 * self.best;
        // A loss that is no number compares as neither: what follows would be no number either.
        let done = t.at.fit_batches >= self.sweep.steps;
        if diverged || loss.is_nan() || done { Scope::Fit.cancel() } else { Ok(()) }
    }

    fn before_validate(&mut self, _: &mut Training) -> Step {
        Scope::Validate.cancel()
    }
}

impl Learner {
    /// A mock training with a rising learning rate, to find a good one. It leaves no trace: weights,
    /// optimizer, history and random streams are as before, also where it fails.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn lr_find(&mut self) -> Result<LrCurve> {
        self.lr_find_with(LrFinder::new())
    }

    /// [`Learner::lr_find`] with another range or number of steps.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn lr_find_with(&mut self, sweep: LrFinder) -> Result<LrCurve> {
        let t = &self.training;
        let (batches, groups) = (t.dls.train().num_batches(), t.model.groups());
        let (mut finder, course) = sweep.finder(batches, groups)?;
        let weights: Vec<_> =
            t.model.state_dict().into_iter().map(|(n, w)| (n, w.detach().copy())).collect();
        let state: Vec<_> = t.opt.state().into_iter().map(|(n, s)| (n, s.copy())).collect();
        let hypers = t.opt.hypers().to_vec();
        let (at, history, notes) = (t.at, t.history.clone(), t.notes.clone());

        // libtorch reports some failures by a panic; the weights must survive that too.
        let (stage, steps) = (Stage::only(course), finder.sweep.steps);
        let swept = panic::catch_unwind(AssertUnwindSafe(|| {
            let done = self.one(stage, vec![&mut finder], Run::Sweep(steps), None);
            done.map(|()| finder.found(&self.training))
        }));

        let t = &mut self.training;
        t.opt.zero_grad();
        t.model.load_state_dict(&weights)?;
        t.opt.load_state(&state)?;
        t.opt.set_hypers(&hypers);
        (t.at, t.history, t.notes) = (at, history, notes);
        (t.run, t.resumed) = (Run::Fit, false);
        t.unread.clear();
        swept.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }
}
