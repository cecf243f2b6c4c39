//! Writes all files of this crate.
//!
//! Checkpoints, exports, logs, caches, figures, reports and downloads are all written here, with the same
//! guarantees:
//!
//! - A file is written to a temporary file in the same folder, synced to the disk, and renamed. The final
//!   name always refers to either the previous file or the complete new one. See [`replace`].
//! - Files that grow, such as a CSV log, always consist of complete records.
//! - A new file has the default permissions of the process, which respect the umask. A replaced file keeps
//!   its permissions.
//! - Temporary files of killed processes are removed by the next process that writes to the folder. Those
//!   of running processes are locked and kept.
//!
//! [`watch`] is called before each of these system calls, and can make it fail.

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
