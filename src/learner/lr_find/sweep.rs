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

/// The largest number of steps. [`LrCurve::valley`] compares all pairs of them.
const MAX_STEPS: usize = 1_000_000;

/// Options of the learning-rate finder: the arguments of fastai's `lr_find`.
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
    /// Returns a sweep from 1e-7 to 10 in 100 steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Sets the first rate. Default: 1e-7.
    #[must_use]
    pub fn start_lr(mut self, lr: f64) -> Self {
        self.start_lr = lr;
        self
    }
    /// Sets the rate of the last step. Default: 10.
    #[must_use]
    pub fn end_lr(mut self, lr: f64) -> Self {
        self.end_lr = lr;
        self
    }
    /// Sets the number of steps, from 6 to 1,000,000. Default: 100.
    #[must_use]
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }
    /// If true, the sweep stops when the smoothed loss is four times its best value. Default: true.
    #[must_use]
    pub fn stop_diverging(mut self, yes: bool) -> Self {
        self.stop_diverging = yes;
        self
    }

    pub(in crate::learner) fn finder(
        self,
        batches: usize,
        scales: Vec<f64>,
        wd: Option<f64>,
    ) -> Result<(Finder, Course)> {
        let rate = |lr: f64| lr.is_finite() && lr > 0.0;
        if !rate(self.start_lr) || !rate(self.end_lr) {
            let why = format!(
                "`start_lr` is {} and `end_lr` is {}; both must be positive",
                self.start_lr, self.end_lr
            );
            return Err(Error::config("lr_find", why));
        }
        if self.start_lr >= self.end_lr {
            let why = format!(
                "`start_lr` is {} and `end_lr` is {}; the end must be above the start",
                self.start_lr, self.end_lr
            );
            return Err(Error::config("lr_find", why));
        }
        if !(6..=MAX_STEPS).contains(&self.steps) {
            let why = format!("`steps` is {}; it must be from 6 to {MAX_STEPS}", self.steps);
            return Err(Error::config("lr_find", why));
        }
        let steps = self.steps;
        let mut set = vec![(Hyper::Lr, scaled(&scales, self.start_lr))];
        set.extend(wd.map(|wd| (Hyper::Wd, vec![wd; scales.len()])));
        let epochs = self.steps / batches.max(1) + 1;
        let sweep = Self { steps, ..self };
        let finder = Finder { sweep, scales, best: f64::INFINITY, ended: None };
        Ok((finder, Course { epochs, set, ..Course::default() }))
    }
}

fn scaled(scales: &[f64], lr: f64) -> Vec<f64> {
    scales.iter().map(|scale| scale * lr).collect()
}

/// Raises the learning rate step by step until the loss diverges.
#[derive(Debug)]
pub(in crate::learner) struct Finder {
    sweep: LrFinder,
    /// The factor of the learning rate of each group.
    scales: Vec<f64>,
    best: f64,
    /// The reason why the sweep ended before its last step.
    ended: Option<String>,
}

impl Finder {
    /// Returns the curve of a finished sweep, without its ends, as in fastai.
    pub(in crate::learner) fn found(&self, t: &Training) -> Result<LrCurve> {
        let mut curve = LrCurve::trimmed(&t.history.lrs, &t.history.losses, self.sweep.steps);
        curve.ended.clone_from(&self.ended);
        match &self.ended {
            Some(why) if curve.losses.is_empty() => Err(Error::config("lr_find", why.clone())),
            _ => Ok(curve),
        }
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
        t.opt.set(Hyper::Lr, &scaled(&self.scales, lr))?;
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        let Some(&loss) = t.history.losses.last() else { return Ok(()) };
        self.best = self.best.min(loss);
        let (step, steps) = (t.at.fit_batches, self.sweep.steps);
        let lr = t.opt.hypers().last().map_or(0.0, |h| h.lr);
        let at = format!("step {step} of {steps}, with a learning rate of {lr:.1e}");
        if !loss.is_finite() {
            // All later losses would be NaN too.
            let raw = t.history.raw_losses.last().copied().unwrap_or(loss);
            self.ended = Some(match step {
                ..=3 => format!(
                    "the loss is {raw} at {at}: the rate is unlikely to be the cause; check the images, the \
                     targets, the loss and the initial weights"
                ),
                _ => format!(
                    "the loss is {raw} at {at}: sweep lower rates with `start_lr` and `end_lr`"
                ),
            });
            return Scope::Fit.cancel();
        }
        if self.sweep.stop_diverging && loss > 4.0 * self.best {
            self.ended = Some(format!(
                "the loss was {loss:.3} after {at}, more than four times its best, {:.3}: sweep lower \
                 rates with `start_lr` and `end_lr`",
                self.best
            ));
            return Scope::Fit.cancel();
        }
        if step >= steps { Scope::Fit.cancel() } else { Ok(()) }
    }

    fn before_validate(&mut self, _: &mut Training) -> Step {
        Scope::Validate.cancel()
    }
}

impl Learner {
    /// Trains with a rising learning rate to find a good one, with the weight decay and the layer decay of the
    /// learner. Weights, optimizer, history and random streams are restored afterwards, even on failure.
    ///
    /// # Errors
    /// As [`Learner::fit_with`]; [`Error::Config`] with the reason if the loss becomes NaN, infinite or too
    /// high so early that no curve is left.
    pub fn lr_find(&mut self) -> Result<LrCurve> {
        self.lr_find_with(LrFinder::new())
    }

    /// As [`Learner::lr_find`], with another range or number of steps.
    ///
    /// # Errors
    /// As [`Learner::fit_with`].
    pub fn lr_find_with(&mut self, sweep: LrFinder) -> Result<LrCurve> {
        let t = &self.training;
        let scales = self.defaults.layer_scales(None, t.model.groups())?;
        let batches = t.dls.train().num_batches();
        let (mut finder, course) = sweep.finder(batches, scales, self.defaults.wd)?;
        let weights: Vec<_> =
            t.model.state_dict().into_iter().map(|(n, w)| (n, w.detach().copy())).collect();
        let state: Vec<_> = t.opt.state().into_iter().map(|(n, s)| (n, s.copy())).collect();
        let hypers = t.opt.hypers().to_vec();
        let (at, history, notes) = (t.at, t.history.clone(), t.notes.clone());

        let (stage, steps) = (Stage::only(course), finder.sweep.steps);
        let swept = self.one(stage, vec![&mut finder], Run::Sweep(steps), None);
        let found = swept.and_then(|()| finder.found(&self.training));

        let t = &mut self.training;
        t.opt.zero_grad();
        t.model.load_state_dict(&weights)?;
        t.opt.load_state(&state)?;
        t.opt.set_hypers(&hypers)?;
        (t.at, t.history, t.notes) = (at, history, notes);
        (t.run, t.resumed) = (Run::Fit, false);
        t.unread.clear();
        found
    }
}
