//! Which items are for training and which for validation: at random.

use crate::{
    data::TorchRng,
    error::{Error, Result},
};
use std::sync::{Mutex, PoisonError};

/// The positions of the training and of the validation items, in the order in which they are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Splits {
    /// For training.
    pub train: Vec<usize>,
    /// For validation. May be empty.
    pub valid: Vec<usize>,
}

impl Splits {
    /// Both lists by what `is_valid` says of each position.
    pub(in crate::data) fn by(n: usize, is_valid: impl FnMut(&usize) -> bool) -> Self {
        let (valid, train) = (0..n).partition(is_valid);
        Self { train, valid }
    }
}

/// Splits items into training and validation. A closure `Fn(&[I]) -> Result<Splits>` is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot split items of type `{I}`",
    note = "a closure `|items: &[{I}]| Ok(Splits {{ train, valid }})` can"
)]
pub trait Splitter<I>: Send + Sync {
    /// The positions of both splits.
    ///
    /// # Errors
    /// [`Error::Config`] if the splitter's options do not fit these items.
    fn split(&self, items: &[I]) -> Result<Splits>;
}

impl<I, F: Fn(&[I]) -> Result<Splits> + Send + Sync> Splitter<I> for F {
    fn split(&self, items: &[I]) -> Result<Splits> {
        self(items)
    }
}

/// Where a random splitter's numbers come from.
#[derive(Debug)]
enum Source {
    Seed(u64),
    Shared(Box<Mutex<TorchRng>>),
}

impl Source {
    fn permutation(&self, n: usize) -> Vec<usize> {
        match self {
            Self::Seed(seed) => TorchRng::new(*seed).permutation(n),
            Self::Shared(rng) => rng.lock().unwrap_or_else(PoisonError::into_inner).permutation(n),
        }
    }
}

/// Splits at random, a given part for validation.
///
/// A seed gives the very positions that it gives in fastai, in the same order:
/// <https://docs.fast.ai/data.transforms.html#randomsplitter>. fastai re-seeds PyTorch's own
/// generator for it; here nothing else is touched.
///
/// ```
/// use finetune::data::{RandomSplitter, Splitter};
///
/// let splits = RandomSplitter::new(0.2).seed(42).split(&["item"; 10])?;
/// assert_eq!(splits.valid, [2, 6]);
/// assert_eq!(splits.train, [1, 8, 4, 5, 0, 9, 3, 7]);
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug)]
pub struct RandomSplitter {
    valid_pct: f64,
    source: Source,
}

impl RandomSplitter {
    /// The part `valid_pct`, 0 to 1, of the items is for validation, rounded down.
    #[must_use]
    pub fn new(valid_pct: f64) -> Self {
        Self { valid_pct, source: Source::Seed(42) }
    }

    /// The seed. Default: 42, where fastai splits differently each time.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.source = Source::Seed(seed);
        self
    }

    /// Draws from `rng`, each split going on where the last one ended, as fastai does without a
    /// seed. Default: a fixed seed.
    #[must_use]
    pub fn generator(mut self, rng: TorchRng) -> Self {
        self.source = Source::Shared(Box::new(Mutex::new(rng)));
        self
    }
}

impl<I> Splitter<I> for RandomSplitter {
    fn split(&self, items: &[I]) -> Result<Splits> {
        if !(0.0..=1.0).contains(&self.valid_pct) {
            let why = format!("{} is no part of the items: take 0 to 1", self.valid_pct);
            return Err(Error::config("RandomSplitter", why));
        }
        let mut valid = self.source.permutation(items.len());
        let train = valid.split_off(part(self.valid_pct, items.len()));
        Ok(Splits { train, valid })
    }
}

/// Takes random subsets for training and validation and leaves out the rest:
/// <https://docs.fast.ai/data.transforms.html#randomsubsetsplitter>, with the same positions by seed.
#[derive(Debug)]
pub struct RandomSubsetSplitter {
    train_sz: f64,
    valid_sz: f64,
    source: Source,
}

impl RandomSubsetSplitter {
    /// The parts `train_sz` and `valid_sz` of the items, each between 0 and 1 and rounded down.
    #[must_use]
    pub fn new(train_sz: f64, valid_sz: f64) -> Self {
        Self { train_sz, valid_sz, source: Source::Seed(42) }
    }

    /// The seed. Default: 42.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.source = Source::Seed(seed);
        self
    }
}

impl<I> Splitter<I> for RandomSubsetSplitter {
    fn split(&self, items: &[I]) -> Result<Splits> {
        let (train, valid) = (self.train_sz, self.valid_sz);
        let inside = |part: f64| part > 0.0 && part < 1.0;
        if !inside(train) || !inside(valid) || train + valid > 1.0 {
            let why =
                format!("{train} and {valid} must be between 0 and 1, and 1 together at most");
            return Err(Error::config("RandomSubsetSplitter", why));
        }
        let n = items.len();
        let mut train_items = self.source.permutation(n);
        let mut valid_items = train_items.split_off(part(train, n));
        valid_items.truncate(part(valid, n));
        Ok(Splits { train: train_items, valid: valid_items })
    }
}

/// A part of `n`, rounded down as Python's `int` rounds it: 0.29 of 100 is 28.
pub(in crate::data) fn part(part: f64, n: usize) -> usize {
    (part * n as f64) as usize
}
