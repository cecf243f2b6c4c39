use super::{IGNORED, Loss, LossSpec, by_class, items, per_item, weights};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

/// Cross-entropy in which a fraction of the target is spread over all classes: fastai's
/// `LabelSmoothingCrossEntropyFlat`.
///
/// With weights for classes it is not torch's `label_smoothing` (which is
/// [`CrossEntropy::label_smoothing`](super::CrossEntropy::label_smoothing)): as in fastai, they
/// apply to the target's own fraction, with a weighted mean, and not to the spread fraction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelSmoothing {
    eps: f64,
    weight: Option<Vec<f32>>,
    pub(super) axis: i64,
}

impl LabelSmoothing {
    /// Spreads `eps` of the target; fastai's default is 0.1.
    #[must_use]
    pub fn new(eps: f64) -> Self {
        Self { eps, weight: None, axis: -1 }
    }
    /// A weight for each class, for the target's own part. Default: none.
    #[must_use]
    pub fn weight(mut self, weight: Vec<f32>) -> Self {
        self.weight = Some(weight);
        self
    }
    /// The dimension of the classes in the predictions. Default: -1, the last.
    #[must_use]
    pub fn axis(mut self, axis: i64) -> Self {
        self.axis = axis;
        self
    }
    fn reduced(&self, pred: &Tensor, y: &Tensor, reduction: Reduction) -> Tensor {
        let (pred, y) = by_class(pred, y, self.axis);
        let logs = pred.log_softmax(1, Kind::Float);
        let spread = -logs.mean_dim(1, false, Kind::Float);
        let spread = match reduction {
            Reduction::Mean => spread.mean(Kind::Float),
            Reduction::Sum => spread.sum(Kind::Float),
            Reduction::None | Reduction::Other(_) => spread,
        };
        let weight = weights(self.weight.as_ref(), &pred);
        let own = logs.g_nll_loss(&y, weight.as_ref(), reduction, IGNORED);
        spread * self.eps + own * (1.0 - self.eps)
    }
}

impl Loss for LabelSmoothing {
    fn name(&self) -> &str {
        "label_smoothing"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        per_item(&self.elements(pred, y), items(pred))
    }
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        self.reduced(pred, y, Reduction::None)
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        self.reduced(pred, y, Reduction::Mean)
    }
    fn sum(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        self.reduced(pred, y, Reduction::Sum)
    }
    fn activation(&self, pred: &Tensor) -> Tensor {
        pred.softmax(self.axis, Kind::Float)
    }
    fn decode(&self, activated: &Tensor) -> Tensor {
        activated.argmax(self.axis, false)
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::LabelSmoothing(self.clone()))
    }
}
