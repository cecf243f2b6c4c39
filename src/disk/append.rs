//! Files to which complete records are appended.

use super::{
    replace::folder_of,
    watch::{FileOp, ask},
};
use crate::error::{Error, Result};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

/// A file to which complete records are appended. A record that cannot be written completely is removed again.
#[derive(Debug)]
pub(crate) struct Appender {
    file: File,
    path: PathBuf,
    len: u64,
    /// True if the file may contain a partial record after `len`.
    torn: bool,
    /// True if it is a regular file whose length can be changed, not a device or a pipe.
    regular: bool,
}

impl Appender {
    /// Opens or creates the file and keeps its first `keep` bytes; all of them if `None`. Missing folders
    /// are created.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file, also if it has fewer than `keep` bytes.
    pub(crate) fn open(path: &Path, keep: Option<u64>) -> Result<Self> {
        let open = || {
            ask(FileOp::CreateFolder, path)?;
            fs::create_dir_all(folder_of(path))?;
            ask(FileOp::Create, path)?;
            let mut options = OpenOptions::new();
            let file = options.create(true).truncate(false).write(true).open(path)?;
            let about = file.metadata()?;
            let (len, regular) = (about.len(), about.is_file());
            let mut opened = Self { file, path: path.to_owned(), len, torn: false, regular };
            if let Some(keep) = keep.filter(|_| regular) {
                if keep > len {
                    let why = format!(
                        "it has {len} bytes, but {keep} at the time of the checkpoint: restore \
                         the file, or move it away and start the run under another name"
                    );
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
                }
                opened.len = keep;
                opened.torn = keep < len;
            }
            opened.cut()?;
            Ok(opened)
        };
        open().map_err(Error::io(path))
    }

    /// Creates the file. Returns `None` if it already exists.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub(crate) fn create_new(path: &Path) -> Result<Option<Self>> {
        let create = || {
            ask(FileOp::CreateFolder, path)?;
            fs::create_dir_all(folder_of(path))?;
            ask(FileOp::Create, path)?;
            OpenOptions::new().create_new(true).write(true).open(path)
        };
        match create() {
            Ok(file) => {
                Ok(Some(Self { file, path: path.to_owned(), len: 0, torn: false, regular: true }))
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(e) => Err(Error::io(path)(e)),
        }
    }

    /// Returns true if the file has at least `bytes` bytes.
    pub(crate) fn has(path: &Path, bytes: u64) -> bool {
        fs::metadata(path).is_ok_and(|about| !about.is_file() || about.len() >= bytes)
    }

    /// Returns the number of bytes of all records.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a record: all of it, or nothing.
    pub(crate) fn append(&mut self, record: &[u8]) -> Result<()> {
        let mut write = || {
            self.cut()?;
            ask(FileOp::Write, &self.path)?;
            self.torn = true;
            self.file.write_all(record)
        };
        if let Err(e) = write() {
            // If this fails too, the next record tries again before it is written.
            let _ = self.cut();
            return Err(Error::io(&self.path)(e));
        }
        self.torn = false;
        self.len += record.len() as u64;
        Ok(())
    }

    /// Syncs all records to the disk.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if !self.regular {
            return Ok(());
        }
        let done = ask(FileOp::Sync, &self.path).and_then(|()| self.file.sync_data());
        done.map_err(Error::io(&self.path))
    }

    /// Truncates the file after the last complete record.
    fn cut(&mut self) -> io::Result<()> {
        if !self.regular {
            return Ok(());
        }
        if self.torn {
            ask(FileOp::Truncate, &self.path)?;
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        self.file.seek(SeekFrom::Start(self.len)).map(drop)
    }
}
