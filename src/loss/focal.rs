use super::{IGNORED, Loss, LossSpec, by_class, check_weights, counted, items, weights};
use crate::{
    error::{Error, Result},
    sample::Task,
};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

/// The minimum of `1 - p`: for a `gamma` below 1, the slope of its power at 0 is infinite.
const LEAST: f64 = 1e-12;

/// Cross-entropy in which easy items count less, by the factor `(1 - p)^gamma`: fastai's `FocalLossFlat`.
///
/// As in fastai, `p` comes from the weighted cross-entropy if classes have weights, and the mean is
/// unweighted. Lin et al., [Focal Loss](https://arxiv.org/abs/1708.02002).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Focal {
    gamma: f64,
    weight: Option<Vec<f32>>,
    pub(super) axis: i64,
    #[serde(default = "super::ignored")]
    ignore_index: i64,
}

impl Focal {
    /// Returns the loss with fastai's default `gamma`, 2.
    #[must_use]
    pub fn new() -> Self {
        Self { gamma: 2.0, weight: None, axis: -1, ignore_index: IGNORED }
    }
    /// Sets the exponent that reduces the weight of easy items; 0 gives cross-entropy. Default: 2.
    #[must_use]
    pub fn gamma(mut self, gamma: f64) -> Self {
        self.gamma = gamma;
        self
    }
    /// Sets a weight for each class. Default: none.
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
    /// Sets the target that is ignored in losses and their means. Default: -100, as in PyTorch.
    #[must_use]
    pub fn ignore_index(mut self, index: i64) -> Self {
        self.ignore_index = index;
        self
    }
}

impl Default for Focal {
    fn default() -> Self {
        Self::new()
    }
}

impl Loss for Focal {
    fn name(&self) -> &str {
        "focal"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        counted(
            &self.elements(pred, y)?,
            &by_class(pred, y, self.axis)?.1,
            self.ignore_index,
            items(pred),
        )
    }
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (pred, y) = by_class(pred, y, self.axis)?;
        let weight = weights(self.weight.as_ref(), &pred)?;
        let (weight, ignored) = (weight.as_ref(), self.ignore_index);
        let all = pred.f_cross_entropy_loss(&y, weight, Reduction::None, ignored, 0.0)?;
        let left = all.f_neg()?.f_expm1()?.f_neg()?;
        Ok(left.f_clamp_min(LEAST)?.f_pow_tensor_scalar(self.gamma)?.f_mul(&all)?)
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        let sum = self.elements(pred, y)?.f_sum(Kind::Float)?;
        Ok(sum.f_div(&y.f_ne(self.ignore_index)?.f_sum(Kind::Float)?)?)
    }
    fn divisor(&self, _: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(y.f_ne(self.ignore_index)?.f_sum(Kind::Float)?))
    }
    fn activation(&self, pred: &Tensor) -> Result<Tensor> {
        Ok(pred.f_softmax(self.axis, Kind::Float)?)
    }
    fn decode(&self, activated: &Tensor) -> Result<Tensor> {
        Ok(activated.f_argmax(self.axis, false)?)
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::Focal(self.clone()))
    }
    fn check(&self, task: &Task) -> Result<()> {
        check_weights("weight", self.weight.as_ref(), task)?;
        if self.gamma.is_finite() && self.gamma >= 0.0 {
            return Ok(());
        }
        Err(Error::config(
            "gamma",
            format!("is {}; it must be finite and not negative", self.gamma),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_is_certain_has_a_finite_gradient() {
        let pred = Tensor::from_slice(&[60.0_f32, -60.0]).view([1, 2]).set_requires_grad(true);
        let y = Tensor::from_slice(&[0_i64]);
        Focal::new().gamma(0.5).mean(&pred, &y).unwrap().backward();
        let grad: Vec<f32> = Vec::try_from(pred.grad().view([-1])).unwrap();
        assert!(grad.iter().all(|g| g.is_finite()), "{grad:?}");
    }
}
