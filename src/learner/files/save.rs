//! Saving and loading by name, in this crate's format or fastai's.

use super::{fastai, weights};
use crate::{error::Result, learner::Training};
use std::path::PathBuf;

impl Training {
    /// Writes the weights, and the optimizer's state if `with_opt` is true, under a name for
    /// [`Learner::load`](crate::learner::Learner::load). Returns the path of the weights.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) naming the file.
    pub fn save(&self, name: &str, with_opt: bool) -> Result<PathBuf> {
        if name.ends_with(".pth") {
            let path = weights::below(&self.model_dir, name)?;
            if self.is_first_rank() {
                fastai::save(self, &path, with_opt)?;
            }
            return Ok(path);
        }
        weights::save(self, &self.model_dir, name, with_opt)
    }

    /// Reads the files of [`Training::save`] or [`Learner::save`](crate::learner::Learner::save).
    ///
    /// # Errors
    /// As [`Learner::load`](crate::learner::Learner::load).
    pub fn load(&mut self, name: &str, with_opt: bool) -> Result<()> {
        self.wait_for_files()?;
        let folder = self.model_dir.clone();
        if name.ends_with(".pth") {
            return fastai::load(self, &weights::below(&folder, name)?, with_opt);
        }
        weights::load(self, &folder, name, with_opt)
    }
}
