//! Targets of several categories for each item.

use super::category::{Sort, TargetBlock, Vocab, twice, unknown};
use crate::{
    error::{Error, Result},
    sample::{Target, Task},
};
use std::collections::BTreeSet;

/// Any number of categories for each item, by name: fastai's `MultiCategoryBlock`.
///
/// The vocabulary is built from the training labels, sorted by code point; a given one keeps its order, as
/// in fastai. Unlike with a [`CategoryBlock`](crate::data::CategoryBlock), an unknown label is an error
/// even with `add_na`.
///
/// ```
/// use finetune::{data::{MultiCategoryBlock, TargetBlock}, sample::Target};
///
/// let labels = [vec!["sea".to_owned(), "boat".to_owned()], vec![]];
/// let mut block = MultiCategoryBlock::new();
/// block.setup(&mut labels.iter())?;
/// assert_eq!(block.task().vocab(), ["boat", "sea"]);
/// assert_eq!(block.encode(&labels[0])?, Target::Categories(vec![1, 0]));
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct MultiCategoryBlock {
    given: Option<Vec<String>>,
    add_na: bool,
    vocab: Vocab,
}

impl MultiCategoryBlock {
    /// Creates a block that builds its categories from the training labels.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the categories, in the order of the model's outputs. Default: those of the training labels.
    #[must_use]
    pub fn vocab<S: Into<String>>(mut self, vocab: impl IntoIterator<Item = S>) -> Self {
        self.given = Some(vocab.into_iter().map(Into::into).collect());
        self
    }

    /// If true, adds [`NA`](crate::data::NA) as the first category, for items that use it. An unknown label
    /// is still an error, as in fastai. Default: false.
    #[must_use]
    pub fn add_na(mut self, add_na: bool) -> Self {
        self.add_na = add_na;
        self
    }
}

impl TargetBlock for MultiCategoryBlock {
    type Label = Vec<String>;

    fn setup(&mut self, labels: &mut dyn Iterator<Item = &Vec<String>>) -> Result<()> {
        self.vocab = match &self.given {
            Some(given) => twice(given).and_then(|()| {
                Vocab::new(given.iter().map(String::as_str), Sort::Given, self.add_na)
            })?,
            None => {
                let names: BTreeSet<&str> = labels.flatten().map(String::as_str).collect();
                Vocab::new(names.into_iter(), Sort::CodePoints, self.add_na)?
            }
        };
        if self.vocab.names.is_empty() {
            return Err(Error::config("get_y", "no training item has a label"));
        }
        Ok(())
    }

    fn encode(&self, label: &Vec<String>) -> Result<Target> {
        let (mut known, mut strange) = (vec![], vec![]);
        for name in label {
            match self.vocab.position(name) {
                Some(position) => known.push(position),
                None => strange.push(name),
            }
        }
        if !strange.is_empty() {
            return Err(unknown(&strange, self.given.is_some(), ""));
        }
        Ok(Target::Categories(known))
    }

    fn decode(&self, target: &Target) -> Option<Vec<String>> {
        let Target::Categories(found) = target else { return None };
        found.iter().map(|&c| self.vocab.names.get(c).cloned()).collect()
    }

    fn task(&self) -> Task {
        Task::Categories { vocab: self.vocab.names.clone() }
    }
}

/// Any number of categories for each item, encoded as a boolean for each: fastai's
/// `MultiCategoryBlock(encoded=True, vocab=…)`.
#[derive(Debug, Clone)]
pub struct EncodedMultiCategoryBlock {
    vocab: Vec<String>,
}

impl EncodedMultiCategoryBlock {
    /// Creates the block; `vocab` are the names of a label's booleans, in order.
    pub fn new<S: Into<String>>(vocab: impl IntoIterator<Item = S>) -> Self {
        Self { vocab: vocab.into_iter().map(Into::into).collect() }
    }
}

impl TargetBlock for EncodedMultiCategoryBlock {
    type Label = Vec<bool>;

    fn setup(&mut self, _: &mut dyn Iterator<Item = &Vec<bool>>) -> Result<()> {
        if self.vocab.is_empty() {
            return Err(Error::config("vocab", "there are no categories"));
        }
        twice(&self.vocab)
    }

    fn encode(&self, label: &Vec<bool>) -> Result<Target> {
        if label.len() != self.vocab.len() {
            let why =
                format!("there are {} values, but {} categories", label.len(), self.vocab.len());
            return Err(Error::label(format!("{label:?}"), why));
        }
        let on = label.iter().enumerate().filter(|&(_, &yes)| yes);
        Ok(Target::Categories(on.map(|(c, _)| c).collect()))
    }

    fn decode(&self, target: &Target) -> Option<Vec<bool>> {
        let Target::Categories(found) = target else { return None };
        Some((0..self.vocab.len()).map(|c| found.contains(&c)).collect())
    }

    fn task(&self) -> Task {
        Task::Categories { vocab: self.vocab.clone().into() }
    }
}
