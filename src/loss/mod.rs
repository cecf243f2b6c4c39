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

use crate::{
    error::{Error, Result},
    sample::Task,
};
use std::fmt::Debug;
use tch::{Kind, Tensor};

/// A loss: what training minimizes, and how a model's output becomes probabilities and predictions.
///
/// fastai's `reduction` is a method here: [`elements`](Loss::elements) is `none`, and
/// [`mean`](Loss::mean) and [`sum`](Loss::sum) are what they say.
///
/// ```
/// use finetune::{Result, loss::Loss, tch::Tensor};
///
/// /// The difference of logarithms, squared.
/// #[derive(Debug)]
/// struct LogMse;
///
/// impl Loss for LogMse {
///     fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
///         let y = y.f_view_as(pred)?;
///         Ok((pred.log1p() - y.log1p()).square().flatten(1, -1).mean_dim(1, false, None))
///     }
/// }
/// ```
///
/// A method that fails or panics ends the fit with an error. Plain methods of `tch` panic where libtorch
/// reports an error; the forms that begin with `f_` return it. libtorch's message is kept either way.
///
/// # Errors
/// All methods that return a `Result` report what libtorch reports, such as shapes that do not fit.
pub trait Loss: Debug + Send {
    /// Its name. Default: the type's name.
    fn name(&self) -> &str {
        std::any::type_name::<Self>().rsplit("::").next().unwrap_or("loss")
    }
    /// The loss of each item, as N numbers.
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor>;
    /// The loss of each element, flat: one for each target, so more than N where an item has several.
    /// Default: [`Loss::each`].
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.each(pred, y)
    }
    /// One number of the losses of the items of a batch. Default: their mean.
    fn reduce(&self, each: &Tensor) -> Result<Tensor> {
        Ok(each.f_mean(Kind::Float)?)
    }
    /// What is minimized: a single number. Default: [`Loss::reduce`] of [`Loss::each`].
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.reduce(&self.each(pred, y)?)
    }
    /// What [`Loss::mean`] divides the sum by, as a single number: with it, the means of parts of a batch
    /// become that of the batch. Default: none, which is the number of items.
    fn divisor(&self, pred: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
        let _ = (pred, y);
        Ok(None)
    }
    /// The sum over all elements: a single number. Default: the sum of [`Loss::elements`].
    fn sum(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(self.elements(pred, y)?.f_sum(Kind::Float)?)
    }
    /// What is minimized for items that are mixed from two, as MixUp and CutMix do: each counts `weight`,
    /// `[N]` from 0 to 1, for its own target in `y` and the rest for that in `other`. Where all weights
    /// are 1, it should be [`Loss::mean`]. Default: [`Loss::reduce`] of the weighted sums of
    /// [`Loss::each`].
    fn mixed(&self, pred: &Tensor, y: &Tensor, other: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let (own, other) = (self.each(pred, y)?, self.each(pred, other)?);
        self.reduce(&other.f_lerp_tensor(&own, weight)?)
    }
    /// Returns what users see of a model's output, such as probabilities. Default: the output.
    fn activation(&self, pred: &Tensor) -> Result<Tensor> {
        Ok(pred.shallow_clone())
    }
    /// Returns what activated outputs mean, such as the class of the highest probability. Default: the
    /// same.
    fn decode(&self, activated: &Tensor) -> Result<Tensor> {
        Ok(activated.shallow_clone())
    }
    /// Returns the loss as data, for an exported model: what its outputs mean. A loss of your own may name
    /// the one of this crate that has the same activation and decoding. Default: none, which cannot be
    /// exported.
    fn spec(&self) -> Option<LossSpec> {
        None
    }
    /// Checks options against the targets, before anything is trained. Default: does nothing.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the loss cannot be used for such targets, such as class weights of another
    /// number than the classes.
    fn check(&self, task: &Task) -> Result<()> {
        let _ = task;
        Ok(())
    }
}

/// The target that is ignored.
const IGNORED: i64 = -100;

fn ignored() -> i64 {
    IGNORED
}

/// [`per_item`] over the elements whose target, of `y`, counts.
fn counted(elements: &Tensor, y: &Tensor, ignore_index: i64, items: i64) -> Result<Tensor> {
    if elements.numel() as i64 == items {
        return Ok(elements.f_view([items])?);
    }
    let counts = y.f_ne(ignore_index)?.f_view([items, -1])?;
    let counts = counts.f_sum_dim_intlist(1, false, Kind::Float)?;
    let sums = elements.f_reshape([items, -1])?.f_sum_dim_intlist(1, false, Kind::Float)?;
    Ok(sums.f_div(&counts.f_clamp_min(1.0)?)?)
}

/// The mean over what belongs to one item, of `items`; a flat or higher tensor of losses.
fn per_item(elements: &Tensor, items: i64) -> Result<Tensor> {
    if elements.numel() as i64 == items {
        return Ok(elements.f_view([items])?);
    }
    Ok(elements.f_reshape([items, -1])?.f_mean_dim(1, false, Kind::Float)?)
}

/// Predictions as rows of classes, which stand along `axis`, and the targets flat, in fastai's order: both
/// have `axis` swapped with the last dimension.
fn by_class(pred: &Tensor, y: &Tensor, axis: i64) -> Result<(Tensor, Tensor)> {
    let last = |t: &Tensor| t.f_transpose(axis, -1)?.f_contiguous();
    // libtorch would cut them off to whole numbers.
    if !matches!(
        y.kind(),
        Kind::Bool | Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64
    ) {
        let why = format!("the targets are {:?}, and classes are integers", y.kind());
        return Err(Error::mismatch("loss", why));
    }
    let pred = last(pred)?;
    let classes = pred.size().last().copied().unwrap_or(1);
    let y = if axis == -1 { y.f_contiguous()? } else { last(y)? };
    Ok((pred.f_view([-1, classes])?, y.f_view([-1])?.f_to_kind(Kind::Int64)?))
}

/// The items of a batch.
fn items(pred: &Tensor) -> i64 {
    pred.size().first().copied().unwrap_or(1)
}

/// Weights for classes or elements, where the predictions are.
fn weights(of: Option<&Vec<f32>>, pred: &Tensor) -> Result<Option<Tensor>> {
    let Some(of) = of else { return Ok(None) };
    Ok(Some(Tensor::f_from_slice(of)?.f_to_device(pred.device())?))
}

/// One weight for each class of the targets, none of them negative or NaN.
fn check_weights(weights: Option<&Vec<f32>>, task: &Task) -> Result<()> {
    let Some(weights) = weights else { return Ok(()) };
    if let Some(bad) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
        return Err(Error::config("weight", format!("{bad} is not a weight of a class")));
    }
    let classes = task.vocab().len();
    if classes != weights.len() && classes > 0 {
        let why = format!("{} weights for {classes} classes", weights.len());
        return Err(Error::mismatch("class weights", why));
    }
    Ok(())
}

/// The items of a batch with each as its weights in the mean: the sum of `each` over that of `weights`.
fn weighted_mean(each: &Tensor, weights: &Tensor) -> Result<Tensor> {
    Ok(each.f_sum(Kind::Float)?.f_div(&weights.f_sum(Kind::Float)?)?)
}

/// How much each item counts in the mean of a loss with class weights: the weight of its target, and
/// nothing where that is ignored. Where an item has many targets, their mean.
fn item_weights(
    y: &Tensor,
    weight: Option<&Tensor>,
    ignore_index: i64,
    items: i64,
) -> Result<Tensor> {
    let counts = y.f_ne(ignore_index)?;
    let weights = match weight {
        Some(weight) => weight.f_index_select(0, &y.f_mul(&counts)?)?.f_mul(&counts)?,
        None => counts.f_to_kind(Kind::Float)?,
    };
    per_item(&weights, items)
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
