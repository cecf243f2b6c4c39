use super::{
    IGNORED, Loss, LossSpec, by_class, check_weights, counted, item_weights, items, weighted_mean,
    weights,
};
use crate::{
    error::{Error, Result},
    sample::Task,
};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

/// Cross-entropy for one category per item: the negative logarithm of the target's softmax probability.
/// Predictions `[N, C]`, targets `[N]`; for more dimensions, see [`CrossEntropy::axis`]. Targets of -100
/// are ignored. fastai's `CrossEntropyLossFlat`.
///
/// ```
/// use finetune::{loss::{CrossEntropy, Loss}, tch::{Kind, Tensor, Device}};
///
/// tch::manual_seed(42);
/// let pred = Tensor::randn([6, 2], (Kind::Float, Device::Cpu)) * 2;
/// let y = Tensor::from_slice(&[0_i64, 1, 0, 1, 1, 0]);
/// let loss = CrossEntropy::new().mean(&pred, &y)?;
/// assert_eq!(format!("{:.4}", f64::try_from(loss)?), "1.8045");
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrossEntropy {
    weight: Option<Vec<f32>>,
    label_smoothing: f64,
    pub(super) axis: i64,
    #[serde(default = "super::ignored")]
    ignore_index: i64,
}

impl CrossEntropy {
    /// Creates the loss without class weights or smoothing, with the classes in the last dimension.
    #[must_use]
    pub fn new() -> Self {
        Self { weight: None, label_smoothing: 0.0, axis: -1, ignore_index: IGNORED }
    }
    /// Sets a weight for each class; the mean is then weighted. Default: none.
    #[must_use]
    pub fn weight(mut self, weight: Vec<f32>) -> Self {
        self.weight = Some(weight);
        self
    }
    /// Sets the fraction of the target that is spread over all classes, as torch's `label_smoothing`.
    /// Default: 0.
    #[must_use]
    pub fn label_smoothing(mut self, eps: f64) -> Self {
        self.label_smoothing = eps;
        self
    }
    /// Sets the dimension of the classes in the predictions: 1 for segmentation, with predictions `[N, C,
    /// H, W]` and targets `[N, H, W]`. Default: -1, the last.
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
    fn reduced(&self, pred: &Tensor, y: &Tensor, reduction: Reduction) -> Result<Tensor> {
        let (pred, y) = by_class(pred, y, self.axis)?;
        let weight = weights(self.weight.as_ref(), &pred)?;
        let (weight, smoothing) = (weight.as_ref(), self.label_smoothing);
        Ok(pred.f_cross_entropy_loss(&y, weight, reduction, self.ignore_index, smoothing)?)
    }
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Loss for CrossEntropy {
    fn name(&self) -> &str {
        "cross_entropy"
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
        self.reduced(pred, y, Reduction::None)
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.reduced(pred, y, Reduction::Mean)
    }
    fn divisor(&self, pred: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
        let class_weights = weights(self.weight.as_ref(), pred)?;
        let (_, y) = by_class(pred, y, self.axis)?;
        // The weights of elements, not their mean per item, since the divisor is the sum over elements.
        let counts = item_weights(&y, class_weights.as_ref(), self.ignore_index, y.numel() as i64)?;
        Ok(Some(counts.f_sum(Kind::Float)?))
    }
    fn sum(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.reduced(pred, y, Reduction::Sum)
    }
    fn activation(&self, pred: &Tensor) -> Result<Tensor> {
        Ok(pred.f_softmax(self.axis, Kind::Float)?)
    }
    fn decode(&self, activated: &Tensor) -> Result<Tensor> {
        Ok(activated.f_argmax(self.axis, false)?)
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::CrossEntropy(self.clone()))
    }
    fn mixed(&self, pred: &Tensor, y: &Tensor, other: &Tensor, weight: &Tensor) -> Result<Tensor> {
        // As for items that are not mixed, the mean is weighted, so class weights are mixed too.
        let class_weights = weights(self.weight.as_ref(), pred)?;
        let counts = |y: &Tensor| {
            let (_, y) = by_class(pred, y, self.axis)?;
            item_weights(&y, class_weights.as_ref(), self.ignore_index, items(pred))
        };
        let each = self.each(pred, other)?.f_lerp_tensor(&self.each(pred, y)?, weight)?;
        weighted_mean(&each, &counts(other)?.f_lerp_tensor(&counts(y)?, weight)?)
    }
    fn check(&self, task: &Task) -> Result<()> {
        check_weights("weight", self.weight.as_ref(), task)?;
        if (0.0..=1.0).contains(&self.label_smoothing) {
            return Ok(());
        }
        let why = format!("is {}; it must be between 0 and 1", self.label_smoothing);
        Err(Error::config("label_smoothing", why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn the_textbook_example_holds_to_its_digits() {
        tch::manual_seed(42);
        let pred = Tensor::randn([6, 2], (Kind::Float, Device::Cpu)) * 2;
        let y = Tensor::from_slice(&[0_i64, 1, 0, 1, 1, 0]);
        let each: Vec<f32> = Vec::try_from(CrossEntropy::new().each(&pred, &y).unwrap()).unwrap();
        let digits: Vec<String> = each.iter().map(|l| format!("{l:.4}")).collect();
        assert_eq!(digits, ["0.5067", "0.6973", "2.0160", "5.6958", "0.9062", "1.0048"]);
        let mean = f64::try_from(CrossEntropy::new().mean(&pred, &y).unwrap()).unwrap();
        assert_eq!(format!("{mean:.4}"), "1.8045");
    }

    #[test]
    fn an_image_of_classes_has_one_loss() {
        let pred = Tensor::zeros([2, 5, 3, 4], (Kind::Float, Device::Cpu));
        let y = Tensor::zeros([2, 3, 4], (Kind::Int64, Device::Cpu));
        let loss = CrossEntropy::new().axis(1);
        assert_eq!(loss.each(&pred, &y).unwrap().size(), [2]);
        assert_eq!(loss.elements(&pred, &y).unwrap().size(), [24]);
    }
}
