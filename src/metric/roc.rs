//! The receiver operating characteristic.

use crate::error::{Error, Result};

/// The receiver operating characteristic of one category against all others: the false-positive and
/// the true-positive rate as the threshold falls.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Roc {
    /// (false-positive rate, true-positive rate), from (0, 0) to (1, 1), with a point for each distinct
    /// score.
    pub points: Vec<(f64, f64)>,
    /// The threshold of each point: items with at least this score count as positive. The first is
    /// infinity.
    pub thresholds: Vec<f64>,
    /// The area under the curve: the probability that an item of the category has a higher score than
    /// another item. `None` if either kind does not occur, or a score is NaN.
    pub auc: Option<f64>,
}

impl Roc {
    /// Computes the curve from the score of each item, with true if the item belongs to the category. If a
    /// score is NaN, the items have no order, and the curve ends at (0, 0).
    #[must_use]
    pub fn new(scores: impl Iterator<Item = (f64, bool)>) -> Self {
        let mut all: Vec<_> = scores.collect();
        let (mut points, mut thresholds) = (vec![(0.0, 0.0)], vec![f64::INFINITY]);
        if all.iter().any(|s| s.0.is_nan()) {
            return Self { points, thresholds, auc: None };
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let positives = all.iter().filter(|s| s.1).count();
        let negatives = all.len() - positives;
        let (mut hits, mut false_alarms) = (0_usize, 0_usize);
        for same in all.chunk_by(|a, b| a.0 == b.0) {
            let own = same.iter().filter(|s| s.1).count();
            hits += own;
            false_alarms += same.len() - own;
            let rate = |n: usize, of: usize| if of == 0 { 0.0 } else { n as f64 / of as f64 };
            points.push((rate(false_alarms, negatives), rate(hits, positives)));
            thresholds.push(same[0].0);
        }
        let both = positives > 0 && negatives > 0;
        let area = |w: &[(f64, f64)]| (w[1].0 - w[0].0) * f64::midpoint(w[1].1, w[0].1);
        let auc = both.then(|| points.windows(2).map(area).sum());
        Self { points, thresholds, auc }
    }

    /// Returns the area under the curve up to a false-positive rate, scaled so that chance gives
    /// 0.5 and the best is 1. `None` if [`auc`](Self::auc) is `None`.
    ///
    /// McClish, [Analyzing a portion of the ROC curve](https://doi.org/10.1177/0272989X8900900307).
    ///
    /// # Errors
    /// [`Error::Config`] if `max_fpr` is not above 0 and at most 1.
    pub fn partial_auc(&self, max_fpr: f64) -> Result<Option<f64>> {
        if !(max_fpr > 0.0 && max_fpr <= 1.0) {
            let why = format!("is {max_fpr}; it must be above 0 and at most 1");
            return Err(Error::config("max_fpr", why));
        }
        if self.auc.is_none() {
            return Ok(None);
        }
        let area: f64 = self
            .points
            .windows(2)
            .filter(|w| w[0].0 < max_fpr)
            .map(|w| {
                let ((from, a), (to, b)) = (w[0], w[1]);
                let end = to.min(max_fpr);
                let at_end = if to > from { a + (b - a) * (end - from) / (to - from) } else { b };
                (end - from) * f64::midpoint(a, at_end)
            })
            .sum();
        let chance = 0.5 * max_fpr * max_fpr;
        Ok(Some(0.5 * (1.0 + (area - chance) / (max_fpr - chance))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_and_area_are_those_of_scikit_learn() {
        let y = [false, false, true, true, false, true, true, false];
        let s = [0.1, 0.4, 0.35, 0.8, 0.4, 0.4, 0.9, 0.05];
        let roc = Roc::new(s.into_iter().zip(y));
        let (fpr, tpr): (Vec<_>, Vec<_>) = roc.points.iter().copied().unzip();
        assert_eq!(fpr, [0.0, 0.0, 0.0, 0.5, 0.5, 0.75, 1.0]);
        assert_eq!(tpr, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        assert_eq!(roc.thresholds, [f64::INFINITY, 0.9, 0.8, 0.4, 0.35, 0.1, 0.05]);
        assert_eq!(roc.auc, Some(0.8125));
        assert_eq!(Roc::new([(0.3, true)].into_iter()).auc, None);
        assert_eq!(Roc::new(std::iter::empty()).points, [(0.0, 0.0)]);
    }

    #[test]
    fn a_rate_outside_of_the_curve_is_an_error_and_nan_has_no_area() {
        let roc = Roc::new([(0.9, true), (0.4, false), (0.2, true)].into_iter());
        for wrong in [0.0, -0.5, 2.0, f64::NAN] {
            let error = roc.partial_auc(wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`max_fpr` is {wrong};")), "{error}");
        }
        assert_eq!(roc.partial_auc(1.0).unwrap(), roc.auc);
        let roc = Roc::new([(0.9, true), (f64::NAN, false), (0.2, false)].into_iter());
        assert_eq!((roc.auc, roc.partial_auc(0.5).unwrap()), (None, None));
    }
}
