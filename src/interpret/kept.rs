//! Predictions for a data set, and the best and the worst items of any task.

use crate::{
    data::DataLoader,
    error::{Error, Result},
    learner::{Learner, Predictions},
};
use ndarray::{ArrayD, Axis};

/// The predictions for a data set, for any task.
///
/// Like [fastai's](https://docs.fast.ai/interpret.html#interpretation), but the predictions are stored.
#[derive(Debug, Clone)]
pub struct Interpretation {
    kept: Predictions,
}

/// An item and its loss.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ItemLoss {
    /// The index among the predictions.
    pub index: usize,
    /// The index in the data set: `dataset().name(item)` is its file.
    pub item: usize,
    /// The loss.
    pub loss: f32,
}

impl Interpretation {
    /// Predicts the validation split.
    ///
    /// # Errors
    /// As [`Learner::get_preds`].
    pub fn from_learner(learner: &mut Learner) -> Result<Self> {
        Self::from_predictions(learner.get_preds()?)
    }

    /// Predicts the items of `loader`: a test set with labels, or the training split.
    ///
    /// # Errors
    /// As [`Learner::get_preds_on`].
    pub fn from_loader(learner: &mut Learner, loader: &DataLoader) -> Result<Self> {
        Self::from_predictions(learner.get_preds_on(loader)?)
    }

    /// Interprets existing predictions.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if their parts differ in length.
    pub fn from_predictions(predictions: Predictions) -> Result<Self> {
        let p = &predictions;
        let n = p.items.len();
        let same = [p.preds.nrows(), p.targets.len(), p.decoded.len()].iter().all(|m| *m == n);
        if !same || !(p.losses.is_empty() || p.losses.len() == n) {
            let why = format!(
                "{n} items, {} predictions, {} targets, {} decoded and {} losses must be equally many",
                p.preds.nrows(),
                p.targets.len(),
                p.decoded.len(),
                p.losses.len()
            );
            return Err(Error::mismatch("predictions", why));
        }
        let shapes = [&p.inputs, &p.pixels].map(|all| all.as_ref().map(|all| all.shape()));
        if let Some(shape) = shapes.iter().flatten().find(|shape| shape.first() != Some(&n)) {
            let why = format!("inputs or pixels of shape {shape:?} are not of {n} items");
            return Err(Error::mismatch("predictions", why));
        }
        Ok(Self { kept: predictions })
    }

    /// Returns the predictions.
    #[must_use]
    pub fn predictions(&self) -> &Predictions {
        &self.kept
    }

    /// Returns the `k` items with the largest losses, largest first, or all items if there are fewer. Equal
    /// losses keep the order of the data set. NaN losses come first. Empty for items without labels.
    #[must_use]
    pub fn top_losses(&self, k: usize) -> Vec<ItemLoss> {
        self.sorted(k, |a, b| rank(b).total_cmp(&rank(a)))
    }

    /// Returns the `k` items with the smallest losses, smallest first.
    #[must_use]
    pub fn bottom_losses(&self, k: usize) -> Vec<ItemLoss> {
        self.sorted(k, |a, b| rank(a).total_cmp(&rank(b)))
    }

    fn sorted(&self, k: usize, by: impl Fn(f32, f32) -> std::cmp::Ordering) -> Vec<ItemLoss> {
        let all = self.kept.losses.iter().zip(&self.kept.items).enumerate();
        let mut all: Vec<_> =
            all.map(|(index, (&loss, &item))| ItemLoss { index, item, loss }).collect();
        all.sort_by(|a, b| by(a.loss, b.loss));
        all.truncate(k);
        all
    }

    /// Returns the predictions at some indices, with everything that was kept of them.
    ///
    /// # Errors
    /// [`Error::Config`] if an index is not below the number of predictions.
    pub fn select(&self, indices: &[usize]) -> Result<Predictions> {
        let p = &self.kept;
        if let Some(bad) = indices.iter().find(|i| **i >= p.items.len()) {
            let why = format!("{bad} must be below the number of items, {}", p.items.len());
            return Err(Error::config("indices", why));
        }
        fn pick<T: Clone>(all: &[T], indices: &[usize]) -> Vec<T> {
            indices.iter().filter_map(|i| all.get(*i).cloned()).collect()
        }
        let rows = |all: &Option<ArrayD<f32>>| all.as_ref().map(|all| all.select(Axis(0), indices));
        let some = Predictions::new(
            pick(&p.items, indices),
            p.preds.select(Axis(0), indices),
            pick(&p.targets, indices),
            pick(&p.decoded, indices),
            pick(&p.losses, indices),
            p.task.clone(),
        );
        let placements = pick(&p.placements, indices);
        Ok(Predictions { inputs: rows(&p.inputs), pixels: rows(&p.pixels), placements, ..some })
    }
}

/// Returns the value by which a loss is sorted. NaN is the worst, independent of its sign bit.
fn rank(loss: f32) -> f32 {
    if loss.is_nan() { f32::NAN.abs() } else { loss }
}

/// Returns the error for an item whose target does not match the task.
pub(super) fn unlabeled(item: usize, wanted: &str) -> Error {
    let why = format!("item {item} has no label that is {wanted}: interpretation needs labels");
    Error::mismatch("predictions", why)
}

/// Defines the methods that interpretations of all tasks share, for a type with an [`Interpretation`] as
/// `all` and the method `from_predictions`.
macro_rules! of_any_task {
    ($name:ident) => {
        impl AsRef<$crate::interpret::Interpretation> for $name {
            /// Returns the same predictions with the methods for any task.
            fn as_ref(&self) -> &$crate::interpret::Interpretation {
                &self.all
            }
        }

        impl $name {
            /// Predicts the validation split.
            ///
            /// # Errors
            /// As [`Learner::get_preds`](crate::learner::Learner::get_preds) and
            /// [`from_predictions`](Self::from_predictions).
            pub fn from_learner(
                learner: &mut $crate::learner::Learner,
            ) -> $crate::error::Result<Self> {
                Self::from_predictions(learner.get_preds()?)
            }

            /// Predicts the items of `loader`: a test set with labels, or the training split.
            ///
            /// # Errors
            /// As [`Learner::get_preds_on`](crate::learner::Learner::get_preds_on) and
            /// [`from_predictions`](Self::from_predictions).
            pub fn from_loader(
                learner: &mut $crate::learner::Learner,
                loader: &$crate::data::DataLoader,
            ) -> $crate::error::Result<Self> {
                Self::from_predictions(learner.get_preds_on(loader)?)
            }

            /// Returns the predictions.
            #[must_use]
            pub fn predictions(&self) -> &$crate::learner::Predictions {
                self.all.predictions()
            }

            /// Returns [`Interpretation::top_losses`](crate::interpret::Interpretation::top_losses).
            #[must_use]
            pub fn top_losses(&self, k: usize) -> Vec<$crate::interpret::ItemLoss> {
                self.all.top_losses(k)
            }
        }
    };
}
pub(super) use of_any_task;
