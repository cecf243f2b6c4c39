//! Random splits by whole groups.

use crate::{
    data::{Splits, Splitter, loading::order::shuffle},
    error::{Error, Result},
    seed::{Seed, Stream},
};
use std::{collections::BTreeMap, fmt};

/// Reads the class or the group of an item.
pub(super) type Key<I> = Box<dyn Fn(&I) -> Result<String> + Send + Sync>;

/// Splits at random by whole groups, so that related items (photos of one animal, slides of one patient)
/// are always in the same split.
///
/// Groups are shuffled and added to validation until it contains the required fraction of the items; the
/// indices in each split are sorted.
pub struct GroupSplitter<I> {
    valid_pct: f64,
    group: Key<I>,
    seed: Seed,
}

impl<I> fmt::Debug for GroupSplitter<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("GroupSplitter");
        f.field("valid_pct", &self.valid_pct).finish_non_exhaustive()
    }
}

impl<I> GroupSplitter<I> {
    /// Creates a splitter that uses at least the fraction `valid_pct`, between 0 and 1, for validation. `group`
    /// returns the group of an item.
    #[must_use]
    pub fn new(
        valid_pct: f64,
        group: impl Fn(&I) -> Result<String> + Send + Sync + 'static,
    ) -> Self {
        Self { valid_pct, group: Box::new(group), seed: Seed(42) }
    }

    /// Sets the seed. Default: 42.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Seed(seed);
        self
    }
}

impl<I> Splitter<I> for GroupSplitter<I> {
    fn split(&self, items: &[I]) -> Result<Splits> {
        if !(self.valid_pct > 0.0 && self.valid_pct < 1.0) {
            let why = format!("is {}; it must be between 0 and 1", self.valid_pct);
            return Err(Error::config("GroupSplitter", why));
        }
        let mut groups: Vec<_> = by_key(items, &self.group)?.into_values().collect();
        shuffle(&mut groups, &mut self.seed.rng(Stream::Split));
        let wanted = self.valid_pct * items.len() as f64;
        let (mut train, mut valid) = (vec![], vec![]);
        for members in groups {
            if (valid.len() as f64) < wanted { &mut valid } else { &mut train }.extend(members);
        }
        if train.is_empty() {
            let why =
                "no group is left for training: lower `valid_pct`, or there is only one group";
            return Err(Error::config("GroupSplitter", why));
        }
        train.sort_unstable();
        valid.sort_unstable();
        Ok(Splits { train, valid })
    }
}

/// Returns the indices of the items of each key, with sorted keys.
pub(super) fn by_key<I>(items: &[I], key: &Key<I>) -> Result<BTreeMap<String, Vec<usize>>> {
    let mut members = BTreeMap::<_, Vec<_>>::new();
    for (i, item) in items.iter().enumerate() {
        members.entry(key(item)?).or_default().push(i);
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panics")]
    use super::*;

    #[test]
    fn groups_stay_together() {
        let items: Vec<String> = (0..40).map(|i| format!("{}-{i}", i % 7)).collect();
        let group = |item: &String| Ok(item[..1].to_owned());
        for seed in 0..20 {
            let splits = GroupSplitter::new(0.3, group).seed(seed).split(&items).unwrap();
            let has = |list: &[usize], g: usize| list.iter().any(|i| i % 7 == g);
            assert!((0..7).all(|g| has(&splits.train, g) != has(&splits.valid, g)));
            assert!(splits.valid.len() >= 12);
        }
    }
}
