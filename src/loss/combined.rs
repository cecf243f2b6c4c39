use super::{Loss, LossSpec};
use crate::{error::Result, sample::Task};
use tch::Tensor;

/// A weighted sum of losses. Activation and decoding are those of the first one.
///
/// ```
/// use finetune::loss::{Combined, CrossEntropy, Dice, Loss};
/// use finetune::tch::{Device, Kind, Tensor};
///
/// let loss = Combined::new(CrossEntropy::new().axis(1), 1.0).and(Dice::new(), 0.5);
/// let (pred, y) = (Tensor::zeros([2, 3, 4, 4], (Kind::Float, Device::Cpu)), [2, 4, 4]);
/// let y = Tensor::zeros(y, (Kind::Int64, Device::Cpu));
/// assert_eq!(loss.each(&pred, &y)?.size(), [2]);
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug)]
pub struct Combined {
    losses: Vec<(Box<dyn Loss>, f64)>,
}

impl Combined {
    /// Creates the loss `weight * loss`.
    #[must_use]
    pub fn new(loss: impl Loss + 'static, weight: f64) -> Self {
        Self { losses: vec![(Box::new(loss), weight)] }
    }

    /// Adds `weight * loss`.
    #[must_use]
    pub fn and(mut self, loss: impl Loss + 'static, weight: f64) -> Self {
        self.losses.push((Box::new(loss), weight));
        self
    }

    fn sum_of(&self, of: impl Fn(&dyn Loss) -> Result<Tensor>) -> Result<Tensor> {
        let mut parts = self.losses.iter().map(|(loss, weight)| Ok(of(&**loss)? * *weight));
        // There is at least one part.
        let first = parts.next().unwrap_or_else(|| Ok(Tensor::new()))?;
        parts.try_fold(first, |sum, part: Result<Tensor>| Ok(sum.f_add(&part?)?))
    }
}

impl Loss for Combined {
    fn name(&self) -> &str {
        "combined"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sum_of(|loss| loss.each(pred, y))
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sum_of(|loss| loss.mean(pred, y))
    }
    fn sum(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sum_of(|loss| loss.sum(pred, y))
    }
    fn activation(&self, pred: &Tensor) -> Result<Tensor> {
        self.losses[0].0.activation(pred)
    }
    fn decode(&self, activated: &Tensor) -> Result<Tensor> {
        self.losses[0].0.decode(activated)
    }
    fn check(&self, task: &Task) -> Result<()> {
        self.losses.iter().try_for_each(|(loss, _)| loss.check(task))
    }
    /// Returns the spec of the first loss: an exported model needs only its activation and decoding.
    fn spec(&self) -> Option<LossSpec> {
        self.losses[0].0.spec()
    }
}
