//! Temporary files: their names, and the removal of those left by killed processes.

use super::watch::{FileOp, ask};
use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::{self, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

const SUFFIX: &str = ".finetune-part";
/// The maximum length of a file's name in the name of its temporary file, in bytes. File systems allow 255.
const LONGEST: usize = 200;
/// If files cannot be locked, a temporary file of this age is assumed to belong to a killed process.
const OLD: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns a new name for a temporary file of `place`: `.NAME.PID-N.finetune-part`.
pub(super) fn temporary_name(place: &Path) -> OsString {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = OsString::from(".");
    let own = place.file_name().unwrap_or_default();
    match own.len() {
        ..=LONGEST => name.push(own),
        _ => name.push(own.to_string_lossy().chars().take(LONGEST / 4).collect::<String>()),
    }
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}-{n}{SUFFIX}", std::process::id()));
    name
}

fn is_temporary(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let numbers = |text: &str| {
        let (pid, n) = text.split_once('-')?;
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        Some(digits(pid) && digits(n))
    };
    let inner = name.strip_prefix('.').and_then(|n| n.strip_suffix(SUFFIX));
    inner.and_then(|n| n.rsplit_once('.')).and_then(|(_, n)| numbers(n)).unwrap_or(false)
}

/// Removes leftovers from `folder`, the first time that this process writes there.
pub(super) fn sweep_once(folder: &Path) {
    static SWEPT: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if swept.get_or_insert_default().insert(folder.clone()) {
        drop(swept);
        remove_leftovers(&folder);
    }
}

/// Removes the temporary files in `folder` that no running process is writing.
pub(crate) fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_temporary(&entry.file_name()) {
            // Another process may have removed it, or the folder may be read-only.
            let _ = remove(&entry.path());
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let left = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => {
            let age = SystemTime::now().duration_since(file.metadata()?.modified()?);
            age.is_ok_and(|age| age > OLD)
        }
    };
    if left {
        ask(FileOp::Remove, path)?;
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_this_crate_gives_are_temporary() {
        for name in ["a.csv", "with.dots.and-1.csv", &"long".repeat(60)] {
            let place = Path::new("folder").join(name);
            assert!(is_temporary(&temporary_name(&place)), "{name}");
            assert!(!is_temporary(place.file_name().unwrap()), "{name}");
        }
        assert!(temporary_name(Path::new(&"x".repeat(255))).len() <= 255);
        for name in [".a.finetune-part", ".a.12-.finetune-part", "a.1-2.finetune-part"] {
            assert!(!is_temporary(OsStr::new(name)), "{name}");
        }
    }
}
