//! What a training keeps for its checkpoints.

use super::{fingerprint::Fingerprint, generations::Generations};
use crate::learner::training::stage::Stage;
use std::path::PathBuf;

/// A checkpoint that a callback asked for. The loop writes it when all callbacks have handled the batch.
#[derive(Debug, Clone)]
pub(in crate::learner) struct Request {
    pub(super) files: Generations,
    pub(super) name: String,
    pub(super) keep: usize,
    /// Whether a failure ends the fit.
    pub(in crate::learner) fail: bool,
    /// The signal after which the fit ends.
    pub(in crate::learner) signal: Option<&'static str>,
}

/// What a training keeps for its checkpoints.
#[derive(Debug, Default)]
pub(in crate::learner) struct Checkpoints {
    pub(in crate::learner) requested: Option<Request>,
    /// The name of the run, in `fit_or_resume` and `resume`.
    pub(in crate::learner) run: Option<String>,
    /// All stages, from the first.
    pub(super) stages: Vec<Stage>,
    /// The callbacks that change the training.
    pub(super) callbacks: Vec<String>,
    /// The columns of the table of epochs.
    pub(super) columns: Vec<String>,
    /// Of this program; computed for the first checkpoint.
    pub(super) fingerprint: Option<Fingerprint>,
    /// The newest checkpoint that is known to be good.
    pub(in crate::learner) written: Option<PathBuf>,
    /// Files that cannot be used. They do not count as generations.
    pub(super) damaged: Vec<PathBuf>,
    /// The checkpoints that could not be written since the last one that could.
    pub(super) failed: usize,
}

impl Checkpoints {
    /// For a training in these stages.
    pub(in crate::learner) fn of(stages: Vec<Stage>) -> Self {
        Self { stages, ..Self::default() }
    }

    /// The number of stages, those that are done included.
    pub(in crate::learner) fn number_of_stages(&self) -> usize {
        self.stages.len()
    }

    /// For a run of that name, with files that cannot be used, continued from the file `written`.
    pub(super) fn of_run(
        stages: Vec<Stage>,
        run: &str,
        damaged: Vec<PathBuf>,
        written: Option<PathBuf>,
    ) -> Self {
        Self { stages, run: Some(run.to_owned()), damaged, written, ..Self::default() }
    }

    /// Says what else identifies the training: the callbacks that change it, and the columns of its table.
    pub(in crate::learner) fn identify(&mut self, callbacks: Vec<String>, columns: Vec<String>) {
        (self.callbacks, self.columns) = (callbacks, columns);
    }
}
