//! The interface of the caches in memory and in a file.

use crate::image::Image;
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// The state of a [`Cache`](crate::data::Cache).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStatus {
    /// The number of images.
    pub images: usize,
    /// The number of bytes used, out of the limit.
    pub bytes: u64,
    /// True if images were left out because the limit was reached.
    pub full: bool,
    /// The reason why the file could not be written. Loading continues without it.
    pub error: Option<String>,
}

/// The cache key of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::data) struct Key {
    pub(in crate::data) path: PathBuf,
    /// A hash of the path, the decoding options and the transform.
    pub(in crate::data) id: u128,
    pub(in crate::data) version: Version,
}

/// Size and modification time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::data) struct Version {
    size: u64,
    /// Nanoseconds after 1970.
    modified: u64,
}

impl Version {
    /// Returns the version of the current file; `None` if there is none.
    pub(in crate::data) fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        let modified = about.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Self { size: about.len(), modified: modified.as_nanos() as u64 })
    }
}

/// Images by key, shared by workers.
pub(in crate::data) trait Store: Send + Sync + fmt::Debug {
    /// Returns the image if it is cached in this version.
    fn get(&self, key: &Key) -> Option<Image>;

    /// Adds the image if there is room.
    fn put(&self, key: &Key, image: &Image);

    /// Makes additions persistent, at the end of a pass.
    fn settle(&self) {}

    /// Returns the state of the cache.
    fn status(&self) -> CacheStatus;
}
