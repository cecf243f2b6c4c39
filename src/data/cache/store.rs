//! Where cached images are kept: the interface of the stores in memory and in a file.

use crate::image::Image;
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// What a [`Cache`](crate::data::Cache) holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStatus {
    /// The number of images.
    pub images: usize,
    /// The bytes that they take, of the limit.
    pub bytes: u64,
    /// Whether there were images for which there was no room.
    pub full: bool,
    /// Why the file could not be written. Loading goes on without it.
    pub error: Option<String>,
}

/// What an image is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::data) struct Key {
    pub(in crate::data) path: PathBuf,
    /// Of the path, the decoding and the transform.
    pub(in crate::data) id: u128,
    pub(in crate::data) version: Version,
}

/// What changes when a file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::data) struct Version {
    size: u64,
    /// Nanoseconds after 1970.
    modified: u64,
}

impl Version {
    /// Of the file that is there now; none if there is none.
    pub(in crate::data) fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        let modified = about.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Self { size: about.len(), modified: modified.as_nanos() as u64 })
    }
}

/// Images by key, shared by workers.
pub(in crate::data) trait Store: Send + Sync + fmt::Debug {
    /// The image, if it is there and of this version.
    fn get(&self, key: &Key) -> Option<Image>;

    /// Keeps the image if there is room.
    fn put(&self, key: &Key, image: &Image);

    /// Makes what was kept last beyond the program, at the end of a pass.
    fn settle(&self) {}

    /// What it holds.
    fn status(&self) -> CacheStatus;
}
