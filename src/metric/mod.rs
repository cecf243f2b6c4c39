//! Metrics.
//!
//! A metric accumulates the batches of an epoch and returns one number at its end, as in fastai: plain
//! functions are averaged over the items ([`Mean`]), and scikit-learn's scores are computed over the whole
//! epoch. Sums and counts stay on the device, which is not waited for before the end of the epoch.
//!
//! | target | metrics |
//! |---|---|
//! | one category | [`accuracy`], [`error_rate`], [`top_k_accuracy`], [`f1_score`], [`fbeta_score`], [`precision_score`], [`recall_score`], [`jaccard_score`], [`balanced_accuracy`], [`matthews_corrcoef`], [`cohen_kappa`], [`hamming_loss`], [`brier_score`], [`roc_auc`], [`roc_auc_binary`], [`ap_score_binary`] |
//! | several categories | [`accuracy_multi`], [`f1_score_multi`], [`fbeta_score_multi`], [`precision_score_multi`], [`recall_score_multi`], [`jaccard_score_multi`], [`hamming_loss_multi`], [`matthews_corrcoef_multi`], [`roc_auc_multi`], [`ap_score_multi`] |
//! | numbers | [`mse`], [`mae`], [`rmse`], [`msle`], [`exp_rmspe`], [`r2_score`], [`explained_variance`], [`pearson_corrcoef`], [`spearman_corrcoef`] |
//! | masks | [`accuracy_along`], [`foreground_acc`], [`dice`], [`dice_multi`], [`jaccard_coeff`], [`jaccard_coeff_multi`], [`iou_of_class`] |
//! | points | [`point_distance`] |
//! | the loss | [`avg_loss`], [`perplexity`], [`avg_smooth_loss`] |

mod accuracy;
mod better;
mod class_score;
mod confusion;
mod losses;
mod mean;
mod multi_label;
mod named;
mod over_epoch;
mod points;
mod proportion;
mod ranking;
mod regression;
mod roc;
mod segmentation;
mod targets;

pub use {
    accuracy::{
        accuracy, accuracy_along, accuracy_multi, brier_score, error_rate, hamming_loss,
        hamming_loss_multi, top_k_accuracy,
    },
    better::Better,
    class_score::{
        Average, ClassScore, f1_score, fbeta_score, jaccard_score, precision_score, recall_score,
    },
    confusion::{
        ConfusionMetric, KappaWeights, balanced_accuracy, balanced_accuracy_adjusted, cohen_kappa,
        matthews_corrcoef, matthews_corrcoef_multi,
    },
    losses::{AvgLoss, SmoothLoss, avg_loss, avg_smooth_loss, perplexity},
    mean::{Mean, MetricValue},
    multi_label::{
        MultiScore, f1_score_multi, fbeta_score_multi, jaccard_score_multi, precision_score_multi,
        recall_score_multi,
    },
    named::{Named, named},
    over_epoch::OverEpoch,
    points::{PointDistance, point_distance},
    proportion::Proportion,
    ranking::{
        MultiClass, Ranking, ap_score_binary, ap_score_multi, roc_auc, roc_auc_binary,
        roc_auc_multi,
    },
    regression::{
        exp_rmspe, explained_variance, mae, mse, msle, pearson_corrcoef, r2_score, rmse,
        spearman_corrcoef,
    },
    roc::Roc,
    segmentation::{
        ForegroundAccuracy, MaskScore, dice, dice_multi, foreground_acc, iou_of_class,
        jaccard_coeff, jaccard_coeff_multi,
    },
};

use crate::{
    error::{Error, Result},
    sample::{Batch, Task},
};
use std::fmt::Debug;
use tch::Tensor;

/// A number computed from the predictions of a whole epoch.
///
/// For the mean of a function over the items, use [`Mean::new`] with a closure.
pub trait Metric: Debug + Send {
    /// Returns the name of its column in the table of epochs.
    fn name(&self) -> &str;
    /// Resets the metric before an epoch.
    fn reset(&mut self);
    /// Adds a batch: the model's output before any activation, and the targets.
    ///
    /// # Errors
    /// If the metric is not defined for predictions of this shape.
    fn update(&mut self, pred: &Tensor, y: &Tensor) -> Result<()>;
    /// Adds a batch with information about its items, such as the positions of images in their originals.
    /// Called by training and validation. Default: calls [`update`](Self::update) with the targets; does
    /// nothing for a batch without targets.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    fn update_batch(&mut self, pred: &Tensor, batch: &Batch) -> Result<()> {
        batch.y.as_ref().map_or(Ok(()), |y| self.update(pred, y))
    }
    /// Adds the loss of a batch of `items` items. Default: does nothing.
    ///
    /// # Errors
    /// Errors of libtorch.
    fn update_loss(&mut self, loss: &Tensor, items: i64) -> Result<()> {
        let _ = (loss, items);
        Ok(())
    }
    /// Returns the accumulated state since the last reset, as named tensors, so that an epoch can be
    /// resumed. `None` if the metric cannot be resumed: the training metrics of an epoch that is resumed in
    /// the middle are then left out. Default: `None`.
    fn state(&self) -> Option<Vec<(String, Tensor)>> {
        None
    }
    /// Restores the result of [`state`](Self::state).
    ///
    /// # Errors
    /// If `state` does not belong to this metric.
    fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let _ = state;
        Err(Error::unsupported("Metric::load_state", "this metric cannot be resumed"))
    }
    /// Returns the value for the batches since the last reset; `None` without batches.
    ///
    /// # Errors
    /// If the metric is not defined for predictions of this shape.
    fn value(&self) -> Result<Option<f64>>;
    /// Returns which values are better, for [`SaveBest`](crate::callback::SaveBest) and the other callbacks
    /// that monitor a column. Default: `None`; it must then be set in the callback.
    fn better(&self) -> Option<Better> {
        None
    }
    /// Checks options against the targets, before training. Default: does nothing.
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::Config`] or [`Error::Mismatch`] if the metric is not defined for
    /// such targets.
    fn check(&self, task: &Task) -> Result<()> {
        let _ = task;
        Ok(())
    }
}

/// Checks that a batch has as many classes as the earlier batches of the epoch.
fn check_classes(now: i64, before: i64) -> Result<()> {
    if now == before {
        return Ok(());
    }
    let why = format!(
        "the predictions have {now} classes, but those of earlier batches have {before}: reset the metric \
         before it is used with another model"
    );
    Err(Error::mismatch("metric", why))
}

/// Flattens predictions and targets, whose numbers of elements must be equal.
fn flat(pred: &Tensor, y: &Tensor) -> Result<(Tensor, Tensor)> {
    if pred.numel() != y.numel() {
        let why = format!(
            "predictions of shape {:?} do not match targets of shape {:?}: use the metric for this kind of target",
            pred.size(),
            y.size()
        );
        return Err(Error::mismatch("metric", why));
    }
    Ok((pred.f_reshape([-1])?, y.f_reshape([-1])?))
}
