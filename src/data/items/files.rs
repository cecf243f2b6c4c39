//! Files below a folder, in an order that does not depend on the file system.

use crate::error::{Error, Result};
use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};
use walkdir::{DirEntry, WalkDir};

/// The extensions that [`get_image_files`] takes for images, in lower case.
///
/// fastai asks the machine's table of MIME types instead, so that its list differs between machines.
/// Vector graphics are left out. A file with one of these extensions that cannot be decoded is an
/// error when it is loaded, not silently missing.
pub const IMAGE_EXTENSIONS: &[&str] = &[
    "apng", "avif", "bmp", "gif", "heic", "heif", "ico", "jfif", "jpe", "jpeg", "jpg", "pbm",
    "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp",
];

/// The image files below `path`, sorted by folder and name, so that a split by seed is the same on
/// every machine.
///
/// Folders and files whose names begin with a dot are left out, links are followed, and the
/// extension decides (see [`IMAGE_EXTENSIONS`]). fastai's function of this name returns them in the
/// order of the file system. See [`ImageFiles`] for choices.
///
/// # Errors
/// [`Error::Io`] if the folder or one below it cannot be read, and [`Error::Config`] if there is no
/// image in it.
///
/// ```no_run
/// let files = finetune::data::get_image_files("oxford-iiit-pet/images")?;
/// # Ok::<(), finetune::Error>(())
/// ```
pub fn get_image_files<P: AsRef<Path> + ?Sized>(path: &P) -> Result<Vec<PathBuf>> {
    ImageFiles::new().list(path)
}

/// Which files below a folder are items: what [`get_image_files`] does, with choices.
///
/// ```no_run
/// use finetune::data::ImageFiles;
///
/// let files = ImageFiles::new().folders(["train", "valid"]).extensions(["jpg", "png"]);
/// let items = files.list("imagenette")?;
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFiles {
    extensions: BTreeSet<String>,
    folders: BTreeSet<String>,
    recurse: bool,
}

impl Default for ImageFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageFiles {
    /// Image files in all folders.
    #[must_use]
    pub fn new() -> Self {
        let extensions = IMAGE_EXTENSIONS.iter().map(ToString::to_string).collect();
        Self { extensions, folders: BTreeSet::new(), recurse: true }
    }

    /// Only files with these extensions, in either case, with or without the leading dot. None means
    /// every file. Default: [`IMAGE_EXTENSIONS`].
    #[must_use]
    pub fn extensions<S: AsRef<str>>(mut self, extensions: impl IntoIterator<Item = S>) -> Self {
        let plain = |e: S| e.as_ref().trim_start_matches('.').to_lowercase();
        self.extensions = extensions.into_iter().map(plain).collect();
        self
    }

    /// Only these folders directly below the given one, even if hidden; `"."` adds the files that
    /// are directly in it. Without `recurse` it has no meaning. Default: all that are not hidden.
    #[must_use]
    pub fn folders<S: Into<String>>(mut self, folders: impl IntoIterator<Item = S>) -> Self {
        self.folders = folders.into_iter().map(Into::into).collect();
        self
    }

    /// Whether to look into folders below the given one. Default: true.
    #[must_use]
    pub fn recurse(mut self, recurse: bool) -> Self {
        self.recurse = recurse;
        self
    }

    /// The files below `path`, sorted.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder or one below it cannot be read, and [`Error::Config`] if nothing
    /// in it is wanted.
    pub fn list<P: AsRef<Path> + ?Sized>(&self, path: &P) -> Result<Vec<PathBuf>> {
        let path = path.as_ref();
        let depth = if self.recurse { usize::MAX } else { 1 };
        // Sorting each folder sorts the whole, and compares names instead of whole paths.
        let walk = WalkDir::new(path).follow_links(true).max_depth(depth).sort_by_file_name();
        let mut files = vec![];
        for entry in walk.into_iter().filter_entry(|e| self.enters(e)) {
            let entry = entry.map_err(|e| walk_error(path, e))?;
            if entry.depth() == 0 && !entry.file_type().is_dir() {
                let why = io::Error::new(io::ErrorKind::NotADirectory, "not a folder");
                return Err(Error::io(path)(why));
            }
            if entry.file_type().is_file() && self.wants(&entry) {
                files.push(entry.into_path());
            }
        }
        if files.is_empty() {
            let kinds = self.extensions.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let why = format!("no files in {} ({kinds})", path.display());
            return Err(Error::config("get_items", why));
        }
        Ok(files)
    }

    /// Whether to go on with an entry: hidden folders are passed by, others by request.
    fn enters(&self, entry: &DirEntry) -> bool {
        if entry.depth() == 0 || !entry.file_type().is_dir() {
            return true;
        }
        let name = entry.file_name().to_string_lossy();
        if entry.depth() == 1 && self.recurse && !self.folders.is_empty() {
            return self.folders.contains(&*name);
        }
        !name.starts_with('.')
    }

    fn wants(&self, entry: &DirEntry) -> bool {
        let name = entry.file_name().to_string_lossy();
        let at_top = entry.depth() == 1 && self.recurse && !self.folders.is_empty();
        if name.starts_with('.') || (at_top && !self.folders.contains(".")) {
            return false;
        }
        let extension = name.rsplit_once('.').map(|(_, e)| e.to_lowercase());
        self.extensions.is_empty() || extension.is_some_and(|e| self.extensions.contains(&e))
    }
}

fn walk_error(root: &Path, e: walkdir::Error) -> Error {
    let path = e.path().unwrap_or(root).to_path_buf();
    let loops = e.loop_ancestor().map(|a| format!("a link that leads back to {}", a.display()));
    Error::io(path)(
        e.into_io_error().unwrap_or_else(|| io::Error::other(loops.unwrap_or_default())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn absent_empty_and_plain_files_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("nowhere");
        let e = get_image_files(&absent).unwrap_err();
        assert!(matches!(&e, Error::Io { path, .. } if *path == absent), "{e}");
        let e = get_image_files(dir.path()).unwrap_err();
        assert!(matches!(&e, Error::Config { option: "get_items", .. }), "{e}");
        let file = dir.path().join("a.jpg");
        fs::write(&file, "").unwrap();
        let e = get_image_files(&file).unwrap_err();
        assert!(matches!(&e, Error::Io { .. }), "{e}");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_loops_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        fs::write(dir.path().join("real/a.jpg"), "").unwrap();
        std::os::unix::fs::symlink(dir.path().join("real"), dir.path().join("link")).unwrap();
        let found = get_image_files(dir.path()).unwrap();
        let below: Vec<_> = found.iter().map(|f| f.strip_prefix(dir.path()).unwrap()).collect();
        assert_eq!(below, [Path::new("link/a.jpg"), Path::new("real/a.jpg")]);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("real/up")).unwrap();
        assert!(get_image_files(dir.path()).unwrap_err().to_string().contains("leads back"));
    }
}
