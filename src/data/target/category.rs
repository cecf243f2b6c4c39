//! Target blocks of categories.

use crate::{
    error::{Error, Result},
    sample::{Target, Task},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt::Debug,
    sync::Arc,
};

/// Converts labels to targets. Each source uses a copy, which is fitted to the training labels.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a target block",
    note = "use `CategoryBlock`, `MultiCategoryBlock`, `RegressionBlock`, `MaskBlock`, `PointBlock` or \
            `(BBoxBlock, BBoxLblBlock)`"
)]
pub trait TargetBlock: Clone + Debug + Send + Sync + 'static {
    /// The type that `get_y` returns.
    type Label: Send + Sync + 'static;

    /// Fits the block to the training labels, for example by building the vocabulary.
    ///
    /// # Errors
    /// [`Error::Config`] if the labels do not define a task.
    fn setup(&mut self, labels: &mut dyn Iterator<Item = &Self::Label>) -> Result<()>;

    /// Returns the target of a label.
    ///
    /// # Errors
    /// [`Error::Label`] if the label is invalid; the caller adds the item's name.
    fn encode(&self, label: &Self::Label) -> Result<Target>;

    /// Returns the label of a target, or `None` for a target of another kind.
    fn decode(&self, target: &Target) -> Option<Self::Label>;

    /// Checks, without opening the image, whether the target of a label can be built. Called before the
    /// first batch. Default: always `Ok`.
    ///
    /// # Errors
    /// Any reason why the target cannot be built, for example a mask that does not exist.
    fn check(&self, label: &Self::Label) -> Result<()> {
        let _ = label;
        Ok(())
    }

    /// Returns true if targets are built each time their item is loaded, instead of once before the first
    /// batch, because they are large. Default: false.
    fn deferred(&self) -> bool {
        false
    }

    /// Returns the task, with everything that a model, a loss and an export need: the vocabulary, the
    /// number of outputs. It determines the default loss.
    fn task(&self) -> Task;
}

/// The order of a vocabulary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sort {
    /// By code point, as fastai sorts texts: capitals before small letters, `10` before `2`.
    #[default]
    CodePoints,
    /// By value, as fastai sorts numeric labels. Every category must be a number.
    Numbers,
    /// In order of first occurrence.
    Given,
}

/// The name of the category for unknown labels, which `add_na` puts first.
pub const NA: &str = "#na#";

/// A list of categories, and a map from their names to their indices.
#[derive(Debug, Clone, Default)]
pub(in crate::data) struct Vocab {
    pub(in crate::data) names: Arc<[String]>,
    positions: Arc<HashMap<String, usize>>,
}

impl Vocab {
    pub(in crate::data) fn new<'a>(
        labels: impl Iterator<Item = &'a str>,
        sort: Sort,
        add_na: bool,
    ) -> Result<Self> {
        let mut seen = HashSet::new();
        let mut names: Vec<String> =
            labels.filter(|&l| seen.insert(l)).map(ToOwned::to_owned).collect();
        match sort {
            Sort::CodePoints => names.sort_unstable(),
            Sort::Numbers => {
                let value = |name: String| match name.trim().parse::<f64>() {
                    Ok(v) if !v.is_nan() => Ok((v, name)),
                    _ => Err(Error::config("sort", format!("`{name}` is not a number"))),
                };
                let mut values = names.into_iter().map(value).collect::<Result<Vec<_>>>()?;
                values.sort_by(|a, b| a.0.total_cmp(&b.0));
                names = values.into_iter().map(|(_, name)| name).collect();
            }
            Sort::Given => {}
        }
        if add_na {
            names.retain(|name| name != NA);
            names.insert(0, NA.to_owned());
        }
        let positions = names.iter().enumerate().map(|(i, name)| (name.clone(), i)).collect();
        Ok(Self { names: names.into(), positions: Arc::new(positions) })
    }

    pub(in crate::data) fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }
}

/// One category for each item, by name: fastai's [`CategoryBlock`](https://docs.fast.ai/vision.data.html)
/// and `Categorize`.
///
/// The vocabulary is built from the *training* labels, sorted by code point. A label that is not in it is
/// an error that names the item, unless [`add_na`](Self::add_na) is set.
///
/// ```
/// use finetune::{data::{CategoryBlock, TargetBlock}, sample::Target};
///
/// let labels = ["pug", "Birman", "pug"].map(String::from);
/// let mut block = CategoryBlock::new();
/// block.setup(&mut labels.iter())?;
/// assert_eq!(block.task().vocab(), ["Birman", "pug"]);
/// assert_eq!(block.encode(&labels[0])?, Target::Category(1));
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct CategoryBlock {
    given: Option<Vec<String>>,
    sort: Sort,
    add_na: bool,
    strict: bool,
    vocab: Vocab,
}

impl CategoryBlock {
    /// Creates a block that builds its categories from the training labels.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the categories. They are still sorted, as in fastai; see [`sort`](Self::sort). Default: those
    /// of the training labels.
    #[must_use]
    pub fn vocab<S: Into<String>>(mut self, vocab: impl IntoIterator<Item = S>) -> Self {
        self.given = Some(vocab.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the order of the vocabulary. Default: [`Sort::CodePoints`].
    #[must_use]
    pub fn sort(mut self, sort: Sort) -> Self {
        self.sort = sort;
        self
    }

    /// If true, adds [`NA`] as the first category, which is used for every unknown label. Default: false.
    #[must_use]
    pub fn add_na(mut self, add_na: bool) -> Self {
        self.add_na = add_na;
        self
    }

    /// If true, removes given categories that no training label has. Requires a [`vocab`](Self::vocab).
    /// Default: false.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }
}

impl TargetBlock for CategoryBlock {
    type Label = String;

    fn setup(&mut self, labels: &mut dyn Iterator<Item = &String>) -> Result<()> {
        if let Some(given) = &self.given {
            twice(given)?;
        } else if self.strict {
            let why = "it removes categories of a given `vocab`, but there is none";
            return Err(Error::config("strict", why));
        }
        let labels: Vec<&str> = match (&self.given, self.strict) {
            (Some(given), false) => given.iter().map(String::as_str).collect(),
            (Some(given), true) => {
                let used: BTreeSet<_> = labels.map(String::as_str).collect();
                given.iter().map(String::as_str).filter(|name| used.contains(name)).collect()
            }
            (None, _) => labels.map(String::as_str).collect(),
        };
        self.vocab = Vocab::new(labels.into_iter(), self.sort, self.add_na)?;
        match &*self.vocab.names {
            [] => Err(Error::config("vocab", "there are no categories")),
            [one] => {
                let why = format!("every label is `{one}`: a classifier needs two categories");
                Err(Error::config("get_y", why))
            }
            _ => Ok(()),
        }
    }

    fn encode(&self, label: &String) -> Result<Target> {
        let known = self.vocab.position(label).or(self.add_na.then_some(0));
        known
            .map(Target::Category)
            .ok_or_else(|| unknown(&[label], self.given.is_some(), ", or add `add_na(true)` to it"))
    }

    fn decode(&self, target: &Target) -> Option<String> {
        let Target::Category(c) = target else { return None };
        self.vocab.names.get(*c).cloned()
    }

    fn task(&self) -> Task {
        Task::Category { vocab: self.vocab.names.clone() }
    }
}

/// Returns the error of labels that are not in the vocabulary, with a suggestion. `given` is true if the
/// user set the vocabulary, and `also` is another suggestion for this block.
pub(in crate::data) fn unknown(labels: &[&String], given: bool, also: &str) -> Error {
    let names: Vec<_> = labels.iter().map(|l| format!("`{l}`")).collect();
    let names = names.join(", ");
    let why = match given {
        true => {
            format!("{names} is not in the given `vocab`: add it{also}")
        }
        false => format!(
            "{names} is not among the training labels: move such an item to the training split, set \
             a `vocab`{also}"
        ),
    };
    Error::label(names, why)
}

/// Returns an error if a given vocabulary has a duplicate category.
pub(in crate::data) fn twice(given: &[String]) -> Result<()> {
    let mut seen = HashSet::new();
    match given.iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(Error::config("vocab", format!("`{name}` occurs twice"))),
        None => Ok(()),
    }
}
