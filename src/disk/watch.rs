//! Calls a closure before each system call of the writer.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The kind of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FileOp {
    /// Creates the folder of the file.
    CreateFolder,
    /// Creates the temporary file, or opens a growing file.
    Create,
    /// Copies the permissions of the replaced file.
    SetPermissions,
    /// Writes up to 1 MiB.
    Write,
    /// Syncs the content to the disk.
    Sync,
    /// Renames the temporary file to its final name.
    Rename,
    /// Syncs the folder, and with it the name, to the disk.
    SyncFolder,
    /// Truncates a growing file after its last complete record.
    Truncate,
    /// Removes a temporary file or an old checkpoint.
    Remove,
}

impl FileOp {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::CreateFolder,
        Self::Create,
        Self::SetPermissions,
        Self::Write,
        Self::Sync,
        Self::Rename,
        Self::SyncFolder,
        Self::Truncate,
        Self::Remove,
    ];
}

/// A system call that is about to be made.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct FileCall<'a> {
    /// The kind of the call.
    pub op: FileOp,
    /// The final name of the file, absolute.
    pub path: &'a Path,
}

type Watcher = dyn Fn(&FileCall<'_>) -> io::Result<()> + Send + Sync;

struct Entry {
    id: usize,
    folder: PathBuf,
    watcher: Arc<Watcher>,
}

static WATCHES: RwLock<Vec<Entry>> = RwLock::new(vec![]);
/// The length of `WATCHES`, so that writing takes no lock if there are no watches.
static WATCHED: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Ends the watch when it is dropped.
#[derive(Debug)]
#[must_use = "the watch ends when this is dropped"]
pub struct Watch {
    id: usize,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Calls `watcher` before every system call with which this crate changes a file in `folder` or its
/// subfolders, on the thread that makes the call. If it returns an error, the call is not made, and the
/// writer handles the error as if it came from the operating system.
///
/// Use it to log or limit writes, or to test how your program behaves when the disk is full.
///
/// ```
/// use finetune::disk;
/// use std::io::{ErrorKind, Write as _};
///
/// let folder = tempfile::tempdir().unwrap();
/// let report = folder.path().join("report.txt");
/// disk::replace(&report, |out| out.write_all(b"complete"))?;
///
/// let full = disk::watch(folder.path(), |call| match call.op {
///     disk::FileOp::Write => Err(ErrorKind::StorageFull.into()),
///     _ => Ok(()),
/// });
/// assert!(disk::replace(&report, |out| out.write_all(b"new")).is_err());
/// drop(full);
/// assert_eq!(std::fs::read_to_string(&report).unwrap(), "complete");
/// # Ok::<(), finetune::Error>(())
/// ```
pub fn watch(
    folder: impl AsRef<Path>,
    watcher: impl Fn(&FileCall<'_>) -> io::Result<()> + Send + Sync + 'static,
) -> Watch {
    let folder = absolute(folder.as_ref());
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut all = WATCHES.write().unwrap_or_else(PoisonError::into_inner);
    all.push(Entry { id, folder, watcher: Arc::new(watcher) });
    WATCHED.store(all.len(), Ordering::Release);
    Watch { id }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut all = WATCHES.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|entry| entry.id != self.id);
        WATCHED.store(all.len(), Ordering::Release);
    }
}

/// Asks the watchers of `path` whether the call may be made.
pub(super) fn ask(op: FileOp, path: &Path) -> io::Result<()> {
    if WATCHED.load(Ordering::Acquire) == 0 {
        return Ok(());
    }
    let path = absolute(path);
    let watchers: Vec<Arc<Watcher>> = {
        let all = WATCHES.read().unwrap_or_else(PoisonError::into_inner);
        let these = all.iter().filter(|entry| path.starts_with(&entry.folder));
        these.map(|entry| entry.watcher.clone()).collect()
    };
    watchers.iter().try_for_each(|watcher| watcher(&FileCall { op, path: &path }))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
