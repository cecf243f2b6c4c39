//! Splitters by index, function, position, folder or file of names.

use super::splitter::part;
use crate::{
    data::{
        Splits, Splitter,
        items::names::shown,
        notes::{note, some},
    },
    error::{Error, Result},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt, fs,
    path::{Path, PathBuf},
};

/// Splits by the indices of the validation items.
///
/// Training items are the rest in order; validation keeps the list as it is, including repetitions. An
/// index beyond the items is an error (in fastai, only when the item is loaded).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSplitter {
    valid: Vec<usize>,
}

impl IndexSplitter {
    /// Creates a splitter from the indices of the validation items.
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

/// Splits by a list of booleans, one per item; true means validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskSplitter {
    mask: Vec<bool>,
}

impl MaskSplitter {
    /// Creates a splitter from one value per item; true means validation.
    pub fn new(mask: impl IntoIterator<Item = bool>) -> Self {
        Self { mask: mask.into_iter().collect() }
    }
}

impl<I> Splitter<I> for MaskSplitter {
    fn split(&self, items: &[I]) -> Result<Splits> {
        if self.mask.len() != items.len() {
            let why = format!("there are {} values, but {} items", self.mask.len(), items.len());
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
    /// Creates a splitter from a function that returns true for validation items.
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

/// Uses the last items for validation, for items in a meaningful order.
#[derive(Debug, Clone, PartialEq)]
pub struct EndSplitter {
    valid_pct: f64,
    valid_last: bool,
}

impl EndSplitter {
    /// Creates a splitter that uses the fraction `valid_pct` of the items, between 0 and 1 and rounded down, for
    /// validation.
    #[must_use]
    pub fn new(valid_pct: f64) -> Self {
        Self { valid_pct, valid_last: true }
    }

    /// If true, validation items are at the end, otherwise at the start. Default: true.
    #[must_use]
    pub fn valid_last(mut self, valid_last: bool) -> Self {
        self.valid_last = valid_last;
        self
    }
}

impl<I> Splitter<I> for EndSplitter {
    fn split(&self, items: &[I]) -> Result<Splits> {
        if !(self.valid_pct > 0.0 && self.valid_pct < 1.0) {
            let why = format!("is {}; it must be between 0 and 1", self.valid_pct);
            return Err(Error::config("EndSplitter", why));
        }
        let (n, cut) = (items.len(), part(self.valid_pct, items.len()));
        // If the fraction rounds to 0 items, validation is empty; fastai puts all items into it.
        Ok(Splits::by(n, |&i| if self.valid_last { i >= n - cut } else { i < cut }))
    }
}

/// Folders that [`GrandparentSplitter`] uses for training by default, in lower case.
const TRAIN: [&str; 2] = ["train", "training"];
const VALID: [&str; 3] = ["valid", "val", "validation"];

/// Splits by the name of the folder above an item's folder, as in `train/cat/1.jpg`.
///
/// By default, folders named `train` or `training` are for training and those named `valid`, `val` or
/// `validation` for validation, in any case; fastai knows only `train` and `valid`. Items in other folders
/// are in neither split; [`DataLoaders::notes`](crate::data::DataLoaders::notes) reports them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrandparentSplitter {
    train: Option<Vec<String>>,
    valid: Option<Vec<String>>,
}

impl GrandparentSplitter {
    /// Creates a splitter by the folders `train` and `valid`, or their common variants.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the folders for training; their items are in the order of this list. Default: `train` and
    /// `training`, in any case.
    #[must_use]
    pub fn train_name<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.train = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the folders for validation; an empty list means no validation. Default: `valid`, `val` and
    /// `validation`, in any case.
    #[must_use]
    pub fn valid_name<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.valid = Some(names.into_iter().map(Into::into).collect());
        self
    }
}

/// Returns the items in the folders with the given names, in the order of these, or in those with the
/// default names.
fn below(folders: &[Option<String>], given: Option<&[String]>, usual: &[&str]) -> Vec<usize> {
    let those = |is: &dyn Fn(&str) -> bool| {
        let here = |&i: &usize| folders[i].as_deref().is_some_and(is);
        (0..folders.len()).filter(here).collect::<Vec<_>>()
    };
    match given {
        Some(names) => names.iter().flat_map(|name| those(&|folder| folder == name)).collect(),
        None => those(&|folder| usual.contains(&folder.to_lowercase().as_str())),
    }
}

impl<I: AsRef<Path>> Splitter<I> for GrandparentSplitter {
    fn split(&self, items: &[I]) -> Result<Splits> {
        let folder = |item: &I| {
            let above = item.as_ref().parent()?.parent()?.file_name()?;
            Some(shown(Path::new(above)))
        };
        let folders: Vec<_> = items.iter().map(folder).collect();
        let train = below(&folders, self.train.as_deref(), &TRAIN);
        let valid = below(&folders, self.valid.as_deref(), &VALID);
        let nothing = |split, option, usual: &[&str]| {
            let mut counts = BTreeMap::<_, usize>::new();
            for folder in folders.iter().flatten() {
                *counts.entry(folder).or_default() += 1;
            }
            let found = counts.iter().map(|(folder, n)| format!("{n} in `{folder}`"));
            let why = format!(
                "no item is in one of its folders ({}). There are {}: set the folder with `{option}`",
                usual.join(", "),
                some(found.collect::<Vec<_>>().into_iter()),
            );
            Error::empty_split(split, why)
        };
        let names = |given: &Option<Vec<String>>, usual: &[&str]| match given {
            Some(names) => names.clone(),
            None => usual.iter().map(ToString::to_string).collect(),
        };
        if train.is_empty() {
            let names = names(&self.train, &TRAIN);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            // Without training items, there are no loaders; their error repeats this.
            note(nothing("training", "train_name", &names).to_string());
            return Ok(Splits { train, valid });
        }
        let names = names(&self.valid, &VALID);
        if valid.is_empty() && !names.is_empty() {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(nothing("validation", "valid_name", &names));
        }
        Ok(Splits { train, valid })
    }
}

/// Splits by a text file with the names of the validation items, one per line.
///
/// A name is that of the file, without its folder, and spaces are significant. A byte-order mark and empty
/// lines are ignored. Names that match no item are reported in
/// [`DataLoaders::notes`](crate::data::DataLoaders::notes); if no name matches, that is an error. (fastai
/// ignores both silently.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSplitter {
    file: PathBuf,
}

impl FileSplitter {
    /// Creates a splitter by the names in `file`, which is read when items are split.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into() }
    }
}

impl<I: AsRef<Path>> Splitter<I> for FileSplitter {
    fn split(&self, items: &[I]) -> Result<Splits> {
        let text = fs::read_to_string(&self.file).map_err(Error::io(&self.file))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let lines = text.split(['\n', '\r']).filter(|line| !line.is_empty());
        let valid: BTreeSet<&str> = lines.collect();
        let name = |item: &I| item.as_ref().file_name().map(|name| shown(Path::new(name)));
        let names: Vec<String> = items.iter().map(|item| name(item).unwrap_or_default()).collect();
        let there: HashSet<&str> = names.iter().map(String::as_str).collect();
        let absent: Vec<&str> = valid.iter().copied().filter(|n| !there.contains(n)).collect();
        if absent.len() == valid.len() {
            let first = absent.first().map_or("it is empty".to_owned(), |name| {
                format!(
                    "the first is `{name}`, and the first item `{}`",
                    names.first().map_or("", |n| n)
                )
            });
            let why =
                format!("no item has a name that is listed in {}: {first}", shown(&self.file));
            return Err(Error::config("FileSplitter", why));
        }
        if !absent.is_empty() {
            let which = some(absent.iter().map(|name| format!("`{name}`")));
            let n = absent.len();
            note(format!("{n} names in {} match no item: {which}", shown(&self.file)));
        }
        Ok(Splits::by(items.len(), |&i| valid.contains(names[i].as_str())))
    }
}
