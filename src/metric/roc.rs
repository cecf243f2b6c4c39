//! The receiver operating characteristic.

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
    /// another item. `None` if either kind does not occur.
    pub auc: Option<f64>,
}

impl Roc {
    /// Computes the curve from the score of each item, with true if the item belongs to the category.
    #[must_use]
    pub fn new(scores: impl Iterator<Item = (f64, bool)>) -> Self {
        let mut all: Vec<_> = scores.collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let positives = all.iter().filter(|s| s.1).count();
        let negatives = all.len() - positives;
        let (mut points, mut thresholds) = (vec![(0.0, 0.0)], vec![f64::INFINITY]);
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
    /// 0.5 and the best is 1. `None` without a curve.
    ///
    /// McClish, [Analyzing a portion of the ROC curve](https://doi.org/10.1177/0272989X8900900307).
    #[must_use]
    pub fn partial_auc(&self, max_fpr: f64) -> Option<f64> {
        self.auc?;
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
        Some(0.5 * (1.0 + (area - chance) / (max_fpr - chance)))
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
}
