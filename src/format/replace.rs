//! Atomic replacement of files.

use crate::error::{Error, Result};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
};

/// Writes a temporary file beside `path`, syncs it to the disk, and renames it.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let part = readable().tempfile_in(folder).map_err(Error::io(path))?;
    let mut writer = BufWriter::with_capacity(1 << 18, part.as_file());
    write(&mut writer).and_then(|()| writer.flush()).map_err(Error::io(path))?;
    drop(writer);
    part.as_file().sync_all().map_err(Error::io(path))?;
    part.persist(path).map_err(|e| Error::io(path)(e.error))?;
    // The new name is on the disk when its folder is; some systems cannot say so of folders.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Files that others may read as they may any new file, and not their owner alone.
fn readable() -> tempfile::Builder<'static, 'static> {
    let mut files = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        files.permissions(fs::Permissions::from_mode(0o666)); // less what the user's mask takes off
    }
    files
}
