//! Lists the files in a folder, in an order that does not depend on the file system.

use super::names::{shown, shown_all};
use crate::{
    data::notes::{note, some},
    error::{Error, Result},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};
use walkdir::{DirEntry, WalkDir};

/// The extensions that [`get_image_files`] lists, in lower case: those of the formats that
/// [`Decode`](crate::image::Decode) decodes.
///
/// fastai uses the machine's table of MIME types instead, so its list differs between machines and contains
/// formats that Pillow cannot read. A file with one of these extensions that cannot be decoded is an error
/// when it is loaded, not silently missing.
pub const IMAGE_EXTENSIONS: &[&str] = &[
    "apng", "bmp", "gif", "jfif", "jpe", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tif",
    "tiff", "webp",
];

/// Extensions of photo formats that are not decoded. Such files are not listed, but reported.
const NOT_DECODED: &[&str] = &[
    "arw", "avif", "cr2", "cr3", "dng", "heic", "heif", "hif", "ico", "j2k", "jp2", "jxl", "nef",
    "orf", "raf", "rw2",
];

/// Returns the image files in `path` and its subfolders, sorted by folder and name, so that a split with a
/// seed is the same on every machine.
///
/// Folders and files whose names begin with a dot are left out, symbolic links are followed, and the
/// extension decides (see [`IMAGE_EXTENSIONS`]). fastai's function of this name returns files in the order
/// of the file system. See [`ImageFiles`] for options.
///
/// A broken link with an image extension is listed, so that it is an error when it is loaded, or skipped
/// with a message. Subfolders that cannot be read, links that form a cycle, and files of formats that are
/// not decoded (AVIF, HEIC) do not stop the listing: [`ImageFiles::survey`] returns them, and
/// [`DataLoaders::notes`](crate::data::DataLoaders::notes), `summary` and `check` report them.
///
/// # Errors
/// [`Error::Io`] if `path` cannot be read, and [`Error::Config`] if it contains no image.
///
/// ```no_run
/// let files = finetune::data::get_image_files("oxford-iiit-pet/images")?;
/// # Ok::<(), finetune::Error>(())
/// ```
pub fn get_image_files<P: AsRef<Path> + ?Sized>(path: &P) -> Result<Vec<PathBuf>> {
    ImageFiles::new().list(path)
}

/// Lists the files of a folder, like [`get_image_files`], with options.
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
    /// Creates options that list image files in all folders.
    #[must_use]
    pub fn new() -> Self {
        let extensions = IMAGE_EXTENSIONS.iter().map(ToString::to_string).collect();
        Self { extensions, folders: BTreeSet::new(), recurse: true }
    }

    /// Sets the extensions to list, in any case, with or without the leading dot. An empty list means every
    /// file. Default: [`IMAGE_EXTENSIONS`].
    #[must_use]
    pub fn extensions<S: AsRef<str>>(mut self, extensions: impl IntoIterator<Item = S>) -> Self {
        let plain = |e: S| e.as_ref().trim_start_matches('.').to_lowercase();
        self.extensions = extensions.into_iter().map(plain).collect();
        self
    }

    /// Sets the direct subfolders to list, even if hidden; `"."` adds the files directly in the folder. No
    /// effect without `recurse`. Default: all that are not hidden.
    #[must_use]
    pub fn folders<S: Into<String>>(mut self, folders: impl IntoIterator<Item = S>) -> Self {
        self.folders = folders.into_iter().map(Into::into).collect();
        self
    }

    /// If true, subfolders are listed too. Default: true.
    #[must_use]
    pub fn recurse(mut self, recurse: bool) -> Self {
        self.recurse = recurse;
        self
    }

    /// Returns the files in `path`, sorted.
    ///
    /// # Errors
    /// As [`survey`](Self::survey).
    pub fn list<P: AsRef<Path> + ?Sized>(&self, path: &P) -> Result<Vec<PathBuf>> {
        let listing = self.survey(path)?;
        listing.notes().into_iter().for_each(note);
        Ok(listing.files)
    }

    /// Returns the files in `path`, sorted, and what was left out.
    ///
    /// # Errors
    /// [`Error::Io`] if `path` cannot be read, and [`Error::Config`] if no file matches, or if a folder set
    /// by [`folders`](Self::folders) does not exist.
    pub fn survey<P: AsRef<Path> + ?Sized>(&self, path: &P) -> Result<Listing> {
        let path = path.as_ref();
        let depth = if self.recurse { usize::MAX } else { 1 };
        if !fs::metadata(path).map_err(Error::io(path))?.is_dir() {
            let why = io::Error::new(io::ErrorKind::NotADirectory, "not a folder");
            return Err(Error::io(path)(why));
        }
        self.named_folders_exist(path)?;
        // Sorting each folder sorts the whole, and compares names instead of whole paths.
        let walk = WalkDir::new(path).follow_links(true).max_depth(depth).sort_by_file_name();
        let mut listing = Listing::default();
        for entry in walk.into_iter().filter_entry(|e| self.enters(e)) {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) => self.judge(entry, &mut listing),
                Err(e) => self.judge_failed(path, e, &mut listing)?,
            }
        }
        if listing.files.is_empty() {
            let kinds = self.extensions.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let notes: String = listing.notes().iter().map(|note| format!("; {note}")).collect();
            let why = format!("no files in {} ({kinds}){notes}", shown(path));
            return Err(Error::config("get_items", why));
        }
        Ok(listing)
    }

    fn named_folders_exist(&self, path: &Path) -> Result<()> {
        let absent = |name: &&String| self.recurse && *name != "." && !path.join(name).is_dir();
        match self.folders.iter().find(absent) {
            Some(name) => {
                let why = format!("there is no folder `{name}` in {}", shown(path));
                Err(Error::config("folders", why))
            }
            None => Ok(()),
        }
    }

    /// Adds an entry that is not a folder to the right list.
    fn judge(&self, entry: DirEntry, listing: &mut Listing) {
        let (wanted, undecoded) = (self.wants(&entry), self.is_not_decoded(&entry));
        let file = entry.file_type().is_file();
        match () {
            () if wanted && file => listing.files.push(entry.into_path()),
            () if wanted => listing.special.push(entry.into_path()),
            () if undecoded && file => listing.undecoded.push(entry.into_path()),
            () => {}
        }
    }

    /// Adds an entry that could not be examined to the right list.
    fn judge_failed(&self, root: &Path, e: walkdir::Error, listing: &mut Listing) -> Result<()> {
        let path = e.path().unwrap_or(root).to_path_buf();
        if e.depth() == 0 {
            return Err(Error::io(path)(e.into()));
        }
        if e.loop_ancestor().is_some() {
            listing.loops.push(path);
        } else if path.is_symlink() {
            // Its target is unknown, so its name decides.
            let hidden = path.file_name().is_some_and(|name| is_hidden(name.as_encoded_bytes()));
            if !hidden && self.has_extension(&path) {
                listing.files.push(path.clone());
                listing.dangling.push(path);
            }
        } else {
            listing.unread.push((path, io::Error::from(e).to_string()));
        }
        Ok(())
    }

    /// Returns true if a folder is listed: hidden ones are not, unless requested.
    fn enters(&self, entry: &DirEntry) -> bool {
        if entry.depth() == 0 || !entry.file_type().is_dir() {
            return true;
        }
        let name = entry.file_name();
        if entry.depth() == 1 && self.recurse && !self.folders.is_empty() {
            return self.folders.iter().any(|folder| name == folder.as_str());
        }
        !is_hidden(name.as_encoded_bytes())
    }

    /// Returns true if an entry has a requested extension and folder.
    fn wants(&self, entry: &DirEntry) -> bool {
        self.is_here(entry) && self.has_extension(entry.path())
    }

    fn is_here(&self, entry: &DirEntry) -> bool {
        let at_top = entry.depth() == 1 && self.recurse && !self.folders.is_empty();
        !is_hidden(entry.file_name().as_encoded_bytes()) && (!at_top || self.folders.contains("."))
    }

    fn has_extension(&self, path: &Path) -> bool {
        self.extensions.is_empty() || extension(path).is_some_and(|e| self.extensions.contains(&e))
    }

    /// Returns true if an entry is a photo whose format is not decoded.
    fn is_not_decoded(&self, entry: &DirEntry) -> bool {
        let photos = self.extensions.contains("jpg");
        let known = |e: String| NOT_DECODED.contains(&e.as_str());
        photos && self.is_here(entry) && extension(entry.path()).is_some_and(known)
    }
}

fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(b".")
}

/// Returns the extension in lower case, if it is UTF-8.
fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_lowercase())
}

/// The result of [`ImageFiles::survey`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listing {
    /// The files that are items, sorted. Includes broken links.
    pub files: Vec<PathBuf>,
    /// The files that are broken links.
    pub dangling: Vec<PathBuf>,
    /// Folders that could not be read, with the reason. Their content is not listed.
    pub unread: Vec<(PathBuf, String)>,
    /// Links to a parent folder. They are not followed.
    pub loops: Vec<PathBuf>,
    /// Entries with an image extension that are neither files nor folders, such as pipes. They are not
    /// listed.
    pub special: Vec<PathBuf>,
    /// Photos in formats that are not decoded, such as AVIF and HEIC. They are not listed.
    pub undecoded: Vec<PathBuf>,
}

impl Listing {
    /// Returns readable messages about what was left out. Empty if nothing was.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let unread = self.unread.iter().map(|(path, why)| format!("{} ({why})", shown(path)));
        let mut formats = BTreeMap::<_, usize>::new();
        for format in self.undecoded.iter().filter_map(|path| extension(path)) {
            *formats.entry(format).or_default() += 1;
        }
        let formats = formats.into_iter().map(|(format, n)| format!("{n} .{format}"));
        let notes = [
            (self.unread.len(), "folders cannot be read and are left out", some(unread)),
            (self.dangling.len(), "links are broken", some(shown_all(&self.dangling))),
            (
                self.loops.len(),
                "links point to a parent folder and are not followed",
                some(shown_all(&self.loops)),
            ),
            (
                self.special.len(),
                "entries have image extensions but are not files",
                some(shown_all(&self.special)),
            ),
            (
                self.undecoded.len(),
                "files are left out because their format is not decoded (convert them to JPEG or PNG)",
                formats.collect::<Vec<_>>().join(", "),
            ),
        ];
        let found = notes.into_iter().filter(|(n, ..)| *n > 0);
        found.map(|(n, what, which)| format!("{n} {what}: {which}")).collect()
    }
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
    fn links_are_followed_and_loops_are_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        fs::write(dir.path().join("real/a.jpg"), "").unwrap();
        std::os::unix::fs::symlink(dir.path().join("real"), dir.path().join("link")).unwrap();
        let found = get_image_files(dir.path()).unwrap();
        let below: Vec<_> = found.iter().map(|f| f.strip_prefix(dir.path()).unwrap()).collect();
        assert_eq!(below, [Path::new("link/a.jpg"), Path::new("real/a.jpg")]);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("real/up")).unwrap();
        let listing = ImageFiles::new().survey(dir.path()).unwrap();
        assert_eq!(listing.files, found);
        assert_eq!(listing.loops.len(), 2);
        assert!(listing.notes()[0].contains("point to a parent folder"), "{:?}", listing.notes());
    }
}
