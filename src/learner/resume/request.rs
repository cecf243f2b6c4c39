//! The state of a training that concerns its checkpoints.

use super::{fingerprint::Fingerprint, generations::Generations};
use crate::learner::training::stage::Stage;
use std::path::PathBuf;

/// A checkpoint requested by a callback. The loop writes it after all callbacks have handled the batch.
#[derive(Debug, Clone)]
pub(in crate::learner) struct Request {
    pub(super) files: Generations,
    pub(super) name: String,
    pub(super) keep: usize,
    /// If true, a failure ends the fit.
    pub(in crate::learner) fail: bool,
    /// The signal after which the fit ends.
    pub(in crate::learner) signal: Option<&'static str>,
}

/// The state of a training that concerns its checkpoints.
#[derive(Debug, Default)]
pub(in crate::learner) struct Checkpoints {
    pub(in crate::learner) requested: Option<Request>,
    /// The name of the run, in `fit_or_resume` and `resume`.
    pub(in crate::learner) run: Option<String>,
    /// All stages, starting with the first.
    pub(super) stages: Vec<Stage>,
    /// The callbacks that affect the training.
    pub(super) callbacks: Vec<String>,
    /// The columns of the table of epochs.
    pub(super) columns: Vec<String>,
    /// The fingerprint of this program; computed for the first checkpoint.
    pub(super) fingerprint: Option<Fingerprint>,
    /// The newest checkpoint that is known to be valid.
    pub(in crate::learner) written: Option<PathBuf>,
    /// Unusable files. They do not count as generations.
    pub(super) damaged: Vec<PathBuf>,
    /// The number of consecutive failures to write a checkpoint.
    pub(super) failed: usize,
}

impl Checkpoints {
    /// Creates the state for a training with these stages.
    pub(in crate::learner) fn of(stages: Vec<Stage>) -> Self {
        Self { stages, ..Self::default() }
    }

    /// Returns the number of stages, including completed ones.
    pub(in crate::learner) fn number_of_stages(&self) -> usize {
        self.stages.len()
    }

    /// Creates the state for a run with this name and these unusable files, resumed from the file
    /// `written`.
    pub(super) fn of_run(
        stages: Vec<Stage>,
        run: &str,
        damaged: Vec<PathBuf>,
        written: Option<PathBuf>,
    ) -> Self {
        Self { stages, run: Some(run.to_owned()), damaged, written, ..Self::default() }
    }

    /// Sets what else identifies the training: the callbacks that affect it, and the columns of its table.
    pub(in crate::learner) fn identify(&mut self, callbacks: Vec<String>, columns: Vec<String>) {
        (self.callbacks, self.columns) = (callbacks, columns);
    }
}
