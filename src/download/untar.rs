//! `untar_data`: downloads and unpacks a data set once.

use super::{
    Download,
    datasets::{Record, record},
    fastai_home::{fastai_home, fastai_path},
    unpack::{Limits, unpack},
};
use crate::error::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use md5::{Digest as _, Md5};
use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Downloads and unpacks a data set if needed, and returns its path: fastai's
/// [`untar_data`](https://docs.fast.ai/data.external.html#untar_data).
///
/// fastai's folders and settings are used (see [`fastai_path`]), so that Python and this crate share
/// downloads. See [`UntarData`] for options.
///
/// # Errors
/// As [`UntarData::fetch`].
///
/// ```no_run
/// use finetune::{data::get_image_files, download::{URLs, untar_data}};
///
/// let path = untar_data(URLs::PETS)?;
/// let files = get_image_files(&path.join("images"))?;
/// # Ok::<(), finetune::Error>(())
/// ```
pub fn untar_data(what: impl Into<UntarData>) -> Result<PathBuf> {
    what.into().fetch()
}

/// Options of [`untar_data`].
///
/// The archive may be a tar file, plain or gzipped, or a zip file. It is unpacked to a temporary folder and
/// renamed, so a folder with the final name is complete. Archives are not trusted: devices, and paths and
/// links that lead outside of the folder, are rejected, and the unpacked size is limited.
///
/// ```no_run
/// use finetune::download::{URLs, UntarData, untar_data};
///
/// let path = untar_data(UntarData::new(URLs::CIFAR).data("/big/disk").force(true))?;
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct UntarData {
    url: String,
    archive: Option<PathBuf>,
    data: Option<PathBuf>,
    sha256: Option<String>,
    force: bool,
    limits: Limits,
    quiet: bool,
    download: Option<Download>,
}

impl From<&str> for UntarData {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl UntarData {
    /// Creates options for the data set at `url`, for example one of [`URLs`](crate::download::URLs).
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            archive: None,
            data: None,
            sha256: None,
            force: false,
            limits: Limits { bytes: 1 << 38, files: 10_000_000 },
            quiet: false,
            download: None,
        }
    }

    /// Sets the folder for the archive. A relative path is relative to fastai's folder, as in fastai.
    /// Default: `archive` in fastai's settings.
    #[must_use]
    pub fn archive(mut self, folder: impl Into<PathBuf>) -> Self {
        self.archive = Some(folder.into());
        self
    }

    /// Sets the parent folder of the data set's folder. A relative path is relative to fastai's folder, as
    /// in fastai. Default: `data` in fastai's settings.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// Sets the SHA-256 of the archive in hexadecimal, or at least its first 8 digits. Default: none; for
    /// [`URLs`](crate::download::URLs), the length and the MD5 of the first mebibyte are compared with
    /// fastai's records.
    #[must_use]
    pub fn sha256(mut self, digits: impl Into<String>) -> Self {
        self.sha256 = Some(digits.into());
        self
    }

    /// If true, existing data are downloaded and unpacked again. The old data are kept until the new data
    /// are complete. Default: false.
    #[must_use]
    pub fn force(mut self, yes: bool) -> Self {
        self.force = yes;
        self
    }

    /// Sets the maximum unpacked size in bytes. Default: 2³⁸ (256 GiB).
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Sets the maximum number of entries. Default: 10 million.
    #[must_use]
    pub fn max_files(mut self, files: u64) -> Self {
        self.limits.files = files;
        self
    }

    /// If true, no progress bars are shown. Without a terminal, there are none either. Default: false.
    #[must_use]
    pub fn quiet(mut self, yes: bool) -> Self {
        self.quiet = yes;
        self
    }

    /// Sets the download options, such as retries and limits. Its URL and checksum are replaced. Default:
    /// [`Download::new`].
    #[must_use]
    pub fn download(mut self, how: Download) -> Self {
        self.download = Some(how);
        self
    }

    /// Downloads and unpacks the data set if needed and returns its path.
    ///
    /// # Errors
    /// [`Error::Download`] if the download fails or the archive is not the expected one; the error says
    /// where to place it manually. [`Error::Archive`] if it cannot be unpacked, [`Error::Io`] if a file
    /// cannot be written, [`Error::Config`] if the URL does not name an archive. The errors of
    /// [`fastai_path`], unless both folders are given.
    pub fn fetch(&self) -> Result<PathBuf> {
        let name = archive_name(&self.url)?;
        let folder = |own: &Option<PathBuf>, kind| match own {
            Some(folder) => Ok(fastai_home().join(folder)),
            None => fastai_path(kind),
        };
        let (archives, data) = (folder(&self.archive, "archive")?, folder(&self.data, "data")?);
        let (archive, place) = (archives.join(name), data.join(stem(name)));
        if place.exists() && !self.force {
            return Ok(place);
        }
        for folder in [&archives, &data] {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        // fastai's lock: two programs do not unpack the same archive.
        let lock = archives.join(format!("{name}.lock"));
        let held = File::create(&lock).map_err(Error::io(&lock))?;
        match held.lock() {
            Err(e) if e.kind() != io::ErrorKind::Unsupported => return Err(Error::io(lock)(e)),
            _ => {}
        }
        if place.exists() && !self.force {
            return Ok(place);
        }
        let downloaded = self.download_to(&archive)?;
        self.unpack(&archive, &data, &place, downloaded)?;
        Ok(place)
    }

    /// Downloads the archive if it does not exist; returns true if it was downloaded.
    fn download_to(&self, archive: &Path) -> Result<bool> {
        let record = record(&self.url).filter(|_| self.sha256.is_none());
        let mut download = match &self.download {
            Some(how) => how.clone().url(&self.url),
            None => Download::new(&self.url).quiet(self.quiet),
        };
        if let Some(digits) = &self.sha256 {
            download = download.sha256(digits);
        }
        let stale = archive.exists() && !agrees(archive, record)?;
        let needed = self.force || stale || !archive.exists();
        download.force(self.force || stale).fetch_to(archive)?;
        if agrees(archive, record)? {
            return Ok(needed);
        }
        fs::remove_file(archive).map_err(Error::io(archive))?;
        let place = archive.display();
        let why = format!(
            "the downloaded file is not the archive that fastai records: its length or the MD5 of its first \
             mebibyte differ, so it was removed. To use another version, set its `sha256`, or place \
             it manually at {place}"
        );
        Err(Error::download(&self.url, why))
    }

    /// Unpacks to a temporary folder and renames it. An archive that was just `downloaded` and cannot be
    /// unpacked is removed, so that another attempt downloads it again.
    fn unpack(&self, archive: &Path, data: &Path, place: &Path, downloaded: bool) -> Result<()> {
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".unpacking-{name}-");
        // The lock on the archive is held, so these were left by killed processes.
        for entry in fs::read_dir(data).map_err(Error::io(data))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let beside = || {
            let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(data);
            folder.map_err(Error::io(data))
        };
        let (new, old) = (beside()?, beside()?);
        let target = match self.quiet {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let style =
            ProgressStyle::with_template("unpacking {wide_bar} {bytes}/{total_bytes} {eta}")
                .expect("the template is well-formed");
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        let inner = new.path().join("content");
        fs::create_dir(&inner).map_err(Error::io(&inner))?;
        let content = unpack(archive, &inner, self.limits, &bar);
        bar.finish_and_clear();
        let content = content.map_err(|e| {
            let removed = downloaded && is_of_archive(&e) && fs::remove_file(archive).is_ok();
            let then = match removed {
                true => "The archive was removed; another attempt downloads it again",
                false => "Nothing was unpacked; `force(true)` downloads the archive again",
            };
            Error::archive(archive, format!("{e}. {then}"))
        })?;
        if place.exists() {
            fs::rename(place, old.path().join("old")).map_err(Error::io(place))?;
        }
        fs::rename(&content, place).map_err(Error::io(place))
    }
}

/// Returns true if an error concerns the archive, not the disk or a limit that the user can raise.
fn is_of_archive(e: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(e.kind(), K::InvalidData | K::InvalidInput | K::UnexpectedEof | K::Other)
}

/// Returns the name of the file at a URL.
fn archive_name(url: &str) -> Result<&str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.is_empty() || [".", ".."].contains(&name) || name.contains(['\\', ':']) {
        return Err(Error::config("url", format!("`{url}` does not name an archive")));
    }
    Ok(name)
}

/// Returns the name of the folder of an archive: without its extension, and without `.tar` before that.
fn stem(name: &str) -> &str {
    let stem = match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    };
    stem.strip_suffix(".tar").filter(|s| !s.is_empty()).unwrap_or(stem)
}

/// Returns true if an archive matches fastai's record.
fn agrees(archive: &Path, record: Option<Record>) -> Result<bool> {
    let Some(record) = record else { return Ok(true) };
    let head = || -> io::Result<(u64, Vec<u8>)> {
        let (mut file, mut head) = (File::open(archive)?, vec![]);
        file.by_ref().take(1 << 20).read_to_end(&mut head)?;
        Ok((file.metadata()?.len(), head))
    };
    let (bytes, head) = head().map_err(Error::io(archive))?;
    let md5: String = Md5::digest(&head).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(bytes == record.bytes && md5 == record.md5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::download::URLs;

    #[test]
    fn names_are_those_of_fastai() {
        let folder = |url| stem(archive_name(url).unwrap()).to_owned();
        assert_eq!(folder(URLs::PETS), "oxford-iiit-pet");
        assert_eq!(folder(URLs::IMAGENETTE_160), "imagenette2-160");
        assert_eq!(folder("http://a/b/photos.v2.tar.gz?version=3#x"), "photos.v2");
        assert_eq!(folder("http://a/photos.zip"), "photos");
        for bad in ["http://a/", "http://a/..", "http://a/b\\c.tgz", ""] {
            assert!(matches!(archive_name(bad), Err(Error::Config { option: "url", .. })), "{bad}");
        }
    }

    #[test]
    fn a_record_tells_another_archive() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"hello").unwrap();
        let md5 = "5d41402abc4b2a76b9719d911017c592";
        assert!(agrees(file.path(), Some(Record { bytes: 5, md5 })).unwrap());
        assert!(!agrees(file.path(), Some(Record { bytes: 6, md5 })).unwrap());
        assert!(!agrees(file.path(), record(URLs::MNIST_TINY)).unwrap());
        assert!(agrees(file.path(), record("http://elsewhere/a.tgz")).unwrap());
    }
}
