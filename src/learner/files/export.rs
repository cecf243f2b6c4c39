//! The options of an export.

use crate::{error::Result, model::Model};
use std::path::{Path, PathBuf};

/// The options of [`Learner::export`](crate::learner::Learner::export) and
/// [`Learner::export_torchscript`](crate::learner::Learner::export_torchscript). A path converts to the
/// default options.
///
/// ```no_run
/// # fn f(learn: finetune::learner::Learner) -> finetune::Result<()> {
/// use finetune::learner::ExportOptions;
///
/// learn.export("pets.safetensors")?;
/// learn.export(ExportOptions::new("diverged.safetensors").allow_non_finite(true))?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportOptions {
    path: PathBuf,
    allow_non_finite: bool,
}

impl ExportOptions {
    /// Creates the options for an export to `path`.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), allow_non_finite: false }
    }

    /// If true, also exports weights that are NaN or infinite, for example to examine a training that
    /// diverged. Default: false; such weights are [`Error::NonFiniteWeights`](crate::Error::NonFiniteWeights).
    #[must_use]
    pub fn allow_non_finite(mut self, allow: bool) -> Self {
        self.allow_non_finite = allow;
        self
    }

    pub(in crate::learner) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the weights are finite, unless others are allowed.
    pub(in crate::learner) fn check(&self, model: &Model) -> Result<()> {
        if self.allow_non_finite { Ok(()) } else { model.check_finite() }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for ExportOptions {
    fn from(path: &P) -> Self {
        Self::new(path)
    }
}

impl From<PathBuf> for ExportOptions {
    fn from(path: PathBuf) -> Self {
        Self::new(path)
    }
}

impl From<String> for ExportOptions {
    fn from(path: String) -> Self {
        Self::new(path)
    }
}
