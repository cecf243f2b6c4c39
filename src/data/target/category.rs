//! How a label becomes a target: categories.

use crate::{
    error::{Error, Result},
    sample::{Target, Task},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt::Debug,
    sync::Arc,
};

/// How labels become targets. It is set up on a copy for each source, from the training labels.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no target block",
    note = "`CategoryBlock`, `MultiCategoryBlock`, `RegressionBlock`, `MaskBlock`, `PointBlock` and \
            `(BBoxBlock, BBoxLblBlock)` are"
)]
pub trait TargetBlock: Clone + Debug + Send + Sync + 'static {
    /// What `get_y` returns.
    type Label: Send + Sync + 'static;

    /// Learns what it must, such as a vocabulary, from the labels of the training items.
    ///
    /// # Errors
    /// [`Error::Config`] if a task cannot be made of them.
    fn setup(&mut self, labels: &mut dyn Iterator<Item = &Self::Label>) -> Result<()>;

    /// The target of a label.
    ///
    /// # Errors
    /// [`Error::Label`] if the label does not fit; the caller puts the item's name into it.
    fn encode(&self, label: &Self::Label) -> Result<Target>;

    /// The label of a target, or `None` for a target of another kind.
    fn decode(&self, target: &Target) -> Option<Self::Label>;

    /// Whether the target of a label can be made, as far as it can be told without opening the image.
    /// Called before the first batch. Default: it can.
    ///
    /// # Errors
    /// What keeps it from being made, such as a mask that does not exist.
    fn check(&self, label: &Self::Label) -> Result<()> {
        let _ = label;
        Ok(())
    }

    /// Whether targets are made each time their item is loaded, and not once before the first batch:
    /// for targets that are large. Default: false.
    fn deferred(&self) -> bool {
        false
    }

    /// What a model, a loss and an export need to know: the vocabulary, the number of outputs. The
    /// default loss follows from it.
    fn task(&self) -> Task;
}

/// The order of a vocabulary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// By code points, as fastai sorts texts: capitals before small letters, `10` before `2`.
    #[default]
    CodePoints,
    /// By value, as fastai sorts labels that are numbers. Every category must be one.
    Numbers,
    /// As they come first.
    Given,
}

/// The name of the category for what is unknown, which `add_na` puts first.
pub const NA: &str = "#na#";

/// A list of categories and the way back from a name to its position.
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
                    _ => Err(Error::config("sort", format!("`{name}` is no number"))),
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

/// One category for each item, by name: <https://docs.fast.ai/vision.data.html> and `Categorize`.
///
/// The vocabulary is that of the *training* labels, sorted by code points. A label that is not in it
/// is an error that names the item, unless [`add_na`](Self::add_na) is set.
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
    /// Categories from the training labels.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The categories. They are still sorted, as in fastai: see [`sort`](Self::sort). Default: those
    /// of the training labels.
    #[must_use]
    pub fn vocab<S: Into<String>>(mut self, vocab: impl IntoIterator<Item = S>) -> Self {
        self.given = Some(vocab.into_iter().map(Into::into).collect());
        self
    }

    /// The order of the vocabulary. Default: [`Sort::CodePoints`].
    #[must_use]
    pub fn sort(mut self, sort: Sort) -> Self {
        self.sort = sort;
        self
    }

    /// Adds [`NA`] as the first category, which then stands for every label that is unknown. Default:
    /// false.
    #[must_use]
    pub fn add_na(mut self, add_na: bool) -> Self {
        self.add_na = add_na;
        self
    }

    /// Leaves out the given categories that no training label has. It needs a [`vocab`](Self::vocab).
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
            let why = "it leaves out categories of a given `vocab`, and there is none";
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

/// The error of labels that are not in the vocabulary, with what would help: `given` is whether the caller
/// gave it, and `also` what else helps with this block.
pub(in crate::data) fn unknown(labels: &[&String], given: bool, also: &str) -> Error {
    let names: Vec<_> = labels.iter().map(|l| format!("`{l}`")).collect();
    let names = names.join(", ");
    let why = match given {
        true => {
            format!("{names} is not in the `vocab` that the block was given: add it there{also}")
        }
        false => format!(
            "{names} is not among the training labels: move such an item to the training split, give \
             the block a `vocab`{also}"
        ),
    };
    Error::Label { item: names, why }
}

/// Returns an error if a given vocabulary names a category twice.
pub(in crate::data) fn twice(given: &[String]) -> Result<()> {
    let mut seen = HashSet::new();
    match given.iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(Error::config("vocab", format!("`{name}` is there twice"))),
        None => Ok(()),
    }
}
