//! fastai's data folder and its settings.

use crate::error::{Error, Result};
use std::{
    collections::HashMap,
    env, fs, io,
    path::{Path, PathBuf},
};

/// Returns fastai's folder of a kind: `data`, `archive`, `model` or `storage`.
///
/// As in fastai, it is the entry of that kind in `config.ini` in the folder `FASTAI_HOME` (default:
/// `~/.fastai`), relative to that folder; without such a file or entry, the folders `data`, `archive`,
/// `models` and `tmp`. fastai writes the file if it is missing; this function only reads it.
///
/// ```
/// println!("data sets are in {}", finetune::download::fastai_path("data")?.display());
/// # Ok::<(), finetune::Error>(())
/// ```
///
/// # Errors
/// [`Error::Io`] if `config.ini` exists but cannot be read, or is not text; [`Error::Config`] if Python's
/// `configparser` would refuse it too: a line that is not an entry, or an entry that refers to a missing
/// one or to itself.
pub fn fastai_path(kind: &str) -> Result<PathBuf> {
    let home = fastai_home();
    let path = home.join("config.ini");
    let settings = match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.map_err(Error::io(&path))?,
    };
    setting(&home, &settings, kind)
        .map_err(|why| Error::config("config.ini", format!("{}: {why}", path.display())))
}

/// Returns the folder of fastai's settings, to which they are relative.
pub(crate) fn fastai_home() -> PathBuf {
    let home = env::var_os("FASTAI_HOME").filter(|home| !home.is_empty());
    let home = expand(home.map_or_else(|| "~/.fastai".into(), PathBuf::from));
    std::path::absolute(&home).unwrap_or(home)
}

/// Replaces a leading `~` by the home folder.
fn expand(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), env::home_dir()) {
        (Ok(rest), Some(user)) => user.join(rest),
        _ => path,
    }
}

fn setting(home: &Path, settings: &str, kind: &str) -> Result<PathBuf, String> {
    let entries = entries(settings)?;
    let default = match kind {
        "model" => "models",
        "storage" => "tmp",
        kind => kind,
    };
    let entry = entries.get(kind).map(|value| interpolate(value, &entries, 0)).transpose()?;
    Ok(home.join(entry.unwrap_or_else(|| default.to_owned())))
}

/// Returns the entries of the section `DEFAULT`, as read by Python's `configparser`.
fn entries(settings: &str) -> Result<HashMap<String, String>, String> {
    let mut entries = HashMap::new();
    let mut section = None;
    for (i, line) in settings.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = Some(name);
            continue;
        }
        let Some(section) = section else {
            return Err(format!("line {} is before the first `[section]`", i + 1));
        };
        let Some((key, value)) = line.split_once(['=', ':']) else {
            return Err(format!("line {} is not `name = value`", i + 1));
        };
        if section == "DEFAULT" {
            entries.insert(key.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    Ok(entries)
}

/// Replaces `%(name)s` by the entry of that name, and `%%` by a percent sign.
fn interpolate(
    value: &str,
    entries: &HashMap<String, String>,
    depth: usize,
) -> Result<String, String> {
    if depth == 10 {
        return Err(format!("`{value}` refers to itself"));
    }
    let Some((before, after)) = value.split_once('%') else { return Ok(value.to_owned()) };
    if let Some(rest) = after.strip_prefix('%') {
        return Ok(format!("{before}%{}", interpolate(rest, entries, depth)?));
    }
    let Some((name, rest)) = after.strip_prefix('(').and_then(|a| a.split_once(")s")) else {
        return Err(format!("`{value}`: `%` must be followed by `%` or `(name)s`"));
    };
    let inner = entries
        .get(&name.to_lowercase())
        .ok_or_else(|| format!("`{value}` refers to `{name}`, which has no entry"))?;
    let inner = interpolate(inner, entries, depth + 1)?;
    Ok(format!("{before}{inner}{}", interpolate(rest, entries, depth)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_python_does() {
        let text = "[DEFAULT]\n# a comment\ndata = sets\nArchive: /big/archive\nstorage=%(data)s/tmp\n\n\
                    [other]\ndata = elsewhere\n";
        let at = |kind| setting(Path::new("/home/me/.fastai"), text, kind).unwrap();
        assert_eq!(at("data"), Path::new("/home/me/.fastai/sets"));
        assert_eq!(at("archive"), Path::new("/big/archive"));
        assert_eq!(at("storage"), Path::new("/home/me/.fastai/sets/tmp"));
        assert_eq!(at("model"), Path::new("/home/me/.fastai/models"));
        let percent = "[DEFAULT]\ndata = 100%%\n";
        assert_eq!(setting(Path::new("/a"), percent, "data").unwrap(), Path::new("/a/100%"));
    }

    /// Python's `configparser` rejects these texts too.
    #[test]
    fn what_cannot_be_read_is_an_error() {
        for (text, why) in [
            ("data = sets\n", "before the first"),
            ("[DEFAULT]\ndata\n", "line 2 is not"),
            ("[DEFAULT]\ndata = %(data)s\n", "refers to itself"),
            ("[DEFAULT]\ndata = %(nothing)s\n", "`nothing`, which has no entry"),
            ("[DEFAULT]\ndata = 100%\n", "must be followed"),
        ] {
            let error = setting(Path::new("/a"), text, "data").unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
