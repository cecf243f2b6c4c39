//! Calibration of predicted probabilities.

use std::num::NonZero;

/// The calibration of a model: its accuracy by predicted probability.
///
/// Guo et al., [On Calibration of Modern Neural Networks](https://arxiv.org/abs/1706.04599).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Calibration {
    /// Ranges of the probability of the predicted category, equally wide, from 0 to 1. Each includes its
    /// upper end but not its lower one.
    pub bins: Vec<Bin>,
    /// The expected calibration error: the mean distance between probability and accuracy over the bins,
    /// weighted by their items. 0 for a perfectly calibrated model; NaN without items.
    pub ece: f64,
}

/// One range of probabilities of a [`Calibration`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Bin {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The number of items in the range.
    pub items: usize,
    /// The mean probability of their predicted categories; NaN without items.
    pub confidence: f64,
    /// The accuracy of these items; NaN without items.
    pub accuracy: f64,
}

impl Calibration {
    /// Computes the calibration from the probability of the predicted category of each item, with true if
    /// it is correct.
    pub(super) fn new(items: impl Iterator<Item = (f64, bool)>, bins: NonZero<usize>) -> Self {
        let bins = bins.get();
        let mut sums = vec![(0_usize, 0.0_f64, 0_usize); bins];
        let mut n = 0_usize;
        for (p, right) in items {
            let at = ((p * bins as f64).ceil() as usize).clamp(1, bins) - 1;
            sums[at].0 += 1;
            sums[at].1 += p;
            sums[at].2 += usize::from(right);
            n += 1;
        }
        let end = |i: usize| i as f64 / bins as f64;
        let bins: Vec<Bin> = sums
            .iter()
            .enumerate()
            .map(|(i, &(items, sum, right))| Bin {
                low: end(i),
                high: end(i + 1),
                items,
                confidence: sum / items as f64,
                accuracy: right as f64 / items as f64,
            })
            .collect();
        let gap = |b: &Bin| (b.confidence - b.accuracy).abs() * b.items as f64;
        let gaps: f64 = bins.iter().filter(|b| b.items > 0).map(gap).sum();
        Self { bins, ece: gaps / n as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_weighted_gap() {
        // Two items at 0.9, one of them correct, and two at 0.6, both correct.
        let items = [(0.9, true), (0.9, false), (0.6, true), (0.6, true)];
        let ten = NonZero::new(10).unwrap();
        let c = Calibration::new(items.into_iter(), ten);
        assert_eq!(c.bins[8].items, 2, "0.9 ends the ninth bin");
        assert_eq!((c.bins[5].accuracy, c.bins[8].accuracy), (1.0, 0.5));
        assert!((c.ece - (0.4 * 2.0 + 0.4 * 2.0) / 4.0).abs() < 1e-12, "{}", c.ece);
        assert!(Calibration::new(std::iter::empty(), ten).ece.is_nan());
        assert_eq!(Calibration::new([(0.0, false), (1.0, true)].into_iter(), ten).ece, 0.0);
    }
}
