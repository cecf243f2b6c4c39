use super::{Better, Metric, targets::Targets};
use crate::{error::Result, sample::Task, sys::caught};
use tch::{Device, Kind, Tensor};

/// A function of all predictions and targets of an epoch: fastai's `AccumMetric`. They stay on the device
/// until the end of the epoch.
///
/// ```
/// use finetune::{metric::{Metric, OverEpoch}, tch::{Kind, Tensor}};
///
/// let mut range = OverEpoch::new("range", |pred: &Tensor, _: &Tensor| {
///     Ok(f64::try_from(pred.max() - pred.min())?)
/// });
/// range.update(&Tensor::from_slice(&[1.0, 4.0]), &Tensor::from_slice(&[0.0, 0.0]))?;
/// range.update(&Tensor::from_slice(&[9.0]), &Tensor::from_slice(&[0.0]))?;
/// assert_eq!(range.value()?, Some(8.0));
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(derive_more::Debug)]
pub struct OverEpoch<F> {
    name: String,
    #[debug(skip)]
    f: F,
    preds: Vec<Tensor>,
    targets: Vec<Tensor>,
    better: Option<Better>,
    wants: (&'static str, Targets),
}

impl<F: Fn(&Tensor, &Tensor) -> Result<f64> + Send> OverEpoch<F> {
    /// Returns a metric from a function of all predictions and all targets of an epoch,
    /// concatenated and on the CPU.
    pub fn new(name: impl Into<String>, f: F) -> Self {
        Self {
            name: name.into(),
            f,
            preds: vec![],
            targets: vec![],
            better: None,
            wants: ("metric", Targets::Any),
        }
    }

    /// Sets which values are better, for callbacks that monitor the metric. Default: not set.
    #[must_use]
    pub fn better_is(mut self, better: Better) -> Self {
        self.better = Some(better);
        self
    }

    /// Sets the targets that the metric is defined for.
    pub(super) fn wants(mut self, name: &'static str, targets: Targets) -> Self {
        self.wants = (name, targets);
        self
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<f64> + Send> Metric for OverEpoch<F> {
    fn name(&self) -> &str {
        &self.name
    }
    fn reset(&mut self) {
        self.preds.clear();
        self.targets.clear();
    }
    fn update(&mut self, pred: &Tensor, y: &Tensor) -> Result<()> {
        self.preds.push(pred.f_detach()?);
        self.targets.push(y.f_detach()?);
        Ok(())
    }
    fn value(&self) -> Result<Option<f64>> {
        if self.preds.is_empty() {
            return Ok(None);
        }
        let all = |parts: &[Tensor]| Tensor::f_cat(parts, 0)?.f_to_device(Device::Cpu);
        let (preds, targets) = (all(&self.preds)?, all(&self.targets)?);
        caught(|| (self.f)(&preds, &targets)).map(Some)
    }
    fn better(&self) -> Option<Better> {
        self.better
    }
    fn check(&self, task: &Task) -> Result<()> {
        let (name, targets) = self.wants;
        targets.check(name, task)
    }
}

/// Returns the values of a tensor, in row-major order.
pub(super) fn numbers(t: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::try_from(t.f_to_kind(Kind::Double)?.f_reshape([-1])?)?)
}
