//! Errors and correlations of regression targets.

use super::{Better, Mean, OverEpoch, flat, over_epoch::numbers, targets::Targets};
use crate::error::Result;
use tch::{Kind, Tensor};

/// Returns the mean of `f` over flattened predictions and targets.
fn mean_of(
    name: &'static str,
    f: impl Fn(&Tensor, &Tensor) -> Tensor + Send,
) -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    Mean::new(name, move |pred: &Tensor, y: &Tensor| {
        let (pred, y) = flat(pred, y)?;
        Ok(f(&pred, &y.f_to_kind(Kind::Float)?).mean(Kind::Float))
    })
    .better_is(Better::Lower)
    .targets(name, Targets::Values)
}

/// Returns the mean squared error: fastai's `mse`.
#[must_use]
pub fn mse() -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    mean_of("mse", |pred, y| (pred - y).square())
}

/// Returns the mean absolute error: fastai's `mae`.
#[must_use]
pub fn mae() -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    mean_of("mae", |pred, y| (pred - y).abs())
}

/// Returns the mean squared difference of `ln(1 + x)`: fastai's `msle`.
#[must_use]
pub fn msle() -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    mean_of("msle", |pred, y| ((y + 1.0).log() - (pred + 1.0).log()).square())
}

/// Returns the root mean squared error over the whole epoch: fastai's `rmse`.
#[must_use]
pub fn rmse() -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    mean_of("_rmse", |pred, y| (pred - y).square()).finish(f64::sqrt)
}

/// Returns the root mean squared relative difference of `eˣ` over the whole epoch: fastai's `exp_rmspe`.
#[must_use]
pub fn exp_rmspe() -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    let relative = |pred: &Tensor, y: &Tensor| ((y.exp() - pred.exp()) / y.exp()).square();
    mean_of("_exp_rmspe", relative).finish(f64::sqrt)
}

/// Returns a metric from a function of all predictions and targets.
fn of_all(
    name: &'static str,
    f: impl Fn(&[f64], &[f64]) -> f64 + Send,
) -> OverEpoch<impl Fn(&Tensor, &Tensor) -> Result<f64>> {
    OverEpoch::new(name, move |pred: &Tensor, y: &Tensor| {
        let (pred, y) = flat(pred, y)?;
        Ok(f(&numbers(&pred)?, &numbers(&y)?))
    })
    .better_is(Better::Higher)
    .wants(name, Targets::Values)
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

/// Returns the sum of squared deviations from the mean.
fn spread(x: &[f64]) -> f64 {
    let mean = mean(x);
    x.iter().map(|v| (v - mean).powi(2)).sum()
}

/// Returns the fraction of the targets' variance that is explained; 1 if both the variance and the
/// remainder are 0.
fn explained(left: f64, all: f64) -> f64 {
    match (left == 0.0, all == 0.0) {
        (_, false) => 1.0 - left / all,
        (true, true) => 1.0,
        (false, true) => 0.0,
    }
}

/// Returns the fraction of the targets' variance that the predictions explain: fastai's `R2Score`.
#[must_use]
pub fn r2_score() -> OverEpoch<impl Fn(&Tensor, &Tensor) -> Result<f64>> {
    of_all("r2_score", |pred, y| {
        let left = pred.iter().zip(y).map(|(p, y)| (y - p).powi(2)).sum();
        explained(left, spread(y))
    })
}

/// As [`r2_score`], without the predictions' common offset: fastai's `ExplainedVariance`.
#[must_use]
pub fn explained_variance() -> OverEpoch<impl Fn(&Tensor, &Tensor) -> Result<f64>> {
    of_all("explained_variance_score", |pred, y| {
        let left: Vec<f64> = pred.iter().zip(y).map(|(p, y)| y - p).collect();
        explained(spread(&left), spread(y))
    })
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let both: f64 = a.iter().zip(b).map(|(x, y)| (x - mean_a) * (y - mean_b)).sum();
    both / (spread(a) * spread(b)).sqrt()
}

/// Returns the linear correlation of predictions and targets: fastai's `PearsonCorrCoef`. NaN if either is
/// constant.
#[must_use]
pub fn pearson_corrcoef() -> OverEpoch<impl Fn(&Tensor, &Tensor) -> Result<f64>> {
    of_all("pearsonr", correlation)
}

/// Returns the rank correlation of predictions and targets: fastai's `SpearmanCorrCoef`. NaN if either is
/// constant.
#[must_use]
pub fn spearman_corrcoef() -> OverEpoch<impl Fn(&Tensor, &Tensor) -> Result<f64>> {
    of_all("spearmanr", |pred, y| correlation(&ranks(pred), &ranks(y)))
}

/// Returns the ranks of the values; equal values share their mean rank.
fn ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    let mut ranks = vec![0.0; x.len()];
    let mut before = 0;
    for same in order.chunk_by(|&a, &b| x[a] == x[b]) {
        let rank = before as f64 + (same.len() as f64 + 1.0) / 2.0;
        same.iter().for_each(|&i| ranks[i] = rank);
        before += same.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_share_the_mean_of_their_places() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
    }

    #[test]
    fn nothing_to_explain_is_explained_by_nothing_left() {
        assert_eq!(explained(0.0, 0.0), 1.0);
        assert_eq!(explained(2.0, 0.0), 0.0);
    }
}
