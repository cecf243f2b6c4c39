use super::{
    IGNORED, Loss, LossSpec, by_class, check_weights, item_weights, items, per_item, weighted_mean,
    weights,
};
use crate::{
    error::{Error, Result},
    sample::Task,
};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

/// Cross-entropy in which a fraction of the target is spread over all classes: fastai's
/// `LabelSmoothingCrossEntropyFlat`.
///
/// With class weights, it differs from torch's `label_smoothing` (see
/// [`CrossEntropy::label_smoothing`](super::CrossEntropy::label_smoothing)): as in fastai, they apply to
/// the target's own fraction, with a weighted mean, and not to the spread fraction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelSmoothing {
    eps: f64,
    weight: Option<Vec<f32>>,
    pub(super) axis: i64,
}

impl LabelSmoothing {
    /// Creates the loss; `eps` is the fraction of the target that is spread, from 0 to 1. fastai's default is 0.1.
    #[must_use]
    pub fn new(eps: f64) -> Self {
        Self { eps, weight: None, axis: -1 }
    }
    /// Sets a weight for each class, for the target's own fraction. Default: none.
    #[must_use]
    pub fn weight(mut self, weight: Vec<f32>) -> Self {
        self.weight = Some(weight);
        self
    }
    /// Sets the dimension of the classes in the predictions. Default: -1, the last.
    #[must_use]
    pub fn axis(mut self, axis: i64) -> Self {
        self.axis = axis;
        self
    }
    fn reduced(&self, pred: &Tensor, y: &Tensor, reduction: Reduction) -> Result<Tensor> {
        let (spread, own, _) = self.parts(pred, y, reduction)?;
        let spread = match reduction {
            Reduction::Mean => spread.f_mean(Kind::Float)?,
            Reduction::Sum => spread.f_sum(Kind::Float)?,
            Reduction::None | Reduction::Other(_) => spread,
        };
        self.joined(&spread, &own)
    }
    /// Returns the loss of the spread fraction for each element, the reduced loss of the target's own fraction,
    /// and the targets.
    fn parts(
        &self,
        pred: &Tensor,
        y: &Tensor,
        reduction: Reduction,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let (pred, y) = by_class(pred, y, self.axis)?;
        let logs = pred.f_log_softmax(1, Kind::Float)?;
        let spread = logs.f_mean_dim(1, false, Kind::Float)?.f_neg()?;
        let weight = weights(self.weight.as_ref(), &pred)?;
        let own = logs.f_nll_loss(&y, weight.as_ref(), reduction, IGNORED)?;
        Ok((spread, own, y))
    }
    fn joined(&self, spread: &Tensor, own: &Tensor) -> Result<Tensor> {
        Ok(spread.f_mul_scalar(self.eps)?.f_add(&own.f_mul_scalar(1.0 - self.eps)?)?)
    }
}

impl Loss for LabelSmoothing {
    fn name(&self) -> &str {
        "label_smoothing"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        per_item(&self.elements(pred, y)?, items(pred))
    }
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.reduced(pred, y, Reduction::None)
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.reduced(pred, y, Reduction::Mean)
    }
    fn sum(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.reduced(pred, y, Reduction::Sum)
    }
    /// Returns `None`, the number of items.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with class weights: the spread fraction and the target's own have different divisors.
    fn divisor(&self, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        match self.weight {
            None => Ok(None),
            Some(_) => Err(Error::unsupported(
                "label_smoothing",
                "with class weights, the means of the parts of a batch cannot be combined: use `CrossEntropy` with \
                 `label_smoothing`, or train with one process and without `deterministic_reduction`",
            )),
        }
    }
    fn activation(&self, pred: &Tensor) -> Result<Tensor> {
        Ok(pred.f_softmax(self.axis, Kind::Float)?)
    }
    fn decode(&self, activated: &Tensor) -> Result<Tensor> {
        Ok(activated.f_argmax(self.axis, false)?)
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::LabelSmoothing(self.clone()))
    }
    fn mixed(&self, pred: &Tensor, y: &Tensor, other: &Tensor, weight: &Tensor) -> Result<Tensor> {
        // As for items that are not mixed, the loss is the mean of the spread fraction, which does not depend
        // on the targets, and the weighted mean of the targets' own fractions.
        let class_weights = weights(self.weight.as_ref(), pred)?;
        let of = |y: &Tensor| {
            let (spread, own, y) = self.parts(pred, y, Reduction::None)?;
            let counts = item_weights(&y, class_weights.as_ref(), IGNORED, items(pred))?;
            Ok::<_, Error>((spread, per_item(&own, items(pred))?, counts))
        };
        let ((spread, own, counts), (_, others, others_count)) = (of(y)?, of(other)?);
        let own = others.f_lerp_tensor(&own, weight)?;
        let own = weighted_mean(&own, &others_count.f_lerp_tensor(&counts, weight)?)?;
        self.joined(&spread.f_mean(Kind::Float)?, &own)
    }
    fn check(&self, task: &Task) -> Result<()> {
        check_weights("weight", self.weight.as_ref(), task)?;
        if (0.0..=1.0).contains(&self.eps) {
            return Ok(());
        }
        Err(Error::config("eps", format!("is {}; it must be between 0 and 1", self.eps)))
    }
}
