//! Atomic replacement of files.

use super::{
    leftover::{sweep_once, temporary_name},
    watch::{FileOp, ask},
};
use crate::error::{Error, Result};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// The maximum number of bytes per write call.
const CHUNK: usize = 1 << 20;

/// A temporary file in the folder of its final place. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Temporary {
    /// Open until the file is moved to its final place.
    file: Option<File>,
    path: PathBuf,
    place: PathBuf,
}

impl Temporary {
    /// Creates an empty file in the folder of `place`. Missing folders are created.
    pub(crate) fn create(place: &Path) -> io::Result<Self> {
        ask(FileOp::CreateFolder, place)?;
        fs::create_dir_all(folder_of(place))?;
        Self::create_in_folder(place)
    }

    /// As [`Temporary::create`], in a folder that must exist.
    pub(crate) fn create_in_folder(place: &Path) -> io::Result<Self> {
        // Replace the target of a symbolic link, not the link.
        let place = match fs::symlink_metadata(place) {
            Ok(about) if about.is_symlink() => {
                fs::canonicalize(place).unwrap_or_else(|_| place.to_owned())
            }
            _ => place.to_owned(),
        };
        if place.file_name().is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a file name"));
        }
        let folder = folder_of(&place);
        sweep_once(folder);
        loop {
            ask(FileOp::Create, &place)?;
            let path = folder.join(temporary_name(&place));
            // Also readable: a cache maps the file that it has written.
            let new = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
            let file = match new {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other?,
            };
            let temporary = Self { file: Some(file), path, place: place.clone() };
            if !temporary.lock()? {
                continue;
            }
            if let Ok(about) = fs::metadata(&place) {
                ask(FileOp::SetPermissions, &place)?;
                temporary.file()?.set_permissions(about.permissions())?;
            }
            return Ok(temporary);
        }
    }

    /// Locks the file, so that no other process treats it as a leftover. Returns false if one did so
    /// between creation and locking.
    fn lock(&self) -> io::Result<bool> {
        match self.file()?.lock() {
            Err(e) if e.kind() == io::ErrorKind::Unsupported => return Ok(true),
            done => done?,
        }
        let here = same_file::Handle::from_path(&self.path).ok();
        Ok(here == Some(same_file::Handle::from_file(self.file()?.try_clone()?)?))
    }

    /// Returns the current path of the file, for code that writes by name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the open file, for reading.
    pub(crate) fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::Error::other("the file is already in place"))
    }

    /// Writes all of `bytes` at an offset from the start of the file.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut at = at;
        for chunk in bytes.chunks(CHUNK) {
            ask(FileOp::Write, &self.place)?;
            write_all_at(self.file()?, chunk, at)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }

    /// Syncs the file to the disk, renames it to its final name, and syncs the folder. Returns the open
    /// file.
    pub(crate) fn place(mut self) -> io::Result<File> {
        sync(self.file()?, &self.place)?;
        rename(&self.path, &self.place)?;
        let file = self.file.take().ok_or_else(|| io::Error::other("placed twice"))?;
        // The lock is no longer needed; file systems without locks have none to release.
        let _ = file.unlock();
        Ok(file)
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        ask(FileOp::Write, &self.place)?;
        self.file()?.write(&bytes[..bytes.len().min(CHUNK)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Temporary {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file()?.seek(to)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Some systems cannot remove open files.
        if self.file.take().is_some() && ask(FileOp::Remove, &self.place).is_ok() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Syncs the content of the file for `place`.
pub(crate) fn sync(file: &File, place: &Path) -> io::Result<()> {
    ask(FileOp::Sync, place)?;
    file.sync_all()
}

/// Renames a file whose content is on the disk, and syncs the folder.
pub(crate) fn rename(from: &Path, place: &Path) -> io::Result<()> {
    ask(FileOp::Rename, place)?;
    fs::rename(from, place)?;
    sync_folder(place)
}

/// Syncs the folder of `place`, so that the name is on the disk too.
fn sync_folder(place: &Path) -> io::Result<()> {
    ask(FileOp::SyncFolder, place)?;
    // Not every system can open or sync folders, and a folder may be writable but not readable.
    let cannot = [
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::InvalidInput,
        io::ErrorKind::Unsupported,
        io::ErrorKind::IsADirectory,
    ];
    match File::open(folder_of(place)).and_then(|folder| folder.sync_all()) {
        Err(e) if cannot.contains(&e.kind()) => Ok(()),
        done => done,
    }
}

pub(super) fn folder_of(place: &Path) -> &Path {
    place.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The writer passed by [`replace`]. Buffered.
#[derive(Debug)]
pub struct Output(BufWriter<Target>);

#[derive(Debug)]
enum Target {
    Temporary(Temporary),
    /// A device or a pipe, next to which no temporary file can be created.
    Direct(File, PathBuf),
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Temporary(file) => file.write(bytes),
            Self::Direct(file, path) => {
                ask(FileOp::Write, path)?;
                file.write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Temporary(file) => file.flush(),
            Self::Direct(file, _) => file.flush(),
        }
    }
}

impl Seek for Target {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Temporary(file) => file.seek(to),
            Self::Direct(file, _) => file.seek(to),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Output {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// Writes a file so that `path` always refers to either the previous file or the complete new one, even if
/// the process is killed or the power fails. Missing folders are created. A device or a pipe is written
/// directly.
///
/// # Errors
/// [`Error::Io`] naming the file. The previous file is then unchanged, unless only the last step, syncing
/// the folder, failed.
///
/// ```
/// use finetune::disk;
/// use std::io::Write as _;
///
/// let folder = tempfile::tempdir().unwrap();
/// let notes = folder.path().join("new/notes.txt");
/// disk::replace(&notes, |out| writeln!(out, "{} epochs", 3))?;
/// assert_eq!(std::fs::read_to_string(notes).unwrap(), "3 epochs\n");
/// # Ok::<(), finetune::Error>(())
/// ```
pub fn replace(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut Output) -> io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    replace_file(path, write).map_err(Error::io(path))
}

fn replace_file(path: &Path, write: impl FnOnce(&mut Output) -> io::Result<()>) -> io::Result<()> {
    let target = match fs::metadata(path) {
        Ok(about) if about.is_dir() => {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "this is a folder"));
        }
        Ok(about) if !about.is_file() => {
            ask(FileOp::Create, path)?;
            Target::Direct(OpenOptions::new().write(true).open(path)?, path.to_owned())
        }
        _ => Target::Temporary(Temporary::create(path)?),
    };
    let mut out = Output(BufWriter::with_capacity(1 << 18, target));
    write(&mut out)?;
    match out.0.into_inner()? {
        Target::Temporary(file) => file.place().map(drop),
        Target::Direct(..) => Ok(()),
    }
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    ask(FileOp::Remove, path)?;
    fs::remove_file(path)
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
        (bytes, at) = (&bytes[n..], at + n as u64);
    }
    Ok(())
}
