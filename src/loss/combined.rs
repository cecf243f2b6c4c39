use super::{Loss, LossSpec};
use crate::{
    error::{Error, Result},
    sample::Task,
};
use tch::Tensor;

/// A weighted sum of losses. Activation and decoding are those of the first one.
///
/// In a fit with several processes, or with
/// [`deterministic_reduction`](crate::learner::DistributedOptions::deterministic_reduction), the means of
/// the parts of a batch are combined by one [divisor](Loss::divisor). Losses whose means have different
/// divisors, for example because only one of them has class weights or ignores targets, are an error
/// there.
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

    fn each_of<T>(&self, of: impl Fn(&dyn Loss) -> Result<T>) -> Result<Vec<T>> {
        self.losses.iter().map(|(loss, _)| of(&**loss)).collect()
    }

    fn sum_of(&self, of: impl Fn(&dyn Loss) -> Result<Tensor>) -> Result<Tensor> {
        self.weighted_sum(&self.each_of(of)?)
    }

    /// Returns the weighted sum of the values of the losses.
    fn weighted_sum(&self, values: &[Tensor]) -> Result<Tensor> {
        let mut parts = values.iter().zip(&self.losses).map(|(v, (_, w))| v.f_mul_scalar(*w));
        // There is at least one part.
        let first = parts.next().unwrap_or_else(|| Ok(Tensor::new()))?;
        Ok(parts.try_fold(first, |sum, part| sum.f_add(&part?))?)
    }
}

impl Loss for Combined {
    fn name(&self) -> &str {
        "combined"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sum_of(|loss| loss.each(pred, y))
    }
    /// Returns the weighted sums of the elements.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the losses have different numbers of elements.
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        let parts = self.each_of(|loss| loss.elements(pred, y))?;
        let counts: Vec<usize> = parts.iter().map(Tensor::numel).collect();
        if counts.iter().any(|n| *n != counts[0]) {
            let why =
                format!("the losses have {counts:?} elements, which cannot be added: use `each`");
            return Err(Error::mismatch("combined", why));
        }
        self.weighted_sum(&parts)
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sum_of(|loss| loss.mean(pred, y))
    }
    fn sum(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sum_of(|loss| loss.sum(pred, y))
    }
    /// Returns the divisor that the means of all losses have in common.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the divisors differ.
    fn divisor(&self, pred: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
        let divisors = self.each_of(|loss| loss.divisor(pred, y))?;
        let Some(first) = divisors.iter().flatten().next() else { return Ok(None) };
        if divisors.len() == 1 {
            return Ok(Some(first.shallow_clone()));
        }
        // A mean over the items is combined exactly with one over all elements of the targets, since all
        // items have the same number of elements.
        let over_items = divisors.iter().any(Option::is_none);
        let common = if over_items { y.numel() as f64 } else { f64::try_from(first)? };
        for (divisor, (loss, _)) in divisors.iter().zip(&self.losses) {
            let Some(divisor) = divisor else { continue };
            let own = f64::try_from(divisor)?;
            let same = (own - common).abs() <= 1e-6 * common.abs();
            if !same {
                let why = format!(
                    "the means of its losses have different divisors: {own} for `{}`, but {common} for \
                     another one, so the means of the parts of a batch cannot be combined. Give all \
                     losses the same class weights and ignored targets, or train with one process and \
                     without `deterministic_reduction`",
                    loss.name()
                );
                return Err(Error::unsupported("combined", why));
            }
        }
        Ok((!over_items).then(|| first.shallow_clone()))
    }
    fn mixed(&self, pred: &Tensor, y: &Tensor, other: &Tensor, weight: &Tensor) -> Result<Tensor> {
        self.sum_of(|loss| loss.mixed(pred, y, other, weight))
    }
    fn activation(&self, pred: &Tensor) -> Result<Tensor> {
        self.losses[0].0.activation(pred)
    }
    fn decode(&self, activated: &Tensor) -> Result<Tensor> {
        self.losses[0].0.decode(activated)
    }
    fn check(&self, task: &Task) -> Result<()> {
        for (loss, weight) in &self.losses {
            if !(weight.is_finite() && *weight >= 0.0) {
                let name = loss.name();
                let why = format!(
                    "the weight of `{name}` is {weight}; it must be finite and not negative"
                );
                return Err(Error::config("combined", why));
            }
            loss.check(task)?;
        }
        Ok(())
    }
    /// Returns the spec of the first loss: an exported model needs only its activation and decoding.
    fn spec(&self) -> Option<LossSpec> {
        self.losses[0].0.spec()
    }
}
