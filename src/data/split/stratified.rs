//! Random splits with the same proportions of classes in both splits.

use super::group::{Key, by_key};
use crate::{
    data::{Splits, Splitter, loading::order::shuffle},
    error::{Error, Result},
    seed::{Seed, Stream},
};
use std::fmt;

/// Splits at random like scikit-learn's `train_test_split`, optionally with each class in the same
/// proportion in both splits.
///
/// The sizes are scikit-learn's: validation is rounded up, training is the rest or rounded down. The draws
/// are this crate's own. If stratified, each class has its fraction of each split, rounded down, and the
/// remaining places go to the largest remainders, earlier classes first.
///
/// ```
/// use finetune::data::{Splitter, TrainTestSplitter};
///
/// let items = ["cat", "cat", "cat", "cat", "cat", "cat", "dog", "dog", "dog"];
/// let splits = TrainTestSplitter::new(1.0 / 3.0)
///     .stratify(|item: &&str| Ok(item.to_string()))
///     .split(&items)?;
/// let dogs = splits.valid.iter().filter(|&&i| items[i] == "dog").count();
/// assert_eq!((splits.valid.len(), dogs), (3, 1));
/// # Ok::<(), finetune::Error>(())
/// ```
pub struct TrainTestSplitter<I> {
    test_size: f64,
    train_size: Option<f64>,
    stratify: Option<Key<I>>,
    shuffle: bool,
    seed: Seed,
}

impl<I> fmt::Debug for TrainTestSplitter<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainTestSplitter")
            .field("test_size", &self.test_size)
            .field("train_size", &self.train_size)
            .field("stratify", &self.stratify.is_some())
            .finish_non_exhaustive()
    }
}

impl<I> TrainTestSplitter<I> {
    /// Creates a splitter that uses the fraction `test_size` of the items, between 0 and 1 and rounded up, for
    /// validation.
    #[must_use]
    pub fn new(test_size: f64) -> Self {
        Self { test_size, train_size: None, stratify: None, shuffle: true, seed: Seed(42) }
    }

    /// Sets the fraction for training, rounded down. Default: all that is not for validation.
    #[must_use]
    pub fn train_size(mut self, train_size: f64) -> Self {
        self.train_size = Some(train_size);
        self
    }

    /// Keeps the proportions of the classes that `class` returns. Default: off.
    #[must_use]
    pub fn stratify(
        mut self,
        class: impl Fn(&I) -> Result<String> + Send + Sync + 'static,
    ) -> Self {
        self.stratify = Some(Box::new(class));
        self
    }

    /// If true, items are shuffled. Otherwise, training is the start of the items followed by validation,
    /// and `stratify` cannot be used. Default: true.
    #[must_use]
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.shuffle = shuffle;
        self
    }

    /// Sets the seed. Default: 42.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Seed(seed);
        self
    }

    /// Returns the numbers of training and validation items.
    fn sizes(&self, n: usize) -> Result<(usize, usize)> {
        let inside = |part: f64| part > 0.0 && part < 1.0;
        let test = (self.test_size * n as f64).ceil() as usize;
        let train = self.train_size.map_or(n.saturating_sub(test), |t| (t * n as f64) as usize);
        let parts = inside(self.test_size) && self.train_size.is_none_or(inside);
        if !parts || train == 0 || train + test > n {
            let (valid, given) = (self.test_size, self.train_size);
            let train = given.map_or("the rest".to_owned(), |t| t.to_string());
            let why = format!("{n} items cannot be split into {train} and {valid}");
            return Err(Error::config("TrainTestSplitter", why));
        }
        Ok((train, test))
    }
}

impl<I> Splitter<I> for TrainTestSplitter<I> {
    fn split(&self, items: &[I]) -> Result<Splits> {
        let (n_train, n_test) = self.sizes(items.len())?;
        let mut rng = self.seed.rng(Stream::Split);
        let mut order: Vec<usize> = (0..items.len()).collect();
        let Some(class) = &self.stratify else {
            if self.shuffle {
                shuffle(&mut order, &mut rng);
            }
            let mut valid = order.split_off(n_train);
            valid.truncate(n_test);
            return Ok(Splits { train: order, valid });
        };
        let invalid = |why: String| Err(Error::config("TrainTestSplitter", why));
        if !self.shuffle {
            return invalid("`stratify` shuffles: remove `shuffle(false)`".into());
        }
        let mut classes = by_key(items, class)?;
        if let Some((name, _)) = classes.iter().find(|(_, members)| members.len() < 2) {
            return invalid(format!(
                "`{name}` has one item, but each split needs one: add items to this class, or remove it"
            ));
        }
        if n_train.min(n_test) < classes.len() {
            let least = n_train.min(n_test);
            return invalid(format!(
                "a split of {least} items cannot hold {} classes",
                classes.len()
            ));
        }
        let counts: Vec<usize> = classes.values().map(Vec::len).collect();
        let test = apportion(&counts, n_test);
        let left: Vec<usize> = counts.iter().zip(&test).map(|(n, t)| n - t).collect();
        let train = apportion(&left, n_train);
        let mut splits = Splits::default();
        for ((members, test), train) in classes.values_mut().zip(test).zip(train) {
            shuffle(members, &mut rng);
            splits.valid.extend(&members[..test]);
            splits.train.extend(&members[test..test + train]);
        }
        shuffle(&mut splits.train, &mut rng);
        shuffle(&mut splits.valid, &mut rng);
        Ok(splits)
    }
}

/// Distributes `n` places in proportion to `counts`: rounded down, then by largest remainder.
fn apportion(counts: &[usize], n: usize) -> Vec<usize> {
    let total: usize = counts.iter().sum();
    let share = |count: &usize| (count * n / total, count * n % total);
    let (mut places, rest): (Vec<_>, Vec<_>) = counts.iter().map(share).unzip();
    let mut by_rest: Vec<usize> = (0..counts.len()).collect();
    by_rest.sort_by_key(|&i| std::cmp::Reverse(rest[i]));
    let missing = n - places.iter().sum::<usize>();
    for &i in &by_rest[..missing] {
        places[i] += 1;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(item: &&str) -> Result<String> {
        Ok(item[..1].to_owned())
    }

    #[test]
    fn places_follow_the_largest_remainders() {
        assert_eq!(apportion(&[50, 30, 20], 10), [5, 3, 2]);
        assert_eq!(apportion(&[7, 7, 7], 4), [2, 1, 1]);
        assert_eq!(apportion(&[9, 1], 1), [1, 0]);
    }

    #[test]
    fn stratified_splits_share_no_item_and_lose_none() {
        let items: Vec<_> = ["a", "b", "a", "c", "b", "a", "a", "b", "c", "a"].to_vec();
        let splits = TrainTestSplitter::new(0.3).stratify(first).split(&items).unwrap();
        let mut all = [splits.train.clone(), splits.valid.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        let count = |c| splits.valid.iter().filter(|&&i| items[i] == c).count();
        assert_eq!([count("a"), count("b"), count("c")], [1, 1, 1]);
    }

    #[test]
    fn what_cannot_be_split_is_an_error() {
        let split = |s: TrainTestSplitter<&str>| s.split(&["a", "a", "b"]).unwrap_err().to_string();
        assert!(split(TrainTestSplitter::new(0.0)).contains("cannot be split"));
        assert!(split(TrainTestSplitter::new(0.5).train_size(0.9)).contains("cannot be split"));
        let one = split(TrainTestSplitter::new(0.4).stratify(first));
        assert!(one.contains("`b` has one item"), "{one}");
    }
}
