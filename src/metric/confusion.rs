//! Metrics of the confusion matrix.

use super::{Better, Metric, check_classes, flat, targets::Targets};
use crate::{
    error::{Error, Result},
    sample::Task,
};
use ndarray::{Array2, Axis};
use tch::{Kind, Tensor};

/// The confusion matrix, counted on the device.
#[derive(Debug, Default)]
pub(super) struct Counts {
    classes: i64,
    counts: Option<Tensor>,
}

impl Counts {
    /// Counts the predicted and the true classes of a batch.
    pub(super) fn add(&mut self, predicted: &Tensor, y: &Tensor, classes: i64) -> Result<()> {
        let (predicted, y) = flat(predicted, y)?;
        if self.counts.is_some() {
            check_classes(classes, self.classes)?;
        } else {
            let zeros = Tensor::f_zeros([classes * classes], (Kind::Int64, predicted.device()))?;
            (self.classes, self.counts) = (classes, Some(zeros));
        }
        let pair = y.f_to_kind(Kind::Int64)? * classes + predicted.f_to_kind(Kind::Int64)?;
        if let Some(counts) = &mut self.counts {
            let _ = counts.f_index_add_(0, &pair, &pair.ones_like())?;
        }
        Ok(())
    }

    /// Returns the matrix: rows are true classes, columns predicted ones. `None` if nothing was counted.
    /// Waits for the device.
    pub(super) fn matrix(&self) -> Result<Option<Array2<f64>>> {
        let Some(counts) = &self.counts else { return Ok(None) };
        let n = self.classes as usize;
        let all = Vec::<f64>::try_from(counts.to_kind(Kind::Double))?;
        Array2::from_shape_vec((n, n), all).map(Some).map_err(Error::other)
    }
}

/// Returns the numbers of true and of predicted items of each class.
pub(super) fn sums(matrix: &Array2<f64>) -> (Vec<f64>, Vec<f64>) {
    (matrix.sum_axis(Axis(1)).to_vec(), matrix.sum_axis(Axis(0)).to_vec())
}

/// Returns the classes that occur as targets or predictions.
pub(super) fn present(matrix: &Array2<f64>) -> Vec<usize> {
    let (truly, predicted) = sums(matrix);
    (0..truly.len()).filter(|&c| truly[c] + predicted[c] > 0.0).collect()
}

/// The conversion of outputs to classes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Decide {
    /// The highest output along the last dimension.
    Highest,
    /// Each category separately; predicted if its probability is at least 0.5.
    EachCategory,
}

impl Decide {
    /// Returns the predicted classes of a batch, and the number of possible classes.
    pub(super) fn classes(self, pred: &Tensor) -> Result<(Tensor, i64)> {
        let size = |dim: Option<&i64>| dim.copied().unwrap_or(0);
        Ok(match self {
            Self::Highest => (pred.f_argmax(-1, false)?, size(pred.size().last())),
            Self::EachCategory => (pred.f_sigmoid()?.f_ge(0.5)?, 2),
        })
    }

    fn targets(self) -> Targets {
        match self {
            Self::Highest => Targets::Category,
            Self::EachCategory => Targets::Categories,
        }
    }
}

/// A metric computed from the confusion matrix of an epoch. The counts stay on the device until its end.
#[derive(derive_more::Debug)]
pub struct ConfusionMetric<F> {
    name: &'static str,
    #[debug(skip)]
    f: F,
    decide: Decide,
    counts: Counts,
}

impl<F: Fn(&Array2<f64>) -> Option<f64> + Send> ConfusionMetric<F> {
    pub(super) fn new(name: &'static str, decide: Decide, f: F) -> Self {
        Self { name, f, decide, counts: Counts::default() }
    }
}

impl<F: Fn(&Array2<f64>) -> Option<f64> + Send> Metric for ConfusionMetric<F> {
    fn name(&self) -> &str {
        self.name
    }
    fn reset(&mut self) {
        self.counts = Counts::default();
    }
    fn update(&mut self, pred: &Tensor, y: &Tensor) -> Result<()> {
        let (predicted, classes) = self.decide.classes(pred)?;
        self.counts.add(&predicted, y, classes)
    }
    fn value(&self) -> Result<Option<f64>> {
        Ok(self.counts.matrix()?.and_then(|m| (self.f)(&m)))
    }
    fn better(&self) -> Option<Better> {
        Some(Better::Higher)
    }
    fn check(&self, task: &Task) -> Result<()> {
        self.decide.targets().check(self.name, task)
    }
}

/// Returns the Matthews correlation coefficient: fastai's `MatthewsCorrCoef`.
#[must_use]
pub fn matthews_corrcoef() -> ConfusionMetric<impl Fn(&Array2<f64>) -> Option<f64>> {
    ConfusionMetric::new("matthews_corrcoef", Decide::Highest, |m| Some(correlation(m)))
}

/// As [`matthews_corrcoef`], over all decisions, one per item and category. fastai's
/// `MatthewsCorrCoefMulti` always fails.
#[must_use]
pub fn matthews_corrcoef_multi() -> ConfusionMetric<impl Fn(&Array2<f64>) -> Option<f64>> {
    ConfusionMetric::new("matthews_corrcoef", Decide::EachCategory, |m| Some(correlation(m)))
}

fn correlation(matrix: &Array2<f64>) -> f64 {
    let (truly, predicted) = sums(matrix);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (n, right) = (matrix.sum(), matrix.diag().sum());
    let both = right * n - dot(&truly, &predicted);
    let spread = (n * n - dot(&predicted, &predicted)) * (n * n - dot(&truly, &truly));
    if spread == 0.0 { 0.0 } else { both / spread.sqrt() }
}

fn mean_recall(matrix: &Array2<f64>) -> (f64, f64) {
    let (truly, _) = sums(matrix);
    let occur: Vec<usize> = (0..truly.len()).filter(|&c| truly[c] > 0.0).collect();
    let n = occur.len() as f64;
    (occur.iter().map(|&c| matrix[[c, c]] / truly[c]).sum::<f64>() / n, n)
}

/// Returns the mean recall of the classes that occur: fastai's `BalancedAccuracy`.
#[must_use]
pub fn balanced_accuracy() -> ConfusionMetric<impl Fn(&Array2<f64>) -> Option<f64>> {
    ConfusionMetric::new("balanced_accuracy_score", Decide::Highest, |m| Some(mean_recall(m).0))
}

/// As [`balanced_accuracy`], scaled so that guessing gives 0: fastai's `BalancedAccuracy(adjusted=True)`.
#[must_use]
pub fn balanced_accuracy_adjusted() -> ConfusionMetric<impl Fn(&Array2<f64>) -> Option<f64>> {
    ConfusionMetric::new("balanced_accuracy_score", Decide::Highest, |m| {
        let (mean, n) = mean_recall(m);
        Some((mean - 1.0 / n) / (1.0 - 1.0 / n))
    })
}

/// The weight of a mistake in [`cohen_kappa`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KappaWeights {
    /// The same for all mistakes.
    #[default]
    Same,
    /// The distance between the classes.
    Linear,
    /// The squared distance between the classes.
    Quadratic,
}

/// Returns the agreement of predictions and targets beyond chance: fastai's `CohenKappa`. Classes that do
/// not occur are dropped before distances are counted, as in scikit-learn.
#[must_use]
pub fn cohen_kappa(weights: KappaWeights) -> ConfusionMetric<impl Fn(&Array2<f64>) -> Option<f64>> {
    ConfusionMetric::new("cohen_kappa_score", Decide::Highest, move |m| {
        let occur = present(m);
        let (truly, predicted) = sums(m);
        let (mut seen, mut by_chance) = (0.0, 0.0);
        for (i, &a) in occur.iter().enumerate() {
            for (j, &b) in occur.iter().enumerate() {
                let apart = i.abs_diff(j) as f64;
                let weight = match weights {
                    KappaWeights::Same => f64::from(i != j),
                    KappaWeights::Linear => apart,
                    KappaWeights::Quadratic => apart * apart,
                };
                seen += weight * m[[a, b]];
                by_chance += weight * truly[a] * predicted[b] / m.sum();
            }
        }
        Some(1.0 - seen / by_chance)
    })
}
