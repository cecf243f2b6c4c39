//! Random splits.

use crate::{
    data::TorchRng,
    error::{Error, Result},
};
use std::sync::{Mutex, PoisonError};

/// The indices of the training and of the validation items, in the order in which they are used. Exhaustive,
/// so that splitters of users can create it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Splits {
    /// The training items.
    pub train: Vec<usize>,
    /// The validation items. May be empty.
    pub valid: Vec<usize>,
}

impl Splits {
    /// Creates both lists from the result of `is_valid` for each index.
    pub(in crate::data) fn by(n: usize, is_valid: impl FnMut(&usize) -> bool) -> Self {
        let (valid, train) = (0..n).partition(is_valid);
        Self { train, valid }
    }
}

/// Splits items into training and validation. Implemented by closures `Fn(&[I]) -> Result<Splits>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot split items of type `{I}`",
    note = "use a closure `|items: &[{I}]| Ok(Splits {{ train, valid }})`"
)]
pub trait Splitter<I>: Send + Sync {
    /// Returns the indices of both splits.
    ///
    /// # Errors
    /// [`Error::Config`] if the splitter's options are not valid for these items.
    fn split(&self, items: &[I]) -> Result<Splits>;
}

impl<I, F: Fn(&[I]) -> Result<Splits> + Send + Sync> Splitter<I> for F {
    fn split(&self, items: &[I]) -> Result<Splits> {
        self(items)
    }
}

/// The source of a random splitter's numbers.
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

/// Splits at random, with a given fraction for validation: fastai's
/// [`RandomSplitter`](https://docs.fast.ai/data.transforms.html#randomsplitter).
///
/// A seed gives the same indices as in fastai, in the same order. fastai re-seeds PyTorch's generator for
/// this; this splitter does not.
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
    /// Creates a splitter that uses the fraction `valid_pct` of the items, between 0 and 1 and rounded down, for
    /// validation.
    #[must_use]
    pub fn new(valid_pct: f64) -> Self {
        Self { valid_pct, source: Source::Seed(42) }
    }

    /// Sets the seed. Default: 42; without a seed, fastai splits differently each time.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.source = Source::Seed(seed);
        self
    }

    /// Draws from `rng`; each split continues its sequence, as in fastai without a seed. Default: a fixed
    /// seed.
    #[must_use]
    pub fn generator(mut self, rng: TorchRng) -> Self {
        self.source = Source::Shared(Box::new(Mutex::new(rng)));
        self
    }
}

impl<I> Splitter<I> for RandomSplitter {
    fn split(&self, items: &[I]) -> Result<Splits> {
        if !(0.0..=1.0).contains(&self.valid_pct) {
            let why = format!("is {}; it must be between 0 and 1", self.valid_pct);
            return Err(Error::config("RandomSplitter", why));
        }
        let mut valid = self.source.permutation(items.len());
        let train = valid.split_off(part(self.valid_pct, items.len()));
        Ok(Splits { train, valid })
    }
}

/// Selects random subsets for training and validation and leaves out the rest: fastai's
/// [`RandomSubsetSplitter`](https://docs.fast.ai/data.transforms.html#randomsubsetsplitter), with the same
/// indices by seed.
#[derive(Debug)]
pub struct RandomSubsetSplitter {
    train_sz: f64,
    valid_sz: f64,
    source: Source,
}

impl RandomSubsetSplitter {
    /// Creates a splitter that uses the fractions `train_sz` and `valid_sz` of the items. Each is between 0 and 1,
    /// their sum is at most 1, and the numbers of items are rounded down.
    #[must_use]
    pub fn new(train_sz: f64, valid_sz: f64) -> Self {
        Self { train_sz, valid_sz, source: Source::Seed(42) }
    }

    /// Sets the seed. Default: 42.
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
            let why = format!(
                "the fractions are {train} and {valid}; they must be between 0 and 1, and at most 1 together"
            );
            return Err(Error::config("RandomSubsetSplitter", why));
        }
        let n = items.len();
        let mut train_items = self.source.permutation(n);
        let mut valid_items = train_items.split_off(part(train, n));
        valid_items.truncate(part(valid, n));
        Ok(Splits { train: train_items, valid: valid_items })
    }
}

/// Returns a fraction of `n`, rounded down as by Python's `int`: 0.29 of 100 is 28.
pub(in crate::data) fn part(part: f64, n: usize) -> usize {
    (part * n as f64) as usize
}
