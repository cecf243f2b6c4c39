//! Files mapped into memory.

use crate::error::{Error, Result};
use memmap2::Mmap;
use std::{fs::File, io, ops::Deref, path::Path};

/// The content of a file, mapped into memory. A page is loaded when it is first read.
#[derive(Debug)]
pub(crate) struct Mapped(Mmap);

impl Mapped {
    /// Opens a file and maps all of it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        Self::of(&file).map_err(Error::io(path))
    }

    /// Maps all of an open file, even if its name now refers to another file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the mapping is private and read-only. The file must not be truncated while it is mapped, or
        // the operating system kills the program. The writers of this crate replace files and never truncate
        // them; the public functions that map user files document this requirement.
        unsafe { Mmap::map(file) }.map(Self)
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
