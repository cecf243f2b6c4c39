//! One process of a job.

use crate::sys;
use serde::{Deserialize, Serialize};

/// The description that a process gives of itself when it joins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) process: u32,
    pub(super) host: String,
    pub(super) world_size: usize,
    pub(super) crate_version: String,
    pub(super) libtorch: String,
}

impl Member {
    /// Returns the description of this process, in a job of `world_size` processes.
    pub(super) fn this_process(world_size: usize) -> Self {
        Self {
            process: std::process::id(),
            host: host(),
            world_size,
            crate_version: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: sys::version(),
        }
    }
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}
