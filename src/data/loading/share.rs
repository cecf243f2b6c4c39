//! The part of each batch that one of several processes loads.

use crate::sample::Batch;
use std::ops::Range;

/// One of several equal parts of each batch, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) index: usize,
    pub(crate) of: usize,
}

impl Share {
    /// All of each batch.
    pub(crate) const WHOLE: Self = Self { index: 0, of: 1 };

    /// The places of this part in a batch of `n` items. Parts differ by one item at most.
    pub(crate) fn range(self, n: usize) -> Range<usize> {
        self.index * n / self.of..(self.index + 1) * n / self.of
    }
}

/// What one process has of a batch.
#[derive(Debug)]
pub(crate) struct BatchPart {
    /// None if all of it were skipped.
    pub(crate) batch: Option<Batch>,
    /// The place of each item in the whole batch.
    pub(crate) places: Vec<usize>,
    /// The number of items of the whole batch, those that were skipped among them.
    pub(crate) whole: usize,
    /// Whether the batch has too few items for this share, and `batch` is an item of another share that
    /// does not count here.
    pub(crate) stand_in: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_a_batch_and_nest() {
        for n in 0..40 {
            let shards: Vec<_> = (0..8).map(|index| Share { index, of: 8 }.range(n)).collect();
            for of in [1, 2, 4, 8] {
                let each = 8 / of;
                for index in 0..of {
                    let share = Share { index, of }.range(n);
                    assert_eq!(share.start, shards[index * each].start);
                    assert_eq!(share.end, shards[(index + 1) * each - 1].end);
                }
            }
            assert_eq!(shards[0].start, 0);
            assert_eq!(shards[7].end, n);
        }
    }
}
