//! Interpretation of data with numbers as targets.

use super::{
    Interpretation,
    kept::{of_any_task, unlabeled},
};
use crate::{
    error::{Error, Result},
    learner::Predictions,
    sample::{Target, Task},
};
use ndarray::{Array2, Axis};

/// Interprets the predictions of a regression model.
#[derive(Debug, Clone)]
pub struct RegressionInterpretation {
    all: Interpretation,
    targets: Array2<f64>,
    predicted: Array2<f64>,
}

of_any_task!(RegressionInterpretation);

impl RegressionInterpretation {
    /// Interprets existing predictions.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the task is not numbers, if a target is missing, or if the parts of the
    /// predictions do not match.
    pub fn from_predictions(predictions: Predictions) -> Result<Self> {
        let all = Interpretation::from_predictions(predictions)?;
        let p = all.predictions();
        let Task::Values { n } = p.task else {
            let why = "the task must be numbers per image";
            return Err(Error::mismatch("predictions", why));
        };
        let gather = |all: &[Target]| {
            let mut values = Array2::zeros((all.len(), n));
            for (i, target) in all.iter().enumerate() {
                match target {
                    Target::Values(v) if v.len() == n => {
                        for (j, x) in v.iter().enumerate() {
                            values[(i, j)] = f64::from(*x);
                        }
                    }
                    _ => return Err(unlabeled(p.items[i], &format!("{n} numbers"))),
                }
            }
            Ok(values)
        };
        let (targets, predicted) = (gather(&p.targets)?, gather(&p.decoded)?);
        Ok(Self { all, targets, predicted })
    }

    /// Returns the targets, `[items, numbers]`.
    #[must_use]
    pub fn targets(&self) -> &Array2<f64> {
        &self.targets
    }

    /// Returns the predictions, `[items, numbers]`.
    #[must_use]
    pub fn predicted(&self) -> &Array2<f64> {
        &self.predicted
    }

    /// Returns the prediction minus the target, `[items, numbers]`.
    #[must_use]
    pub fn residuals(&self) -> Array2<f64> {
        &self.predicted - &self.targets
    }

    /// Returns the mean absolute error of each number; NaN without items.
    #[must_use]
    pub fn mae(&self) -> Vec<f64> {
        self.mean(&self.residuals().mapv(f64::abs))
    }

    /// Returns the root mean squared error of each number; NaN without items.
    #[must_use]
    pub fn rmse(&self) -> Vec<f64> {
        self.mean(&self.residuals().mapv(|r| r * r)).into_iter().map(f64::sqrt).collect()
    }

    /// Returns the coefficient of determination of each number: 1 at best, 0 for predicting the
    /// mean of the targets, below 0 if worse. NaN or negative infinity if all targets are equal.
    #[must_use]
    pub fn r2(&self) -> Vec<f64> {
        let means = self.mean(&self.targets);
        let residuals = self.residuals();
        let sum = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        (0..self.targets.ncols())
            .map(|j| {
                let around = |t: &f64| t - means[j];
                let total = sum(&mut self.targets.column(j).iter().map(around));
                1.0 - sum(&mut residuals.column(j).iter().copied()) / total
            })
            .collect()
    }

    fn mean(&self, values: &Array2<f64>) -> Vec<f64> {
        let n = values.nrows() as f64;
        values.sum_axis(Axis(0)).iter().map(|s| s / n).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_each_number() {
        let all = |v: [[f32; 2]; 3]| v.map(|v| Target::Values(v.to_vec())).to_vec();
        let targets = all([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]);
        let decoded = all([[1.5, 0.0], [2.0, 1.0], [2.5, -1.0]]);
        let task = Task::Values { n: 2 };
        let preds = Array2::zeros((3, 2));
        let p = Predictions::new(vec![4, 5, 6], preds, targets, decoded, vec![], task);
        let r = RegressionInterpretation::from_predictions(p).unwrap();
        assert_eq!(r.mae(), [1.0 / 3.0, 2.0 / 3.0]);
        assert!((r.rmse()[0] - (0.5f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(r.r2()[0], 0.75);
        assert!(r.r2()[1].is_infinite());
        assert!(r.top_losses(3).is_empty());
    }

    #[test]
    fn a_missing_target_is_named() {
        let task = Task::Values { n: 1 };
        let none = vec![Target::None];
        let p = Predictions::new(vec![7], Array2::zeros((1, 1)), none.clone(), none, vec![], task);
        let e = RegressionInterpretation::from_predictions(p).unwrap_err().to_string();
        assert!(e.contains("item 7"), "{e}");
    }
}
