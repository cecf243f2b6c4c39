//! Losses, and how they turn a model's output into predictions.

mod binary;
mod combined;
mod cross_entropy;
mod dice;
mod focal;
mod label_smoothing;
mod spec;
mod values;

pub use {
    binary::{Bce, BceWithLogits},
    combined::Combined,
    cross_entropy::CrossEntropy,
    dice::Dice,
    focal::Focal,
    label_smoothing::LabelSmoothing,
    spec::LossSpec,
    values::{L1, Mse, PointMse},
};

use crate::sample::Task;
use std::fmt::Debug;
use tch::{Kind, Tensor};

/// A loss: what training minimizes, and how a model's output becomes probabilities and predictions.
///
/// fastai's `reduction` is a method here: [`elements`](Loss::elements) is `none`, and
/// [`mean`](Loss::mean) and [`sum`](Loss::sum) are what they say.
///
/// ```
/// use finetune::{loss::Loss, tch::Tensor};
///
/// /// The difference of logarithms, squared.
/// #[derive(Debug)]
/// struct LogMse;
///
/// impl Loss for LogMse {
///     fn each(&self, pred: &Tensor, y: &Tensor) -> Tensor {
///         (pred.log1p() - y.view_as(pred).log1p()).square().flatten(1, -1).mean_dim(1, false, None)
///     }
/// }
/// ```
pub trait Loss: Debug {
    /// Its name. Default: the type's name.
    fn name(&self) -> &str {
        std::any::type_name::<Self>().rsplit("::").next().unwrap_or("loss")
    }
    /// The loss of each item, as N numbers.
    fn each(&self, pred: &Tensor, y: &Tensor) -> Tensor;
    /// The loss of each element, flat: one for each target, so more than N where an item has several.
    /// Default: [`Loss::each`].
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        self.each(pred, y)
    }
    /// One number of the losses of the items of a batch, also of those that MixUp has mixed. Default:
    /// their mean.
    fn reduce(&self, each: &Tensor) -> Tensor {
        each.mean(Kind::Float)
    }
    /// What is minimized: a single number. Default: [`Loss::reduce`] of [`Loss::each`].
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        self.reduce(&self.each(pred, y))
    }
    /// What [`Loss::mean`] divides the sum by, as a single number: with it, the means of parts of a batch
    /// become that of the batch. Default: none, which is the number of items.
    fn divisor(&self, pred: &Tensor, y: &Tensor) -> Option<Tensor> {
        let _ = (pred, y);
        None
    }
    /// The sum over all elements: a single number. Default: the sum of [`Loss::elements`].
    fn sum(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        self.elements(pred, y).sum(Kind::Float)
    }
    /// What users see of a model's output, such as probabilities. Default: the output.
    fn activation(&self, pred: &Tensor) -> Tensor {
        pred.shallow_clone()
    }
    /// What activated outputs say, such as the class of the highest probability. Default: the same.
    fn decode(&self, activated: &Tensor) -> Tensor {
        activated.shallow_clone()
    }
    /// The loss as data, for an exported model: what its outputs mean. A loss of your own may name the
    /// one of this crate that has the same activation and decoding. Default: none, which cannot be
    /// exported.
    fn spec(&self) -> Option<LossSpec> {
        None
    }
}

/// The target that is ignored.
const IGNORED: i64 = -100;

fn ignored() -> i64 {
    IGNORED
}

/// [`per_item`] over the elements whose target, of `y`, counts.
fn counted(elements: &Tensor, y: &Tensor, ignore_index: i64, items: i64) -> Tensor {
    if elements.numel() as i64 == items {
        return elements.view([items]);
    }
    let counts = y.ne(ignore_index).view([items, -1]).sum_dim_intlist(1, false, Kind::Float);
    let sums = elements.reshape([items, -1]).sum_dim_intlist(1, false, Kind::Float);
    sums / counts.clamp_min(1.0)
}

/// The mean over what belongs to one item, of `items`; a flat or higher tensor of losses.
fn per_item(elements: &Tensor, items: i64) -> Tensor {
    if elements.numel() as i64 == items {
        elements.view([items])
    } else {
        elements.reshape([items, -1]).mean_dim(1, false, Kind::Float)
    }
}

/// Predictions as rows of classes, which stand along `axis`, and the targets flat, in fastai's order: both
/// have `axis` swapped with the last dimension.
fn by_class(pred: &Tensor, y: &Tensor, axis: i64) -> (Tensor, Tensor) {
    let last = |t: &Tensor| t.transpose(axis, -1).contiguous();
    let pred = last(pred);
    let classes = pred.size().last().copied().unwrap_or(1);
    let y = if axis == -1 { y.contiguous() } else { last(y) };
    (pred.view([-1, classes]), y.view([-1]).to_kind(Kind::Int64))
}

/// The items of a batch.
fn items(pred: &Tensor) -> i64 {
    pred.size().first().copied().unwrap_or(1)
}

/// Weights for classes or elements, where the predictions are.
fn weights(of: Option<&Vec<f32>>, pred: &Tensor) -> Option<Tensor> {
    of.map(|w| Tensor::from_slice(w).to_device(pred.device()))
}

/// What fits the targets: cross-entropy for one category, binary cross-entropy for several, mean
/// squared error for numbers.
#[must_use]
pub fn default_for(task: &Task) -> Box<dyn Loss> {
    match task {
        Task::Category { .. } => Box::new(CrossEntropy::new()),
        // A detector has a loss of its own: for boxes this is fastai's default.
        Task::Categories { .. } | Task::Boxes { .. } => Box::new(BceWithLogits::new()),
        Task::Values { .. } => Box::new(Mse),
        Task::Points { .. } => Box::new(PointMse),
        Task::Mask { ignored, .. } => {
            let loss = CrossEntropy::new().axis(1);
            Box::new(ignored.map_or(loss.clone(), |v| loss.ignore_index(v.into())))
        }
    }
}
