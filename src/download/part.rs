//! The partial file of a download.

use crate::{
    disk,
    error::{Error, Result},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

/// The origin of a partial file, stored next to it so that a later process resumes the same version of the
/// same file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) url: String,
    /// The server's identifier of the version: `ETag` or `Last-Modified`.
    pub(super) version: Option<String>,
}

/// The partial file, locked against other processes for the lifetime of this value.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    path: PathBuf,
    /// The path of the stored origin.
    note: PathBuf,
    len: u64,
}

impl Part {
    /// Opens or creates the partial file of `place`. If another process holds it, calls `waiting` and
    /// waits.
    pub(super) fn open(place: &Path, waiting: impl Fn()) -> Result<Self> {
        let beside = |ending: &str| {
            let mut name = place.file_name().unwrap_or_default().to_owned();
            name.push(ending);
            place.with_file_name(name)
        };
        let (path, note) = (beside(".part"), beside(".part.json"));
        let open = || -> io::Result<File> {
            loop {
                let mut options = OpenOptions::new();
                let file =
                    options.read(true).write(true).create(true).truncate(false).open(&path)?;
                lock(&file, &waiting)?;
                // The previous holder of the lock may have renamed or removed the file.
                let same = same_file::Handle::from_path(&path).ok();
                if same == Some(same_file::Handle::from_file(file.try_clone()?)?) {
                    return Ok(file);
                }
            }
        };
        let file = open().map_err(Error::io(&path))?;
        let len = file.metadata().map_err(Error::io(&path))?.len();
        Ok(Self { file, path, note, len })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the origin of its bytes, if known.
    pub(super) fn origin(&self) -> Option<Origin> {
        serde_json::from_slice(&fs::read(&self.note).ok()?).ok()
    }

    /// Truncates the partial file.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.len = 0;
        self.file.set_len(0).map_err(Error::io(&self.path))
    }

    /// Truncates the partial file and stores the origin of the new bytes.
    pub(super) fn begin(&mut self, origin: &Origin) -> Result<()> {
        self.clear()?;
        let text = serde_json::to_vec(origin).map_err(Error::other)?;
        disk::replace(&self.note, |out| out.write_all(&text))
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let write = |file: &mut File| {
            file.seek(SeekFrom::Start(self.len))?;
            file.write_all(bytes)
        };
        write(&mut self.file).map_err(Error::io(&self.path))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Renames the complete file to its final name.
    pub(super) fn place(&mut self, place: &Path) -> Result<()> {
        disk::sync(&self.file, place).map_err(Error::io(&self.path))?;
        disk::rename(&self.path, place).map_err(Error::io(place))?;
        self.forget()
    }

    /// Removes the partial file.
    pub(super) fn remove(&mut self) -> Result<()> {
        self.clear()?;
        absent(&self.path, fs::remove_file(&self.path))?;
        self.forget()
    }

    fn forget(&self) -> Result<()> {
        absent(&self.note, fs::remove_file(&self.note))
    }
}

/// Treats a missing file as removed.
fn absent(path: &Path, removed: io::Result<()>) -> Result<()> {
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}

fn lock(file: &File, waiting: impl Fn()) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            waiting();
            file.lock()
        }
        // Some network file systems have no locks. A checksum still detects two writers.
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(e)) => Err(e),
    }
}
