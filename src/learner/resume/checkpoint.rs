//! The callback that requests checkpoints.

use super::{Difference, generations::Generations, request::Request, signals::Signals};
use crate::{
    disk::Lock,
    error::{Error, Result},
    learner::{Callback, Outcome, Step, Training, order},
    sample::Batch,
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// The handling of a checkpoint that cannot be written, for example because the disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnCheckpointError {
    /// Continues the training with a warning in [`History::messages`](crate::learner::History::messages).
    /// The last valid checkpoint is kept, and writing is tried again when the next one is due.
    #[default]
    Warn,
    /// Ends the fit with the error.
    Fail,
}

/// Writes checkpoints, from which [`Learner::fit_or_resume`](crate::learner::Learner::fit_or_resume) and
/// [`Learner::resume`](crate::learner::Learner::resume) continue exactly.
///
/// One is written after the training batches of each epoch, every 10 minutes, every [`every`](Self::every)
/// batches if that is set, and at the first SIGINT or SIGTERM, which then ends the fit with
/// [`Error::Interrupted`]. The files are `NAME.00000001.checkpoint.safetensors` and so on, in
/// [`Learner::model_dir`](crate::learner::Learner::model_dir); the newest two are kept.
///
/// `fit_or_resume` takes a `Checkpoint` or a name. For other fits, pass it as a callback:
///
/// ```no_run
/// # fn f(mut learn: finetune::learner::Learner) -> finetune::Result<()> {
/// use finetune::learner::{Checkpoint, FineTune, OnCheckpointError};
///
/// let run = Checkpoint::new("run1").minutes(30.0).on_checkpoint_error(OnCheckpointError::Fail);
/// learn.fit_or_resume(run, FineTune::new(5))?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    name: String,
    every: Option<usize>,
    interval: Option<Duration>,
    keep: usize,
    on_error: OnCheckpointError,
    allow: Vec<Difference>,
    signals: bool,
    /// The number of training batches since the last checkpoint.
    waited: usize,
    last: Instant,
    lock: Option<Lock>,
    /// If true, the lock outlives the fit, for a run with several stages.
    keep_lock: bool,
    caught: Option<Signals>,
}

impl Checkpoint {
    /// Returns the default options for the run `name`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            every: None,
            interval: Some(Duration::from_secs(600)),
            keep: 2,
            on_error: OnCheckpointError::Warn,
            allow: vec![],
            signals: true,
            waited: 0,
            last: Instant::now(),
            lock: None,
            keep_lock: false,
            caught: None,
        }
    }

    /// Also writes a checkpoint every `batches` training batches. Default: none.
    #[must_use]
    pub fn every(mut self, batches: usize) -> Self {
        self.every = Some(batches);
        self
    }

    /// Sets the maximum interval between checkpoints, in minutes. Default: 10.
    #[must_use]
    pub fn minutes(self, minutes: f64) -> Self {
        // `check` rejects a value that is not a valid duration.
        let interval = Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(Duration::ZERO);
        self.interval(interval)
    }

    /// As [`Checkpoint::minutes`], as a duration.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Sets the number of checkpoints that are kept, at least 2. Default: 2.
    #[must_use]
    pub fn keep(mut self, generations: usize) -> Self {
        self.keep = generations;
        self
    }

    /// Sets the handling of a checkpoint that cannot be written. Default: [`OnCheckpointError::Warn`].
    #[must_use]
    pub fn on_checkpoint_error(mut self, what: OnCheckpointError) -> Self {
        self.on_error = what;
        self
    }

    /// Continues a run despite this difference from the program that wrote the checkpoint. Can be called
    /// several times. Default: every [`Difference`] is an error.
    #[must_use]
    pub fn allow(mut self, difference: Difference) -> Self {
        self.allow.push(difference);
        self
    }

    /// If true, the first SIGINT or SIGTERM writes a checkpoint and ends the fit, and a second one ends the
    /// process at once. Default: true.
    #[must_use]
    pub fn signals(mut self, yes: bool) -> Self {
        self.signals = yes;
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn allows(&self, difference: Difference) -> bool {
        self.allow.contains(&difference)
    }

    pub(super) fn files(&self, folder: &Path) -> Result<Generations> {
        Generations::new(folder, &self.name)
    }

    /// Checks the options.
    pub(super) fn check(&self) -> Result<()> {
        if self.every == Some(0) {
            return Err(Error::config("every", "is 0; it must be at least 1 batch"));
        }
        if self.interval == Some(Duration::ZERO) {
            return Err(Error::config("minutes", "the time between checkpoints must be above 0"));
        }
        if self.keep < 2 {
            let why = format!("is {}; at least 2 checkpoints must be kept", self.keep);
            return Err(Error::config("keep", why));
        }
        Ok(())
    }

    /// Locks the name of the run.
    ///
    /// # Errors
    /// [`Error::Busy`] naming the process that holds the lock.
    pub(super) fn lock(&mut self, files: &Generations, keep: bool) -> Result<()> {
        if self.lock.is_none() {
            match Lock::acquire(&files.lock())? {
                Ok(lock) => self.lock = Some(lock),
                Err(holder) => {
                    return Err(Error::busy(self.name.clone(), holder.to_string()));
                }
            }
            self.keep_lock = keep;
        }
        Ok(())
    }

    /// Returns a request for a checkpoint now.
    pub(super) fn request(&self, folder: &Path, signal: Option<&'static str>) -> Result<Request> {
        Ok(Request {
            files: self.files(folder)?,
            name: self.name.clone(),
            keep: self.keep,
            fail: self.on_error == OnCheckpointError::Fail,
            signal,
        })
    }

    fn restart(&mut self) {
        (self.waited, self.last) = (0, Instant::now());
    }
}

impl<S: Into<String>> From<S> for Checkpoint {
    fn from(name: S) -> Self {
        Self::new(name)
    }
}

impl Callback for Checkpoint {
    fn exclusive(&self) -> Option<String> {
        Some("writes the checkpoints of the fit".to_owned())
    }

    fn order(&self) -> i32 {
        order::CHECKPOINT
    }

    fn skip_evaluation(&self) -> bool {
        true
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        self.check()?;
        let files = self.files(&t.model_dir)?;
        if t.is_first_rank() {
            self.lock(&files, false)?;
        }
        if self.signals && self.caught.is_none() {
            self.caught = Some(Signals::wait()?);
        }
        self.restart();
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        let mut signal = self.caught.as_ref().and_then(Signals::received);
        if !t.is_alone() && t.first_rank_where(signal.is_some())?.is_some() {
            // A launcher may send the signal to only one of the processes.
            signal = signal.or(Some("SIGTERM"));
        }
        if !t.at.is_training() {
            // The last checkpoint was written after the training batches of this epoch.
            let Some(signal) = signal else { return Ok(()) };
            let checkpoint = t.checkpoints.written.clone();
            return Err(Error::interrupted(signal, checkpoint).into());
        }
        self.waited += 1;
        let last = t.at.batch + 1 == t.at.batches;
        let mut due = self.every.is_some_and(|every| self.waited >= every)
            || self.interval.is_some_and(|interval| self.last.elapsed() >= interval)
            || t.stop_handle().is_requested();
        if !t.is_alone() {
            due = t.first_rank_where(due)?.is_some();
        }
        if due || last || signal.is_some() {
            self.restart();
            t.checkpoints.requested = Some(self.request(&t.model_dir, signal)?);
        }
        Ok(())
    }

    fn after_fit(&mut self, _: &mut Training) -> Step {
        self.caught = None;
        if !self.keep_lock {
            self.lock = None;
        }
        Ok(())
    }
}
