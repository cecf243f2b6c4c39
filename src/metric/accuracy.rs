//! Accuracies and error rates.

use super::{Better, Mean, flat, targets::Targets};
use crate::error::{Error, Result};
use tch::{Kind, Tensor};

fn right(pred: &Tensor, y: &Tensor, axis: i64) -> Result<Tensor> {
    let (pred, y) = flat(&pred.f_argmax(axis, false)?, y)?;
    Ok(pred.f_eq_tensor(&y)?.f_to_kind(Kind::Float)?.mean(Kind::Float))
}

/// Returns the fraction of items whose highest output is the target's: fastai's `accuracy`.
#[must_use]
pub fn accuracy() -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    accuracy_along(-1).targets("accuracy", Targets::Category)
}

/// As [`accuracy`], with the classes along another dimension than the last: 1 for masks.
#[must_use]
pub fn accuracy_along(axis: i64) -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    Mean::new("accuracy", move |pred: &Tensor, y: &Tensor| right(pred, y, axis))
        .better_is(Better::Higher)
}

/// Returns one minus the accuracy: fastai's `error_rate`.
#[must_use]
pub fn error_rate() -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    Mean::new("error_rate", |pred: &Tensor, y: &Tensor| Ok(1.0 - right(pred, y, -1)?))
        .better_is(Better::Lower)
        .targets("error_rate", Targets::Category)
}

/// Returns the fraction of items whose target is among the `k` highest outputs: fastai's
/// `top_k_accuracy`, whose default is 5.
#[must_use]
pub fn top_k_accuracy(k: i64) -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    Mean::new("top_k_accuracy", move |pred: &Tensor, y: &Tensor| {
        let classes = pred.size().last().copied().unwrap_or(0);
        if !(1..=classes).contains(&k) {
            let why = format!("is {k}; it must be between 1 and {classes}, the number of classes");
            return Err(Error::config("top_k_accuracy", why));
        }
        let (_, best) = pred.f_topk(k, -1, true, true)?;
        let found = best.f_eq_tensor(&y.f_unsqueeze(-1)?)?.f_to_kind(Kind::Float)?;
        Ok(found.sum_dim_intlist(-1, false, Kind::Float).mean(Kind::Float))
    })
    .better_is(Better::Higher)
    .targets("top_k_accuracy", Targets::CategoryOf(k))
}

/// Returns the fraction of correct decisions, one per item and category: fastai's `accuracy_multi`, whose
/// default `thresh` is 0.5. A category is predicted if its probability is above the threshold.
#[must_use]
pub fn accuracy_multi(
    thresh: f64,
    sigmoid: bool,
) -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    Mean::new("accuracy_multi", move |pred: &Tensor, y: &Tensor| {
        let (pred, y) = flat(pred, y)?;
        let pred = if sigmoid { pred.sigmoid() } else { pred };
        let right = pred.gt(thresh).f_eq_tensor(&y.f_to_kind(Kind::Bool)?)?;
        Ok(right.to_kind(Kind::Float).mean(Kind::Float))
    })
    .better_is(Better::Higher)
    .targets("accuracy_multi", Targets::Categories)
}

/// Returns the fraction of wrong items: fastai's `HammingLoss`.
#[must_use]
pub fn hamming_loss() -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    Mean::new("hamming_loss", |pred: &Tensor, y: &Tensor| Ok(1.0 - right(pred, y, -1)?))
        .better_is(Better::Lower)
        .targets("hamming_loss", Targets::Category)
}

/// Returns the fraction of wrong decisions, one per item and category: fastai's `HammingLossMulti`, whose
/// default `thresh` is 0.5. A category is predicted if its probability is at least the threshold.
#[must_use]
pub fn hamming_loss_multi(
    thresh: f64,
    sigmoid: bool,
) -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    Mean::new("hamming_loss", move |pred: &Tensor, y: &Tensor| {
        let (pred, y) = flat(pred, y)?;
        let pred = if sigmoid { pred.sigmoid() } else { pred };
        let wrong = pred.ge(thresh).f_ne_tensor(&y.f_to_kind(Kind::Bool)?)?;
        Ok(wrong.to_kind(Kind::Float).mean(Kind::Float))
    })
    .better_is(Better::Lower)
    .targets("hamming_loss_multi", Targets::Categories)
}

/// Returns the mean squared difference between predicted probabilities and true labels: for two classes, of
/// the second class; for more, summed over the classes.
///
/// fastai's `BrierScore` uses the predicted class as if it were a probability, which gives the
/// error rate. Brier, [Verification of
/// Forecasts](https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2).
#[must_use]
pub fn brier_score() -> Mean<impl Fn(&Tensor, &Tensor) -> Result<Tensor>> {
    Mean::new("brier_score_loss", |pred: &Tensor, y: &Tensor| {
        let probs = pred.f_softmax(-1, Kind::Float)?;
        let classes = probs.size().last().copied().unwrap_or(0);
        let so = y.f_to_kind(Kind::Int64)?.f_one_hot(classes)?.to_kind(Kind::Float);
        let all = probs.f_sub(&so)?.square().sum_dim_intlist(-1, false, Kind::Float);
        Ok(all.mean(Kind::Float) / if classes == 2 { 2.0 } else { 1.0 })
    })
    .better_is(Better::Lower)
    .targets("brier_score", Targets::Category)
}
