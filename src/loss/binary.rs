use super::{Loss, LossSpec, check_values, check_weights, items, per_item, weights};
use crate::{
    error::{Error, Result},
    sample::Task,
};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

/// Binary cross-entropy for several categories per item: fastai's `BCEWithLogitsLossFlat`. Predictions and
/// targets have the shape `[N, C]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BceWithLogits {
    weight: Option<Vec<f32>>,
    pos_weight: Option<Vec<f32>>,
    thresh: f64,
}

impl BceWithLogits {
    /// Returns the loss without weights; a category is predicted if its probability is above 0.5.
    #[must_use]
    pub fn new() -> Self {
        Self { weight: None, pos_weight: None, thresh: 0.5 }
    }
    /// Sets a weight for each category, or for each element of a batch, row by row. Default: none.
    #[must_use]
    pub fn weight(mut self, weight: Vec<f32>) -> Self {
        self.weight = Some(weight);
        self
    }
    /// Sets a weight for the positive targets of each category. Default: none.
    #[must_use]
    pub fn pos_weight(mut self, weight: Vec<f32>) -> Self {
        self.pos_weight = Some(weight);
        self
    }
    /// Sets the probability above which a category is predicted. Default: 0.5.
    #[must_use]
    pub fn thresh(mut self, thresh: f64) -> Self {
        self.thresh = thresh;
        self
    }
    /// Returns the probability above which a category is predicted.
    pub(crate) fn threshold(&self) -> f64 {
        self.thresh
    }
    fn reduced(&self, pred: &Tensor, y: &Tensor, reduction: Reduction) -> Result<Tensor> {
        let y = y.f_to_kind(Kind::Float)?.f_view_as(pred)?;
        let classes = pred.size().last().copied().unwrap_or(1) as usize;
        let wrong = |what, n: usize| {
            Err(Error::mismatch(
                what,
                format!("there are {n} weights for outputs of shape {:?}", pred.size()),
            ))
        };
        let weight = match weights(self.weight.as_ref(), pred)? {
            Some(w) if w.numel() == pred.numel() => Some(w.f_view_as(pred)?),
            // libtorch would broadcast a single weight.
            Some(w) if w.numel() != classes => return wrong("weight", w.numel()),
            fits => fits,
        };
        let positive = weights(self.pos_weight.as_ref(), pred)?;
        if let Some(w) = positive.as_ref().filter(|w| w.numel() != classes) {
            return wrong("pos_weight", w.numel());
        }
        let (weight, positive) = (weight.as_ref(), positive.as_ref());
        Ok(pred.f_binary_cross_entropy_with_logits(&y, weight, positive, reduction)?)
    }
}

impl Default for BceWithLogits {
    fn default() -> Self {
        Self::new()
    }
}

impl Loss for BceWithLogits {
    fn name(&self) -> &str {
        "bce_with_logits"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        per_item(&self.elements(pred, y)?, items(pred))
    }
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(self.reduced(pred, y, Reduction::None)?.f_view([-1])?)
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.reduced(pred, y, Reduction::Mean)
    }
    fn sum(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.reduced(pred, y, Reduction::Sum)
    }
    fn activation(&self, pred: &Tensor) -> Result<Tensor> {
        Ok(pred.f_sigmoid()?)
    }
    fn decode(&self, activated: &Tensor) -> Result<Tensor> {
        Ok(activated.f_gt(self.thresh)?)
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::BceWithLogits(self.clone()))
    }
    fn check(&self, task: &Task) -> Result<()> {
        // `weight` may have a value for each element of a batch, whose size is not known yet.
        check_values("weight", self.weight.as_ref())?;
        check_weights("pos_weight", self.pos_weight.as_ref(), task)?;
        check_binary(self.name(), task)?;
        if self.thresh.is_nan() {
            return Err(Error::config("thresh", "is NaN"));
        }
        Ok(())
    }
}

/// Rejects single-category targets, which are indices instead of zeros and ones.
fn check_binary(loss: &str, task: &Task) -> Result<()> {
    match task {
        Task::Category { vocab } if vocab.len() > 2 => Err(Error::unsupported(
            "loss",
            format!(
                "`{loss}` needs targets of zeros and ones, but each target is one of {} classes: use \
                 `CrossEntropy`, or `MultiCategoryBlock` for several labels per item",
                vocab.len()
            ),
        )),
        _ => Ok(()),
    }
}

/// Binary cross-entropy of probabilities, for a model that ends in a sigmoid: fastai's `BCELossFlat`.
/// Predictions, between 0 and 1, and targets have the shape `[N, C]`. Prefer [`BceWithLogits`], which is
/// accurate for small probabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bce;

impl Loss for Bce {
    fn name(&self) -> &str {
        "bce"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        per_item(&self.elements(pred, y)?, items(pred))
    }
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        let y = y.f_to_kind(Kind::Float)?.f_view_as(pred)?;
        Ok(pred.f_binary_cross_entropy(&y, None::<&Tensor>, Reduction::None)?.f_view([-1])?)
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::Bce(*self))
    }
    fn check(&self, task: &Task) -> Result<()> {
        check_binary(self.name(), task)
    }
}
