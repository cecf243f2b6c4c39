//! Writes the generations of a run.

use super::{
    generations::Generations,
    identity,
    request::{Checkpoints, Request},
    saved,
};
use crate::{disk, error::Result, learner::Training};
use std::path::PathBuf;

impl Training {
    /// Writes the next checkpoint of the run `name` at once, and returns its path. The newest two are kept.
    /// The state of callbacks is the current content of [`Training::notes`] and [`Training::tensors`]; the
    /// callback [`Checkpoint`](crate::learner::Checkpoint) requests an update first.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) naming the file; [`Error::Config`](crate::Error::Config) if `name`
    /// is not a file name inside [`Training::model_dir`].
    pub fn write_checkpoint(&mut self, name: &str) -> Result<PathBuf> {
        let files = Generations::new(&self.model_dir, name)?;
        let name = name.to_owned();
        let request = Request { files, name, keep: 2, fail: true, signal: None };
        self.write_generation(&request, false)
    }

    /// Writes the requested checkpoint and removes the oldest ones. A failure is reported as a message,
    /// unless the request makes it an error.
    ///
    /// `ready` is the result of the callbacks whose state the checkpoint contains.
    pub(in crate::learner) fn write_requested(
        &mut self,
        request: &Request,
        ready: Result<()>,
    ) -> Result<()> {
        match ready.and_then(|()| self.write_generation(request, false)) {
            Ok(path) => {
                self.checkpoints.written = Some(path);
                self.checkpoints.failed = 0;
                Ok(())
            }
            Err(e) if request.fail => Err(e),
            Err(e) => {
                self.checkpoints.failed += 1;
                if self.checkpoints.failed == 1 {
                    let kept = match &self.checkpoints.written {
                        Some(path) => format!("{} is kept", path.display()),
                        None => "there is no earlier one".to_owned(),
                    };
                    self.say(format!(
                        "a checkpoint could not be written: {e}; {kept}, and the next one is tried when it is due"
                    ));
                }
                Ok(())
            }
        }
    }

    /// Writes the next generation. If `complete` is true, the run has ended.
    pub(super) fn write_generation(
        &mut self,
        request: &Request,
        complete: bool,
    ) -> Result<PathBuf> {
        // Each rank has seen only its own shares; rank 0 writes for all.
        if let Some(p) = &self.parallel {
            p.average_buffers(&self.model)?;
        }
        let there = request.files.list()?;
        let generation = there.first().map_or(1, |newest| newest + 1);
        let path = request.files.file(generation);
        if !self.is_first_rank() {
            return Ok(path);
        }
        if self.checkpoints.fingerprint.is_none() {
            let Checkpoints { stages, callbacks, columns, .. } = &self.checkpoints;
            let made = identity::fingerprint(self, Some(stages), callbacks, columns)?;
            self.checkpoints.fingerprint = Some(made);
        }
        saved::write(self, &path, &request.name, generation, complete)?;
        let damaged = &mut self.checkpoints.damaged;
        let sound = there.iter().map(|g| request.files.file(*g)).filter(|f| !damaged.contains(f));
        let old: Vec<PathBuf> = sound.skip(request.keep.saturating_sub(1)).collect();
        // Remove damaged files once there are enough valid ones.
        let enough = there.len() - damaged.len().min(there.len()) + 1 >= request.keep;
        let gone = if enough { std::mem::take(damaged) } else { vec![] };
        for file in old.iter().chain(&gone) {
            // A file that cannot be removed now is removed after the next checkpoint.
            let _ = disk::remove(file);
        }
        Ok(path)
    }
}
