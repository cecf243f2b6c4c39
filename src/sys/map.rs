use crate::error::{Error, Result};
use memmap2::Mmap;
use std::{fs::File, ops::Deref, path::Path};

/// A file's contents, in memory as they are read and not before.
#[derive(Debug)]
pub(crate) struct Mapped(Mmap);

impl Mapped {
    /// Maps the whole file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        // SAFETY: the mapping is private and read-only. Whoever shortens the file meanwhile ends this
        // program, as with every program that maps it; our own writers replace files and never
        // shorten them.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        Ok(Self(map))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
