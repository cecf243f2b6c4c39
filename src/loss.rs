//! Losses, and what a model's output means under them.

use crate::sample::Task;
use std::fmt::Debug;
use tch::{Kind, Reduction, Tensor};

/// What is minimised, and what a model's output means under it.
pub trait Loss: Debug {
    /// Its name, under which an exported model finds it again. Default: the type's name.
    fn name(&self) -> &str {
        std::any::type_name::<Self>().rsplit("::").next().unwrap_or("loss")
    }
    /// The loss of each item, as N numbers.
    fn each(&self, pred: &Tensor, y: &Tensor) -> Tensor;
    /// One number of the losses of the items of a batch, also of those that MixUp has mixed. Default:
    /// their mean.
    fn reduce(&self, each: &Tensor) -> Tensor {
        each.mean(Kind::Float)
    }
    /// What is minimised: a single number. Default: [`Loss::reduce`] of [`Loss::each`].
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        self.reduce(&self.each(pred, y))
    }
    /// What users see of a model's output, such as probabilities. Default: the output.
    fn activation(&self, pred: &Tensor) -> Tensor {
        pred.shallow_clone()
    }
    /// What activated outputs say, such as the class of the highest probability. Default: the same.
    fn decode(&self, activated: &Tensor) -> Tensor {
        activated.shallow_clone()
    }
}

/// The mean over all but the first dimension.
fn per_item(t: &Tensor) -> Tensor {
    if t.dim() <= 1 { t.shallow_clone() } else { t.flatten(1, -1).mean_dim(1, false, Kind::Float) }
}

/// Cross-entropy for one category each: the negative logarithm of the softmax's probability for the
/// target. Predictions N×C, targets N.
///
/// ```
/// use finetune::{loss::{CrossEntropy, Loss}, tch::{Kind, Tensor, Device}};
///
/// tch::manual_seed(42);
/// let pred = Tensor::randn([6, 2], (Kind::Float, Device::Cpu)) * 2;
/// let y = Tensor::from_slice(&[0_i64, 1, 0, 1, 1, 0]);
/// let loss = CrossEntropy::new().mean(&pred, &y);
/// assert_eq!(format!("{:.4}", f64::try_from(loss)?), "1.8045");
/// # Ok::<(), finetune::tch::TchError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct CrossEntropy {
    weight: Option<Vec<f32>>,
    label_smoothing: f64,
}

impl CrossEntropy {
    /// Every class with the same weight, no smoothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// A weight for each class; the mean is then the weighted one. Default: none.
    #[must_use]
    pub fn weight(mut self, weight: Vec<f32>) -> Self {
        self.weight = Some(weight);
        self
    }
    /// How much of the target is spread over all classes, as torch's `label_smoothing`. Default: 0.
    #[must_use]
    pub fn label_smoothing(mut self, eps: f64) -> Self {
        self.label_smoothing = eps;
        self
    }
    fn reduced(&self, pred: &Tensor, y: &Tensor, reduction: Reduction) -> Tensor {
        let weight = self.weight.as_ref().map(|w| Tensor::from_slice(w).to_device(pred.device()));
        let y = y.to_kind(Kind::Int64);
        pred.cross_entropy_loss(&y, weight.as_ref(), reduction, -100, self.label_smoothing)
    }
}

impl Loss for CrossEntropy {
    fn name(&self) -> &str {
        "cross_entropy"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        per_item(&self.reduced(pred, y, Reduction::None))
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        self.reduced(pred, y, Reduction::Mean)
    }
    fn activation(&self, pred: &Tensor) -> Tensor {
        pred.softmax(1, Kind::Float)
    }
    fn decode(&self, activated: &Tensor) -> Tensor {
        activated.argmax(1, false)
    }
}

/// Binary cross-entropy for several categories each. Predictions and targets N×C.
#[derive(Debug, Clone)]
pub struct BceWithLogits {
    pos_weight: Option<Vec<f32>>,
    thresh: f64,
}

impl BceWithLogits {
    /// A category is predicted if its probability is above a half.
    #[must_use]
    pub fn new() -> Self {
        Self { pos_weight: None, thresh: 0.5 }
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
        let weight =
            self.pos_weight.as_ref().map(|w| Tensor::from_slice(w).to_device(pred.device()));
        let y = y.to_kind(Kind::Float).view_as(pred);
        let none = None::<&Tensor>;
        let all = pred.binary_cross_entropy_with_logits(&y, none, weight.as_ref(), Reduction::None);
        per_item(&all)
    }
    fn activation(&self, pred: &Tensor) -> Tensor {
        pred.sigmoid()
    }
    fn decode(&self, activated: &Tensor) -> Tensor {
        activated.gt(self.thresh)
    }
}

/// The mean of squared differences. Predictions N×n, targets N×n, or N where n is 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mse;

impl Loss for Mse {
    fn name(&self) -> &str {
        "mse"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        per_item(&(pred - y.to_kind(Kind::Float).view_as(pred)).square())
    }
}

/// Cross-entropy in which a part of the target is spread over all classes: fastai's
/// `LabelSmoothingCrossEntropy`.
#[derive(Debug, Clone, Copy)]
pub struct LabelSmoothing {
    eps: f64,
}

impl LabelSmoothing {
    /// Spreads `eps` of the target; fastai's default is 0.1.
    #[must_use]
    pub fn new(eps: f64) -> Self {
        Self { eps }
    }
}

impl Loss for LabelSmoothing {
    fn name(&self) -> &str {
        "label_smoothing"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Tensor {
        let logs = pred.log_softmax(1, Kind::Float);
        let own = -logs.gather(1, &y.to_kind(Kind::Int64).unsqueeze(1), false).squeeze_dim(1);
        let spread = -logs.mean_dim(1, false, Kind::Float);
        spread * self.eps + own * (1.0 - self.eps)
    }
    fn activation(&self, pred: &Tensor) -> Tensor {
        pred.softmax(1, Kind::Float)
    }
    fn decode(&self, activated: &Tensor) -> Tensor {
        activated.argmax(1, false)
    }
}

/// What fits the targets: cross-entropy for one category, binary cross-entropy for several, mean
/// squared error for numbers.
#[must_use]
pub fn default_for(task: &Task) -> Box<dyn Loss> {
    match task {
        Task::Category { .. } => Box::new(CrossEntropy::new()),
        Task::Categories { .. } => Box::new(BceWithLogits::new()),
        Task::Values { .. } => Box::new(Mse),
    }
}

/// The loss of an exported model by its name: what its outputs mean does not depend on weights.
pub(crate) fn by_name(name: &str) -> Option<Box<dyn Loss + Send>> {
    Some(match name {
        "cross_entropy" => Box::new(CrossEntropy::new()),
        "label_smoothing" => Box::new(LabelSmoothing::new(0.1)),
        "bce_with_logits" => Box::new(BceWithLogits::new()),
        "mse" => Box::new(Mse),
        _ => return None,
    })
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
        let each: Vec<f32> = Vec::try_from(CrossEntropy::new().each(&pred, &y)).unwrap();
        let digits: Vec<String> = each.iter().map(|l| format!("{l:.4}")).collect();
        assert_eq!(digits, ["0.5067", "0.6973", "2.0160", "5.6958", "0.9062", "1.0048"]);
        let mean = f64::try_from(CrossEntropy::new().mean(&pred, &y)).unwrap();
        assert_eq!(format!("{mean:.4}"), "1.8045");
    }
}
