//! `fit_or_resume` and `resume`.

use super::{
    Checkpoint, Difference,
    generations::Generations,
    identity,
    request::Checkpoints,
    saved::{self, File},
};
use crate::{
    disk,
    error::{Error, Result},
    learner::{
        Callback, Learner, TrainingPlan,
        record::metrics,
        training::{fit::Lent, stage::Stage},
    },
};
use std::path::{Path, PathBuf};

impl Learner {
    /// Trains the run `run`: starts it, resumes it where it was interrupted, or returns immediately if it is
    /// complete. Start the same program again until the call returns `Ok`; the result is bitwise identical
    /// to that of an uninterrupted run.
    ///
    /// `plan` is a [`Policy`](crate::learner::Policy) such as [`OneCycle`](crate::learner::OneCycle), or a
    /// [`FineTune`](crate::learner::FineTune). `run` is a name, or a [`Checkpoint`] with more options. When
    /// the run is complete, the learner has its final weights, optimizer state and history, regardless of
    /// the number of restarts.
    ///
    /// The program must be the same as the one that wrote the checkpoint: data, model, optimizer, policy and
    /// callbacks are compared. The number of workers may differ.
    ///
    /// # Errors
    /// - [`Error::Interrupted`] after SIGINT or SIGTERM. A checkpoint has been written; start the program
    ///   again.
    /// - [`Error::Busy`] if another process trains this run.
    /// - [`Error::Checkpoint`] if the checkpoint belongs to a different program, with a list of
    ///   differences, or if all checkpoints are damaged.
    /// - As [`Learner::fit_with`].
    ///
    /// ```no_run
    /// # fn f(mut learn: finetune::learner::Learner) -> finetune::Result<()> {
    /// use finetune::learner::{FineTune, OneCycle};
    ///
    /// learn.fit_or_resume("run1", OneCycle::new(5).lr(3e-3))?;
    /// learn.fit_or_resume("run2", FineTune::new(5))?;
    /// # Ok(()) }
    /// ```
    pub fn fit_or_resume(
        &mut self,
        run: impl Into<Checkpoint>,
        plan: impl TrainingPlan,
    ) -> Result<()> {
        self.fit_or_resume_with(run, plan, &mut [])
    }

    /// As [`Learner::fit_or_resume`], with callbacks for this run only.
    ///
    /// # Errors
    /// As [`Learner::fit_or_resume`].
    #[expect(clippy::needless_pass_by_value, reason = "policies are written in the call")]
    pub fn fit_or_resume_with(
        &mut self,
        run: impl Into<Checkpoint>,
        plan: impl TrainingPlan,
        callbacks: Lent<'_, '_>,
    ) -> Result<()> {
        let mut run = run.into();
        run.check()?;
        let folder = self.training.model_dir.clone();
        let files = run.files(&folder)?;
        let stages = self.stages_of(&plan)?;
        if plan.starts_from_probe() {
            self.check_callbacks(callbacks)?;
            self.start_from_probe()?;
        }
        if self.training.is_first_rank() {
            run.lock(&files, true)?;
            disk::remove_leftovers(files.folder());
        }
        self.training.wait_for_files()?;

        let (mut from, mut written) = (None, None);
        let mut remaining = stages.clone();
        let Found { file, damaged } = find(&files, run.name())?;
        if let Some(file) = file {
            self.compare(&file, Some(&stages), callbacks, &|what| run.allows(what))?;
            let (left, epoch, batch) = file.remaining(&stages)?;
            saved::install(&mut self.training, &file)?;
            self.say_damaged(&damaged);
            if left.is_empty() {
                return Ok(());
            }
            self.training.at.epoch = epoch;
            (remaining, from, written) = (left, Some(batch), Some(file.path().to_owned()));
        }
        let damaged = damaged.into_iter().map(|(path, _)| path).collect();
        let name = run.name().to_owned();
        let mut lent: Vec<&mut dyn Callback> = vec![&mut run];
        lent.extend(callbacks.iter_mut().map(|c| &mut **c as &mut dyn Callback));
        let checkpoints = Checkpoints::of_run(stages, &name, damaged, written);
        self.stages(checkpoints, remaining, &mut lent, from)?;
        if self.training.stop_handle().is_requested() {
            return Ok(());
        }
        // The callbacks have read their tensors.
        self.training.tensors.clear();
        let request = run.request(&folder, None)?;
        if let Err(e) = self.training.write_generation(&request, true) {
            if request.fail {
                return Err(e);
            }
            self.training.say(format!(
                "the checkpoint of the complete run could not be written: {e}; the run would resume from the \
                 previous one"
            ));
        }
        Ok(())
    }

    /// Continues the run `name` from its newest checkpoint, also in the middle of an epoch, until the fit
    /// in which it was written ends; for a `fine_tune`, also the second stage. The final weights are
    /// bitwise identical to those of an uninterrupted run, for any number of workers.
    ///
    /// The checkpoints are those of a [`Checkpoint`] that was passed to a fit; pass it here again so that
    /// it continues to write them. [`Learner::fit_or_resume`] does all of this in one call.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Checkpoint`] if no checkpoint can be read, or if it belongs to a different
    /// program, and as [`Learner::fit_with`].
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
        let files = Generations::new(&self.training.model_dir, name)?;
        self.training.wait_for_files()?;
        let Found { file, damaged } = find(&files, name)?;
        let Some(file) = file else {
            let why =
                std::io::Error::new(std::io::ErrorKind::NotFound, "no checkpoint of this run");
            return Err(Error::io(files.file(1))(why));
        };
        self.compare(&file, None, callbacks, &|_| false)?;
        let (all, left, batch) = file.stages();
        saved::install(&mut self.training, &file)?;
        self.say_damaged(&damaged);
        let damaged = damaged.into_iter().map(|(path, _)| path).collect();
        let checkpoints = Checkpoints::of_run(all, name, damaged, Some(file.path().to_owned()));
        self.stages(checkpoints, left, callbacks, Some(batch))
    }

    /// Returns true if there is a checkpoint with this name for [`Learner::resume`].
    #[must_use]
    pub fn has_checkpoint(&self, name: &str) -> bool {
        let files = Generations::new(&self.training.model_dir, name);
        files.and_then(|files| files.list()).is_ok_and(|all| !all.is_empty())
    }

    /// Returns the fingerprints of the callbacks of a fit.
    pub(in crate::learner) fn callback_fingerprints(
        &self,
        lent: &[&mut dyn Callback],
    ) -> Vec<String> {
        let kept = self.callbacks.iter().map(|c| c.fingerprint());
        let lent = lent.iter().map(|c| c.fingerprint());
        let mixed = self.mixed.iter().map(|m| m.fingerprint());
        kept.chain(lent).chain(mixed).flatten().collect()
    }

    /// Returns the columns of the table of epochs.
    pub(in crate::learner) fn columns(&self) -> Vec<String> {
        let columns = metrics::columns(self.recorder.train_metrics, &self.training.metrics);
        columns.map(|(names, _)| names).unwrap_or_default()
    }

    /// Returns an error if a checkpoint does not match this program.
    fn compare(
        &self,
        file: &File,
        stages: Option<&[Stage]>,
        callbacks: &[&mut dyn Callback],
        allowed: &dyn Fn(Difference) -> bool,
    ) -> Result<()> {
        let callbacks = self.callback_fingerprints(callbacks);
        let now = identity::fingerprint(&self.training, stages, &callbacks, &self.columns())?;
        let found = file.fingerprint().differences(&now);
        let refused: Vec<String> =
            found.iter().filter(|d| !allowed(d.what)).map(|d| format!("\n  {d}")).collect();
        if refused.is_empty() {
            return Ok(());
        }
        let why = format!(
            "does not match this program:{}\nUse the program that wrote it, start a run under another name, or allow \
             the differences with `Checkpoint::allow`",
            refused.concat()
        );
        Err(Error::checkpoint(file.path().to_owned(), why))
    }

    fn say_damaged(&mut self, damaged: &[(PathBuf, String)]) {
        for (_, why) in damaged {
            self.training.say(format!("a checkpoint was not used: {why}"));
        }
    }
}

/// The result of [`find`].
struct Found {
    file: Option<File>,
    /// The unusable files, with the reason.
    damaged: Vec<(PathBuf, String)>,
}

/// Returns the newest valid checkpoint of a run; `None` if there are no files.
fn find(files: &Generations, name: &str) -> Result<Found> {
    let there = files.list()?;
    let mut damaged = vec![];
    let mut newest: Option<File> = None;
    for &generation in &there {
        let path = files.file(generation);
        match read(&path, name) {
            Ok(file) => {
                let as_named = file.generation() == generation;
                if newest.as_ref().is_none_or(|n| n.generation() < file.generation()) {
                    newest = Some(file);
                }
                // Files whose names were swapped are ordered by the generation stored inside.
                if as_named && damaged.is_empty() {
                    break;
                }
            }
            Err(e) => damaged.push((path, e.to_string())),
        }
    }
    if newest.is_none() && !there.is_empty() {
        let all: Vec<&str> = damaged.iter().map(|(_, why)| why.as_str()).collect();
        let why = format!(
            "no checkpoint of the run `{name}` can be used:\n  {}\nRestore one from a backup, or delete them to \
             start from scratch",
            all.join("\n  ")
        );
        return Err(Error::checkpoint(files.folder().to_owned(), why));
    }
    Ok(Found { file: newest, damaged })
}

fn read(path: &Path, name: &str) -> Result<File> {
    let file = saved::read(path)?;
    if file.run() == name {
        return Ok(file);
    }
    let why = format!("contains the run `{}`: restore the original name of the file", file.run());
    Err(Error::checkpoint(path, why))
}
