//! How a label becomes a target: several categories, and numbers.

use super::category::{Sort, TargetBlock, Vocab, unknown};
use crate::{error::{Error, Result}, sample::{Target, Task}};
use std::{collections::BTreeSet, fmt::Debug, marker::PhantomData};

/// Any number of categories for each item, by name: fastai's `MultiCategoryBlock`.
///
/// The vocabulary is that of the training labels, sorted by code points; a given one keeps its order,
/// as in fastai. Unlike a [`CategoryBlock`](crate::data::CategoryBlock), an unknown label is an error even
/// with `add_na`.
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
    /// Categories from the training labels.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The categories, in the order of the model's outputs. Default: those of the training labels.
    #[must_use]
    pub fn vocab<S: Into<String>>(mut self, vocab: impl IntoIterator<Item = S>) -> Self {
        self.given = Some(vocab.into_iter().map(Into::into).collect());
        self
    }

    /// Adds [`NA`](crate::data::NA) as the first category. Default: false.
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
            Some(given) => Vocab::new(given.iter().map(String::as_str), Sort::Given, self.add_na)?,
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
            return Err(unknown(&strange));
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

/// Any number of categories for each item, already encoded as a yes or no for each: fastai's
/// `MultiCategoryBlock(encoded=True, vocab=…)`.
#[derive(Debug, Clone)]
pub struct EncodedMultiCategoryBlock {
    vocab: Vec<String>,
}

impl EncodedMultiCategoryBlock {
    /// `vocab` names the values of a label, in their order.
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
        Ok(())
    }

    fn encode(&self, label: &Vec<bool>) -> Result<Target> {
        if label.len() != self.vocab.len() {
            let why = format!("{} values for {} categories", label.len(), self.vocab.len());
            return Err(Error::Label { item: format!("{label:?}"), why });
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

/// One number, or a list of them.
pub trait RegressionLabel: Clone + Debug + Send + Sync + 'static {
    /// As a list.
    fn to_list(&self) -> Vec<f32>;

    /// From a list; `None` if it has another length.
    fn from_list(list: &[f32]) -> Option<Self>;
}

impl RegressionLabel for f32 {
    fn to_list(&self) -> Vec<f32> {
        vec![*self]
    }

    fn from_list(list: &[f32]) -> Option<Self> {
        <[Self; 1]>::try_from(list).ok().map(|[v]| v)
    }
}

impl RegressionLabel for Vec<f32> {
    fn to_list(&self) -> Vec<f32> {
        self.clone()
    }

    fn from_list(list: &[f32]) -> Option<Self> {
        Some(list.to_vec())
    }
}

/// Numbers for each item, such as an age or the place of a point: fastai's `RegressionBlock`.
///
/// ```
/// use finetune::{data::{RegressionBlock, TargetBlock}, sample::Target};
///
/// let mut age = RegressionBlock::one();
/// age.setup(&mut [31.0, 4.0].iter())?;
/// assert_eq!(age.encode(&31.0)?, Target::Values(vec![31.0]));
/// assert_eq!(RegressionBlock::new(2).encode(&vec![0.5, -1.0])?, Target::Values(vec![0.5, -1.0]));
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RegressionBlock<L = Vec<f32>> {
    n: usize,
    label: PhantomData<fn() -> L>,
}

impl RegressionBlock {
    /// `n` numbers for each item: `get_y` returns a `Vec<f32>`.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self { n, label: PhantomData }
    }
}

impl RegressionBlock<f32> {
    /// One number for each item: `get_y` returns an `f32`.
    #[must_use]
    pub fn one() -> Self {
        Self { n: 1, label: PhantomData }
    }
}

impl<L: RegressionLabel> TargetBlock for RegressionBlock<L> {
    type Label = L;

    fn setup(&mut self, _: &mut dyn Iterator<Item = &L>) -> Result<()> {
        if self.n == 0 {
            return Err(Error::config("RegressionBlock", "0 numbers leave nothing to predict"));
        }
        Ok(())
    }

    fn encode(&self, label: &L) -> Result<Target> {
        let values = label.to_list();
        let fails = |why| Err(Error::Label { item: format!("{label:?}"), why });
        if values.len() != self.n {
            return fails(format!("{} numbers where the block says {}", values.len(), self.n));
        }
        if let Some(v) = values.iter().find(|v| !v.is_finite()) {
            return fails(format!("{v} cannot be learned"));
        }
        Ok(Target::Values(values))
    }

    fn decode(&self, target: &Target) -> Option<L> {
        let Target::Values(values) = target else { return None };
        L::from_list(values)
    }

    fn task(&self) -> Task {
        Task::Values { n: self.n }
    }
}
