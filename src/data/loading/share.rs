//! The share of each batch that one of several processes loads.

use crate::sample::Batch;
use std::ops::Range;

/// One of several equal shares of each batch, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) index: usize,
    pub(crate) of: usize,
}

impl Share {
    /// The whole batch.
    pub(crate) const WHOLE: Self = Self { index: 0, of: 1 };

    /// Returns the places of this share in a batch of `n` items. Shares differ by at most one item.
    pub(crate) fn range(self, n: usize) -> Range<usize> {
        self.index * n / self.of..(self.index + 1) * n / self.of
    }
}

/// The part of a batch that one process loads.
#[derive(Debug)]
pub(crate) struct BatchPart {
    /// `None` if all items were skipped.
    pub(crate) batch: Option<Batch>,
    /// The place of each item in the global batch.
    pub(crate) places: Vec<usize>,
    /// The number of items of the global batch, including skipped ones.
    pub(crate) whole: usize,
    /// True if the batch has too few items for this share, and `batch` is a placeholder item of another
    /// share that is not counted.
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
