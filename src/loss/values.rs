use super::{Loss, LossSpec, items, per_item};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

fn difference(pred: &Tensor, y: &Tensor) -> Tensor {
    (pred - y.to_kind(Kind::Float).view_as(pred)).view([-1])
}

/// The mean of squared differences: fastai's `MSELossFlat`. Predictions N×n, targets N×n, or N where n
/// is 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mse;

impl Loss for Mse {
    fn name(&self) -> &str {
        "mse"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        per_item(&self.elements(pred, y), items(pred))
    }
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        difference(pred, y).square()
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        self.elements(pred, y).mean(Kind::Float)
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::Mse(*self))
    }
}

/// The mean of absolute differences: fastai's `L1LossFlat`. Predictions N×n, targets N×n, or N where n
/// is 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct L1;

impl Loss for L1 {
    fn name(&self) -> &str {
        "l1"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        per_item(&self.elements(pred, y), items(pred))
    }
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        difference(pred, y).abs()
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        self.elements(pred, y).mean(Kind::Float)
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::L1(*self))
    }
}
