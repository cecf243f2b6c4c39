//! Labels from file names and folders.

use super::names::{file_name, shown, utf8};
use crate::error::{Error, Result};
use regex::Regex;
use std::path::{Component, Path, PathBuf};

/// Reads a label from a text, such as a file name. [`using_name`] and [`using_path`] turn it into a
/// `get_y`. Implemented by closures `Fn(&str) -> Result<String>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a labeller",
    note = "use a `RegexLabeller` or a closure `|name: &str| Ok(…)` that returns a `String`"
)]
pub trait Labeller: Send + Sync {
    /// Returns the label in `text`.
    ///
    /// # Errors
    /// [`Error::Label`] if there is no label.
    fn label(&self, text: &str) -> Result<String>;
}

impl<F: Fn(&str) -> Result<String> + Send + Sync> Labeller for F {
    fn label(&self, text: &str) -> Result<String> {
        self(text)
    }
}

/// Reads labels from the first group of a regular expression.
///
/// The pattern of fastai's pets chapter, `(.+)_\d+.jpg$`, has a trap: its last dot matches any character,
/// so `a_12xjpg` is labeled `a`. Write `^(.+)_\d+\.jpg$`. Two things differ from Python's `re`: `$`
/// matches only at the end, where Python also accepts one newline after it, and there are no look-arounds
/// or back-references. `\d` is any Unicode decimal digit in both.
///
/// ```
/// use finetune::data::{Labeller, RegexLabeller};
///
/// let breed = RegexLabeller::new(r"^(.+)_\d+\.jpg$")?;
/// assert_eq!(breed.label("great_pyrenees_173.jpg")?, "great_pyrenees");
/// assert!(breed.label("great_pyrenees_173.png").is_err());
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RegexLabeller {
    pattern: Regex,
    from_start: bool,
}

impl RegexLabeller {
    /// Creates a labeller from a regular expression. The label is the first group of its first match.
    ///
    /// # Errors
    /// [`Error::Config`] if `pattern` is not a valid regular expression or has no group.
    pub fn new(pattern: &str) -> Result<Self> {
        let invalid = |why: String| Error::config("RegexLabeller", why);
        let pattern = Regex::new(pattern).map_err(|e| invalid(e.to_string()))?;
        if pattern.captures_len() < 2 {
            let why =
                format!("`{pattern}` has no group: put the part that is the label in parentheses");
            return Err(invalid(why));
        }
        Ok(Self { pattern, from_start: false })
    }

    /// If true, the pattern must match from the first character on, as Python's `match`. Default: false.
    #[must_use]
    pub fn from_start(mut self, from_start: bool) -> Self {
        self.from_start = from_start;
        self
    }
}

impl Labeller for RegexLabeller {
    fn label(&self, text: &str) -> Result<String> {
        let pattern = &self.pattern;
        let fails = |what: &str| {
            let why = format!("`{pattern}` {what} `{text}`");
            Error::label(text.to_owned(), why)
        };
        let found = pattern.captures(text);
        let found = found.filter(|c| !self.from_start || c.get(0).is_some_and(|m| m.start() == 0));
        let found = found.ok_or_else(|| fails("does not match"))?;
        let group = found.get(1).ok_or_else(|| fails("matches without its first group"))?;
        Ok(group.as_str().to_owned())
    }
}

/// Returns a `get_y` that labels a file by its name, without the folder: fastai's `using_attr(labeller,
/// "name")`.
///
/// ```
/// use finetune::data::{RegexLabeller, using_name};
///
/// let get_y = using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?);
/// assert_eq!(get_y(&"images/pug_7.jpg".into())?, "pug");
/// let e = get_y(&"images/pug.jpg".into()).unwrap_err().to_string();
/// assert_eq!(e, r"no label for images/pug.jpg: `^(.+)_\d+\.jpg$` does not match `pug.jpg`");
///
/// let is_cat = using_name(|name: &str| Ok(name.starts_with(char::is_uppercase).to_string()));
/// assert_eq!(is_cat(&"images/Birman_12.jpg".into())?, "true");
/// # Ok::<(), finetune::Error>(())
/// ```
pub fn using_name(
    labeller: impl Labeller + 'static,
) -> impl Fn(&PathBuf) -> Result<String> + Send + Sync + 'static {
    move |path: &PathBuf| labeller.label(file_name(path)?).map_err(|e| naming(e, path))
}

/// Returns a `get_y` that labels a file by its whole path, with `/` between folders on every system.
pub fn using_path(
    labeller: impl Labeller + 'static,
) -> impl Fn(&PathBuf) -> Result<String> + Send + Sync + 'static {
    move |path: &PathBuf| {
        let text = utf8(path.as_os_str(), path)?.replace(std::path::MAIN_SEPARATOR, "/");
        labeller.label(&text).map_err(|e| naming(e, path))
    }
}

/// Replaces the searched text in an error with the file.
fn naming(e: Error, path: &Path) -> Error {
    match e {
        Error::Label { why, .. } => Error::label(shown(path), why),
        e => e,
    }
}

/// Returns the name of the file's folder as its label.
///
/// # Errors
/// [`Error::Label`] if the path has no named folder (fastai's label is empty then), or if the name is not
/// UTF-8.
///
/// ```
/// use finetune::data::parent_label;
///
/// assert_eq!(parent_label("imagenette/train/tench/1.jpg")?, "tench");
/// assert!(parent_label("1.jpg").is_err());
/// # Ok::<(), finetune::Error>(())
/// ```
pub fn parent_label<P: AsRef<Path> + ?Sized>(file: &P) -> Result<String> {
    let file = file.as_ref();
    match file.parent().and_then(|folder| folder.components().next_back()) {
        Some(Component::Normal(name)) => Ok(utf8(name, file)?.to_owned()),
        _ => {
            let why = "its path has no folder".to_owned();
            Err(Error::label(shown(file), why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_checked_at_once() {
        for pattern in ["(", "abc", r"(?:x)"] {
            let e = RegexLabeller::new(pattern).unwrap_err();
            assert!(matches!(e, Error::Config { option: "RegexLabeller", .. }), "{e}");
        }
    }

    #[test]
    fn a_first_match_elsewhere_is_none_from_the_start() {
        let letters = RegexLabeller::new("([a-z]+)").unwrap();
        assert_eq!(letters.label("123abc456").unwrap(), "abc");
        assert!(letters.from_start(true).label("123abc456").is_err());
    }
}
