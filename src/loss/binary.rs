use super::{Loss, LossSpec, items, per_item, weights};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

/// Binary cross-entropy for several categories each: fastai's `BCEWithLogitsLossFlat`. Predictions and
/// targets N×C.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BceWithLogits {
    weight: Option<Vec<f32>>,
    pos_weight: Option<Vec<f32>>,
    thresh: f64,
}

impl BceWithLogits {
    /// A category is predicted if its probability is above a half.
    #[must_use]
    pub fn new() -> Self {
        Self { weight: None, pos_weight: None, thresh: 0.5 }
    }
    /// A weight for each category, or for each element of a batch, row by row. Default: none.
    #[must_use]
    pub fn weight(mut self, weight: Vec<f32>) -> Self {
        self.weight = Some(weight);
        self
    }
    /// A weight for the positive targets of each category. Default: none.
    #[must_use]
    pub fn pos_weight(mut self, weight: Vec<f32>) -> Self {
        self.pos_weight = Some(weight);
        self
    }
    /// The probability above which a category is predicted. Default: 0.5.
    #[must_use]
    pub fn thresh(mut self, thresh: f64) -> Self {
        self.thresh = thresh;
        self
    }
    fn reduced(&self, pred: &Tensor, y: &Tensor, reduction: Reduction) -> Tensor {
        let y = y.to_kind(Kind::Float).view_as(pred);
        let weight = weights(self.weight.as_ref(), pred);
        let weight = weight.map(|w| if w.numel() == pred.numel() { w.view_as(pred) } else { w });
        let positive = weights(self.pos_weight.as_ref(), pred);
        pred.binary_cross_entropy_with_logits(&y, weight.as_ref(), positive.as_ref(), reduction)
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
    fn each(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        per_item(&self.elements(pred, y), items(pred))
    }
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        self.reduced(pred, y, Reduction::None).view([-1])
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        self.reduced(pred, y, Reduction::Mean)
    }
    fn sum(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        self.reduced(pred, y, Reduction::Sum)
    }
    fn activation(&self, pred: &Tensor) -> Tensor {
        pred.sigmoid()
    }
    fn decode(&self, activated: &Tensor) -> Tensor {
        activated.gt(self.thresh)
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::BceWithLogits(self.clone()))
    }
}

/// Binary cross-entropy of probabilities, for a model that ends in a sigmoid: fastai's `BCELossFlat`.
/// Predictions, between 0 and 1, and targets N×C. Prefer [`BceWithLogits`], which does not lose small
/// probabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bce;

impl Loss for Bce {
    fn name(&self) -> &str {
        "bce"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        per_item(&self.elements(pred, y), items(pred))
    }
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        let y = y.to_kind(Kind::Float).view_as(pred);
        pred.binary_cross_entropy(&y, None::<&Tensor>, Reduction::None).view([-1])
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::Bce(*self))
    }
}
