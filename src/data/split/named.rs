//! Which items are for training and which for validation: by position, name, folder or content.

use super::splitter::part;
use crate::{
    data::{Splits, Splitter},
    error::{Error, Result},
};
use std::{
    collections::HashSet,
    fmt, fs,
    path::{Path, PathBuf},
};

/// Splits by the positions of the validation items.
///
/// Training takes the rest in order; validation keeps the list as it is, repetitions included. A
/// position beyond the items is an error (fastai finds it when the item is loaded).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSplitter {
    valid: Vec<usize>,
}

impl IndexSplitter {
    /// `valid` are the positions of the validation items.
    pub fn new(valid: impl IntoIterator<Item = usize>) -> Self {
        Self { valid: valid.into_iter().collect() }
    }
}

impl<I> Splitter<I> for IndexSplitter {
    fn split(&self, items: &[I]) -> Result<Splits> {
        let n = items.len();
        if let Some(far) = self.valid.iter().find(|&&i| i >= n) {
            let why = format!("position {far} is beyond the {n} items");
            return Err(Error::config("IndexSplitter", why));
        }
        let valid: HashSet<_> = self.valid.iter().copied().collect();
        let train = (0..n).filter(|i| !valid.contains(i)).collect();
        Ok(Splits { train, valid: self.valid.clone() })
    }
}

/// Splits by a list that says of each item whether it is for validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskSplitter {
    mask: Vec<bool>,
}

impl MaskSplitter {
    /// `true` is for validation. There must be as many values as items.
    pub fn new(mask: impl IntoIterator<Item = bool>) -> Self {
        Self { mask: mask.into_iter().collect() }
    }
}

impl<I> Splitter<I> for MaskSplitter {
    fn split(&self, items: &[I]) -> Result<Splits> {
        if self.mask.len() != items.len() {
            let why = format!("{} values for {} items", self.mask.len(), items.len());
            return Err(Error::config("MaskSplitter", why));
        }
        Ok(Splits::by(items.len(), |&i| self.mask[i]))
    }
}

/// Splits by a function of each item.
///
/// ```
/// use finetune::data::{FuncSplitter, Splitter};
///
/// let splits = FuncSplitter::new(|n: &i32| n % 3 == 0).split(&[1, 2, 3, 4, 5, 6])?;
/// assert_eq!(splits.valid, [2, 5]);
/// # Ok::<(), finetune::Error>(())
/// ```
pub struct FuncSplitter<F> {
    is_valid: F,
}

impl<F> FuncSplitter<F> {
    /// `is_valid` says whether an item is for validation.
    #[must_use]
    pub fn new<I>(is_valid: F) -> Self
    where
        F: Fn(&I) -> bool,
    {
        Self { is_valid }
    }
}

impl<F> fmt::Debug for FuncSplitter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FuncSplitter")
    }
}

impl<I, F: Fn(&I) -> bool + Send + Sync> Splitter<I> for FuncSplitter<F> {
    fn split(&self, items: &[I]) -> Result<Splits> {
        Ok(Splits::by(items.len(), |&i| (self.is_valid)(&items[i])))
    }
}

/// Takes the end of the items for validation, for items in an order that means something.
#[derive(Debug, Clone, PartialEq)]
pub struct EndSplitter {
    valid_pct: f64,
    valid_last: bool,
}

impl EndSplitter {
    /// The part `valid_pct`, between 0 and 1, is for validation, rounded down.
    #[must_use]
    pub fn new(valid_pct: f64) -> Self {
        Self { valid_pct, valid_last: true }
    }

    /// Whether validation is at the end, not at the start. Default: true.
    #[must_use]
    pub fn valid_last(mut self, valid_last: bool) -> Self {
        self.valid_last = valid_last;
        self
    }
}

impl<I> Splitter<I> for EndSplitter {
    fn split(&self, items: &[I]) -> Result<Splits> {
        if !(self.valid_pct > 0.0 && self.valid_pct < 1.0) {
            let why = format!("{} must be between 0 and 1", self.valid_pct);
            return Err(Error::config("EndSplitter", why));
        }
        let (n, cut) = (items.len(), part(self.valid_pct, items.len()));
        // Where the part rounds to nothing, validation is empty; fastai puts everything into it.
        Ok(Splits::by(n, |&i| if self.valid_last { i >= n - cut } else { i < cut }))
    }
}

/// Splits by the name of the folder above an item's folder, as in `train/cat/1.jpg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrandparentSplitter {
    train: Vec<String>,
    valid: Vec<String>,
}

impl Default for GrandparentSplitter {
    fn default() -> Self {
        Self::new()
    }
}

impl GrandparentSplitter {
    /// `train` and `valid`.
    #[must_use]
    pub fn new() -> Self {
        Self { train: vec!["train".into()], valid: vec!["valid".into()] }
    }

    /// The folders for training, whose items come in the order of this list. Default: `train`.
    #[must_use]
    pub fn train_name<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.train = names.into_iter().map(Into::into).collect();
        self
    }

    /// The folders for validation. Default: `valid`.
    #[must_use]
    pub fn valid_name<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.valid = names.into_iter().map(Into::into).collect();
        self
    }
}

impl<I: AsRef<Path>> Splitter<I> for GrandparentSplitter {
    fn split(&self, items: &[I]) -> Result<Splits> {
        let folder = |item: &I| {
            let above = item.as_ref().parent()?.parent()?.file_name()?;
            Some(above.to_string_lossy().into_owned())
        };
        let folders: Vec<_> = items.iter().map(folder).collect();
        let below = |names: &[String]| {
            let of = |name| {
                let here = |&i: &usize| folders[i].as_ref() == Some(name);
                (0..folders.len()).filter(here).collect::<Vec<_>>()
            };
            names.iter().flat_map(of).collect()
        };
        Ok(Splits { train: below(&self.train), valid: below(&self.valid) })
    }
}

/// Splits by a text file with the names of the validation items, one a line.
///
/// A name is that of the file, without its folder, and blanks count. A name that no item has is
/// passed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSplitter {
    file: PathBuf,
}

impl FileSplitter {
    /// `file` is read when the items are split.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into() }
    }
}

impl<I: AsRef<Path>> Splitter<I> for FileSplitter {
    fn split(&self, items: &[I]) -> Result<Splits> {
        let text = fs::read_to_string(&self.file).map_err(Error::io(&self.file))?;
        let valid: HashSet<&str> = text.lines().collect();
        let name = |i: usize| items[i].as_ref().file_name().unwrap_or_default().to_string_lossy();
        Ok(Splits::by(items.len(), |&i| valid.contains(&*name(i))))
    }
}
