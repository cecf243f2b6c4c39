//! The files of a run: `NAME.00000001.checkpoint.safetensors`, and so on.

use crate::error::{Error, Result};
use std::{
    fs,
    path::{Component, Path, PathBuf},
};

const ENDING: &str = ".checkpoint.safetensors";

/// The file names of the checkpoints of one run.
#[derive(Debug, Clone)]
pub(super) struct Generations {
    folder: PathBuf,
    name: String,
}

impl Generations {
    /// Creates the names for the run `name` in `folder`.
    ///
    /// # Errors
    /// [`Error::Config`] if `name` is empty or refers to a path outside `folder`.
    pub(super) fn new(folder: &Path, name: &str) -> Result<Self> {
        let path = Path::new(name);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        let (true, Some(file)) = (inside, path.file_name().and_then(|f| f.to_str())) else {
            let why = format!("`{name}` must be a file name inside {}", folder.display());
            return Err(Error::config("name", why));
        };
        let folder = folder.join(path.parent().unwrap_or(Path::new("")));
        Ok(Self { folder, name: file.to_owned() })
    }

    /// Returns the folder of the checkpoints.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the file that is locked while the run is training.
    pub(super) fn lock(&self) -> PathBuf {
        self.folder.join(format!("{}.lock", self.name))
    }

    /// Returns the file of a generation.
    pub(super) fn file(&self, generation: u64) -> PathBuf {
        self.folder.join(format!("{}.{generation:08}{ENDING}", self.name))
    }

    /// Returns the generations that have a file, newest first.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder exists but cannot be read.
    pub(super) fn list(&self) -> Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            entries => entries.map_err(Error::io(&self.folder))?,
        };
        let mut found = vec![];
        for entry in entries {
            let name = entry.map_err(Error::io(&self.folder))?.file_name();
            let inner = name.to_str().and_then(|n| n.strip_prefix(self.name.as_str()));
            let inner = inner.and_then(|n| n.strip_prefix('.')?.strip_suffix(ENDING));
            let digits = |n: &&str| n.len() >= 8 && n.bytes().all(|b| b.is_ascii_digit());
            found.extend(inner.filter(digits).and_then(|n| n.parse::<u64>().ok()));
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_run_are_its_generations() {
        let folder = tempfile::tempdir().unwrap();
        let run = Generations::new(folder.path(), "sub/run.1").unwrap();
        assert_eq!(run.list().unwrap(), [0; 0], "the folder does not exist yet");
        fs::create_dir(folder.path().join("sub")).unwrap();
        for generation in [9, 100_000_000, 10] {
            fs::write(run.file(generation), "").unwrap();
        }
        for name in ["run.1.checkpoint.safetensors", "run.00000001.checkpoint.safetensors"] {
            fs::write(folder.path().join("sub").join(name), "").unwrap();
        }
        fs::write(run.lock(), "").unwrap();
        assert_eq!(run.list().unwrap(), [100_000_000, 10, 9]);
        for wrong in ["", "..", "../run", "/run", "a/../../run", "."] {
            assert!(Generations::new(folder.path(), wrong).is_err(), "{wrong}");
        }
    }
}
