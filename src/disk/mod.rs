//! The one way in which this crate writes files.
//!
//! Checkpoints, exports, logs, caches, pictures, reports and downloads are all written here, with the
//! same guarantees:
//!
//! - A file is written to a temporary file beside its place, synced to the disk, and renamed. Under the
//!   final name there is either the previous file or the complete new one. See [`replace`].
//! - A file that grows, such as a CSV log, grows by whole records.
//! - A new file has the permissions of any new file of the process, which respect the umask. A file that
//!   is replaced keeps its permissions.
//! - Temporary files of processes that were killed are removed by the next process that writes to the
//!   folder. Those of running processes are locked, and stay.
//!
//! [`watch`] is called before each of the system calls that this takes, and can refuse it.

mod append;
mod leftover;
mod lock;
mod replace;
mod watch;

#[cfg(feature = "download")]
pub(crate) use replace::{rename, sync};
pub(crate) use {
    append::Appender,
    leftover::remove_leftovers,
    lock::Lock,
    replace::{Temporary, remove},
};
pub use {
    replace::{Output, replace},
    watch::{FileCall, FileOp, Watch, watch},
};
