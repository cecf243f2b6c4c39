//! File locks that name their holder.

use super::{
    replace::folder_of,
    watch::{FileOp, ask},
};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// A lock on a file. The operating system releases it when the process ends, for any reason.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// A description of the process that holds a lock, written by itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Holder {
    pid: u32,
    program: String,
    host: String,
    /// Seconds since 1970.
    since: u64,
}

impl Holder {
    fn this() -> Self {
        let program = std::env::current_exe().unwrap_or_default();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Self {
            pid: std::process::id(),
            program: program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            host: host(),
            since,
        }
    }
}

fn host() -> String {
    let file = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let set = || ["HOSTNAME", "COMPUTERNAME"].iter().find_map(|name| std::env::var(name).ok());
    file.or_else(set).map(|name| name.trim().to_owned()).unwrap_or_default()
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("another process");
        }
        write!(f, "process {} (`{}`", self.pid, self.program)?;
        if !self.host.is_empty() {
            write!(f, " on {}", self.host)?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        write!(f, ", for {} s)", now.saturating_sub(self.since))
    }
}

impl Lock {
    /// Locks the file `path`, which is created if it is missing. Returns the holder if another process, or
    /// another part of this one, holds the lock.
    ///
    /// On file systems without locks, it always succeeds.
    pub(crate) fn acquire(path: &Path) -> Result<Result<Self, Holder>> {
        let acquire = || {
            ask(FileOp::CreateFolder, path)?;
            fs::create_dir_all(folder_of(path))?;
            ask(FileOp::Create, path)?;
            let mut options = OpenOptions::new();
            let mut file =
                options.read(true).write(true).create(true).truncate(false).open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    // The description of a new holder may not be readable yet.
                    let _ = file.read_to_string(&mut text);
                    return Ok(Err(serde_json::from_str(&text).unwrap_or_default()));
                }
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(e)) => return Err(e),
            }
            ask(FileOp::Write, path)?;
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&serde_json::to_vec(&Holder::this())?)?;
            Ok(Ok(Self { _file: file }))
        };
        acquire().map_err(Error::io(path))
    }
}
