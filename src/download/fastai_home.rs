//! fastai's data folder and its settings.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
};

/// Returns fastai's folder of a kind: `data`, `archive`, `model` or `storage`.
///
/// As in fastai, it is the entry of that kind in `config.ini` in the folder `FASTAI_HOME` (default:
/// `~/.fastai`), relative to that folder; without such a file or entry, the folders `data`, `archive`,
/// `models` and `tmp`. fastai writes the file if it is missing; this function only reads it.
///
/// ```
/// println!("data sets are in {}", finetune::download::fastai_path("data").display());
/// ```
#[must_use]
pub fn fastai_path(kind: &str) -> PathBuf {
    let home = fastai_home();
    let settings = fs::read_to_string(home.join("config.ini")).unwrap_or_default();
    setting(&home, &settings, kind)
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

fn setting(home: &Path, settings: &str, kind: &str) -> PathBuf {
    let entries = entries(settings);
    let default = match kind {
        "model" => "models",
        "storage" => "tmp",
        kind => kind,
    };
    home.join(entries.get(kind).map_or_else(|| default.to_owned(), |v| interpolate(v, &entries, 0)))
}

/// Returns the entries of the section `DEFAULT`, as read by Python's `configparser`.
fn entries(settings: &str) -> HashMap<String, String> {
    let mut entries = HashMap::new();
    let mut section = String::new();
    for line in settings.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.split_once(['=', ':'])
            && section == "DEFAULT"
        {
            entries.insert(key.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    entries
}

/// Replaces `%(name)s` by the entry of that name, and `%%` by a percent sign.
fn interpolate(value: &str, entries: &HashMap<String, String>, depth: usize) -> String {
    let Some((before, after)) = value.split_once('%').filter(|_| depth < 10) else {
        return value.to_owned();
    };
    if let Some(rest) = after.strip_prefix('%') {
        return format!("{before}%{}", interpolate(rest, entries, depth));
    }
    let named = after.strip_prefix('(').and_then(|a| a.split_once(")s"));
    match named.and_then(|(name, rest)| Some((entries.get(&name.to_lowercase())?, rest))) {
        Some((inner, rest)) => {
            let inner = interpolate(inner, entries, depth + 1);
            format!("{before}{inner}{}", interpolate(rest, entries, depth))
        }
        None => format!("{before}%{}", interpolate(after, entries, depth)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_python_does() {
        let text = "[DEFAULT]\n# a comment\ndata = sets\nArchive: /big/archive\nstorage=%(data)s/tmp\n\n\
                    [other]\ndata = elsewhere\n";
        let at = |kind| setting(Path::new("/home/me/.fastai"), text, kind);
        assert_eq!(at("data"), Path::new("/home/me/.fastai/sets"));
        assert_eq!(at("archive"), Path::new("/big/archive"));
        assert_eq!(at("storage"), Path::new("/home/me/.fastai/sets/tmp"));
        assert_eq!(at("model"), Path::new("/home/me/.fastai/models"));
        let percent = "[DEFAULT]\ndata = 100%%\narchive = %(archive)s\n";
        assert_eq!(setting(Path::new("/a"), percent, "data"), Path::new("/a/100%"));
        // A setting that refers to itself terminates.
        setting(Path::new("/a"), percent, "archive");
    }
}
