//! Names of files as text, also where they are not UTF-8.

use crate::error::{Error, Result};
use std::{
    ffi::OsStr,
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// A path for an error or a list. Bytes that are not UTF-8 are written as `\xE9`, so that two names never
/// look the same.
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

/// A name, or part of a path, as a label or a key. One that is not UTF-8 is an error: replaced bytes would
/// make one label of several.
pub(in crate::data) fn utf8<'a>(name: &'a OsStr, file: &Path) -> Result<&'a str> {
    name.to_str().ok_or_else(|| Error::Label {
        item: shown(file),
        why: format!("the name `{}` is not UTF-8: rename it", escaped(name)),
    })
}

/// The name of a file without its folder.
pub(in crate::data) fn file_name(file: &Path) -> Result<&str> {
    utf8(file.file_name().unwrap_or_default(), file)
}

/// A path for a note, of a list of paths.
pub(in crate::data) fn shown_all(paths: &[PathBuf]) -> impl ExactSizeIterator<Item = String> + '_ {
    paths.iter().map(|path| shown(path))
}
