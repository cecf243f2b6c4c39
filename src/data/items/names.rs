//! File names as text, including names that are not UTF-8.

use crate::error::{Error, Result};
use std::{
    ffi::OsStr,
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// Returns a path for an error or a list. Bytes that are not UTF-8 are written as `\xE9`, so that different
/// names always look different.
pub(in crate::data) fn shown(path: &Path) -> String {
    escaped(path.as_os_str())
}

fn escaped(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text += chunk.valid();
        for byte in chunk.invalid() {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "\\x{byte:02X}");
        }
    }
    text
}

/// Returns a name, or part of a path, as a label or a key. If it is not UTF-8, this is an error:
/// replacement characters could map several names to one label.
pub(in crate::data) fn utf8<'a>(name: &'a OsStr, file: &Path) -> Result<&'a str> {
    name.to_str().ok_or_else(|| {
        Error::label(shown(file), format!("the name `{}` is not UTF-8: rename it", escaped(name)))
    })
}

/// Returns the name of a file without its folder.
pub(in crate::data) fn file_name(file: &Path) -> Result<&str> {
    utf8(file.file_name().unwrap_or_default(), file)
}

/// Returns the paths of a list for a note.
pub(in crate::data) fn shown_all(paths: &[PathBuf]) -> impl ExactSizeIterator<Item = String> + '_ {
    paths.iter().map(|path| shown(path))
}
