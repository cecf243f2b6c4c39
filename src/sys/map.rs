//! Files as memory.

use crate::error::{Error, Result};
use memmap2::Mmap;
use std::{fs::File, io, ops::Deref, path::Path};

/// A file's contents, in memory as they are read and not before.
#[derive(Debug)]
pub(crate) struct Mapped(Mmap);

impl Mapped {
    /// Maps the whole file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        Self::of(&file).map_err(Error::io(path))
    }

    /// Maps the whole of an open file, whatever its name stands for by now.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the mapping is private and read-only. Whoever shortens the file meanwhile ends this
        // program, as with every program that maps it; our own writers replace files and never
        // shorten them. The public functions that map files of the user's state this contract.
        unsafe { Mmap::map(file) }.map(Self)
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
