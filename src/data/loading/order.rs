//! The order of items in a pass.

use crate::seed::Rng;
use rand::Rng as _;

/// Draws a number below `n`. The bias of the multiplication is below 2^-32 for any list that fits into
/// memory.
fn below(n: usize, rng: &mut Rng) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Shuffles in place. Implemented here, so that orders do not change with a dependency.
pub(crate) fn shuffle<T>(list: &mut [T], rng: &mut Rng) {
    for i in (1..list.len()).rev() {
        list.swap(i, below(i + 1, rng));
    }
}

/// Draws `n` indices with replacement and probabilities proportional to the weights; `sums` are their
/// running sums.
pub(in crate::data) fn weighted(sums: &[f64], n: usize, rng: &mut Rng) -> Vec<usize> {
    let total = sums.last().copied().unwrap_or(0.0);
    let draw = |_| {
        let unit = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let at = unit * total;
        // A product that rounds up to the total must still select the last weight.
        sums.partition_point(|&s| s <= at).min(sums.len() - 1)
    };
    (0..n).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Seed, Stream};

    #[test]
    fn every_order_is_as_likely() {
        let mut counts = std::collections::HashMap::new();
        for pass in 0..6000 {
            let mut list = [0, 1, 2];
            shuffle(&mut list, &mut Seed(1).rng(Stream::Shuffle { pass }));
            *counts.entry(list).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        // 1000 expected per item, with a standard deviation of 29.
        assert!(counts.values().all(|n| (880..1120).contains(n)), "{counts:?}");
    }

    #[test]
    fn weights_are_kept_and_zero_is_never_drawn() {
        let drawn = weighted(&[0.0, 1.0, 1.0, 4.0], 8000, &mut Seed(1).rng(Stream::Split));
        let count = |i| drawn.iter().filter(|&&d| d == i).count();
        assert_eq!((count(0), count(2)), (0, 0));
        assert!((1850..2150).contains(&count(1)), "{}", count(1));
        assert_eq!(count(1) + count(3), 8000);
    }
}
