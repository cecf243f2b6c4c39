//! Losses, and the conversion of a model's output to predictions.

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

/// A loss: the value that training minimizes, and the conversion of a model's output to probabilities and
/// predictions.
///
/// fastai's `reduction` is a method here: [`elements`](Loss::elements) is `none`, [`mean`](Loss::mean) and
/// [`sum`](Loss::sum) are `mean` and `sum`.
///
/// ```
/// use finetune::{Result, loss::Loss, tch::Tensor};
///
/// /// The squared difference of logarithms.
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
/// A method that fails or panics ends the fit with an error. Most methods of `tch` panic if libtorch
/// reports an error; those whose names begin with `f_` return it. libtorch's message is kept in both cases.
///
/// # Errors
/// All methods that return a `Result` report errors of libtorch, for example mismatched shapes.
pub trait Loss: Debug + Send {
    /// Returns the name of the loss. Default: the type's name.
    fn name(&self) -> &str {
        std::any::type_name::<Self>().rsplit("::").next().unwrap_or("loss")
    }
    /// Returns the loss of each item, `[N]`.
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor>;
    /// Returns the loss of each element, flattened: one per target, so more than N if an item has several.
    /// Default: [`Loss::each`].
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.each(pred, y)
    }
    /// Reduces the losses of a batch's items to one number. Default: their mean.
    fn reduce(&self, each: &Tensor) -> Result<Tensor> {
        Ok(each.f_mean(Kind::Float)?)
    }
    /// Returns the value to minimize, a single number. Default: [`Loss::reduce`] of [`Loss::each`].
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.reduce(&self.each(pred, y)?)
    }
    /// Returns the divisor of the sum in [`Loss::mean`], a single number. It is needed to combine the means
    /// of parts of a batch. Default: `None`, which means the number of items.
    fn divisor(&self, pred: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
        let _ = (pred, y);
        Ok(None)
    }
    /// Returns the sum over all elements, a single number. Default: the sum of [`Loss::elements`].
    fn sum(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(self.elements(pred, y)?.f_sum(Kind::Float)?)
    }
    /// Returns the value to minimize for items that are mixed from two, as by MixUp and CutMix: `weight`,
    /// `[N]` from 0 to 1, is the weight of the target in `y`; the target in `other` has the remaining
    /// weight. If all weights are 1, it should equal [`Loss::mean`]. Default: [`Loss::reduce`] of the
    /// weighted sums of [`Loss::each`].
    fn mixed(&self, pred: &Tensor, y: &Tensor, other: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let (own, other) = (self.each(pred, y)?, self.each(pred, other)?);
        self.reduce(&other.f_lerp_tensor(&own, weight)?)
    }
    /// Applies the activation to a model's output, for example to get probabilities. Default: returns the
    /// output unchanged.
    fn activation(&self, pred: &Tensor) -> Result<Tensor> {
        Ok(pred.shallow_clone())
    }
    /// Decodes activated outputs, for example to the class with the highest probability. Default: returns
    /// them unchanged.
    fn decode(&self, activated: &Tensor) -> Result<Tensor> {
        Ok(activated.shallow_clone())
    }
    /// Returns the loss as data, which defines the meaning of an exported model's outputs. Your own loss
    /// may return the spec of a loss of this crate with the same activation and decoding. Default: `None`;
    /// the model cannot be exported then.
    fn spec(&self) -> Option<LossSpec> {
        None
    }
    /// Checks options against the targets, before training. Default: does nothing.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the loss does not support such targets, for example if the number of class
    /// weights differs from the number of classes.
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

/// Applies [`per_item`] to the elements whose target in `y` is not ignored.
fn counted(elements: &Tensor, y: &Tensor, ignore_index: i64, items: i64) -> Result<Tensor> {
    if elements.numel() as i64 == items {
        return Ok(elements.f_view([items])?);
    }
    let counts = y.f_ne(ignore_index)?.f_view([items, -1])?;
    let counts = counts.f_sum_dim_intlist(1, false, Kind::Float)?;
    let sums = elements.f_reshape([items, -1])?.f_sum_dim_intlist(1, false, Kind::Float)?;
    Ok(sums.f_div(&counts.f_clamp_min(1.0)?)?)
}

/// Returns the mean over the elements of each of `items` items; the losses are flat or have more
/// dimensions.
fn per_item(elements: &Tensor, items: i64) -> Result<Tensor> {
    if elements.numel() as i64 == items {
        return Ok(elements.f_view([items])?);
    }
    Ok(elements.f_reshape([items, -1])?.f_mean_dim(1, false, Kind::Float)?)
}

/// Returns predictions as rows of classes, which are along `axis`, and the flattened targets, in fastai's
/// order: both have `axis` swapped with the last dimension.
fn by_class(pred: &Tensor, y: &Tensor, axis: i64) -> Result<(Tensor, Tensor)> {
    let last = |t: &Tensor| t.f_transpose(axis, -1)?.f_contiguous();
    let kind = y.f_kind()?;
    // libtorch would truncate them to integers.
    if !matches!(
        kind,
        Kind::Bool | Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64
    ) {
        let why = format!("the targets are {kind:?}, but classes must be integers");
        return Err(Error::mismatch("loss", why));
    }
    let pred = last(pred)?;
    let classes = pred.size().last().copied().unwrap_or(1);
    let y = if axis == -1 { y.f_contiguous()? } else { last(y)? };
    Ok((pred.f_view([-1, classes])?, y.f_view([-1])?.f_to_kind(Kind::Int64)?))
}

/// Returns the number of items of a batch.
fn items(pred: &Tensor) -> i64 {
    pred.size().first().copied().unwrap_or(1)
}

/// Converts weights of classes or elements to a tensor on the device of the predictions.
fn weights(of: Option<&Vec<f32>>, pred: &Tensor) -> Result<Option<Tensor>> {
    let Some(of) = of else { return Ok(None) };
    // An undefined tensor has no device.
    pred.f_kind()?;
    Ok(Some(Tensor::f_from_slice(of)?.f_to_device(pred.device())?))
}

/// Checks that no weight of classes or elements is negative, infinite or NaN.
fn check_values(option: &'static str, weights: Option<&Vec<f32>>) -> Result<()> {
    let bad = |w: &&f32| !(w.is_finite() && **w >= 0.0);
    let Some(bad) = weights.and_then(|all| all.iter().find(bad)) else { return Ok(()) };
    let why = format!("{bad} is not a valid weight; weights must be finite and not negative");
    Err(Error::config(option, why))
}

/// Checks that there is one valid weight per class of the targets.
fn check_weights(option: &'static str, weights: Option<&Vec<f32>>, task: &Task) -> Result<()> {
    check_values(option, weights)?;
    let Some(weights) = weights else { return Ok(()) };
    let classes = task.vocab().len();
    if classes != weights.len() && classes > 0 {
        let why = format!("there are {} weights for {classes} classes", weights.len());
        return Err(Error::mismatch("class weights", why));
    }
    Ok(())
}

/// Returns the weighted mean: the sum of `each` divided by that of `weights`.
fn weighted_mean(each: &Tensor, weights: &Tensor) -> Result<Tensor> {
    Ok(each.f_sum(Kind::Float)?.f_div(&weights.f_sum(Kind::Float)?)?)
}

/// Returns the weight of each item in the mean of a loss with class weights: the weight of its target, or 0
/// if that is ignored. If an item has many targets, their mean.
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

/// Returns the default loss for the targets:
///
/// | targets | loss |
/// |---|---|
/// | one category | [`CrossEntropy`] |
/// | several categories, boxes | [`BceWithLogits`] |
/// | numbers | [`Mse`] |
/// | points | [`PointMse`] |
/// | masks | [`CrossEntropy`] with `axis(1)`, and with the ignored value of the task |
#[must_use]
pub fn default_for(task: &Task) -> Box<dyn Loss> {
    match task {
        Task::Category { .. } => Box::new(CrossEntropy::new()),
        // A detector needs its own loss: for boxes, this is fastai's default.
        Task::Categories { .. } | Task::Boxes { .. } => Box::new(BceWithLogits::new()),
        Task::Points { .. } => Box::new(PointMse),
        Task::Mask { ignored, .. } => {
            let loss = CrossEntropy::new().axis(1);
            Box::new(ignored.map_or(loss.clone(), |v| loss.ignore_index(v.into())))
        }
        // `Values`. `Task` is non-exhaustive, but its crate has the same version as this one.
        _ => Box::new(Mse),
    }
}
