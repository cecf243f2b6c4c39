use super::{Better, Metric, targets::Targets};
use crate::{
    error::{Error, Result},
    sample::Task,
    sys::caught,
};
use tch::{Device, Kind, Tensor};

/// The value of a metric for one batch, which may still be on the device.
#[derive(Debug)]
#[non_exhaustive]
pub enum MetricValue {
    /// A number on the host.
    Plain(f64),
    /// A tensor of one number, not yet read from the device.
    Tensor(Tensor),
}

impl From<f64> for MetricValue {
    fn from(v: f64) -> Self {
        Self::Plain(v)
    }
}

impl From<Tensor> for MetricValue {
    fn from(t: Tensor) -> Self {
        Self::Tensor(t)
    }
}

/// A sum that stays on the device.
#[derive(Debug, Default)]
pub(super) struct Total {
    plain: f64,
    device: Option<Tensor>,
    count: i64,
}

impl Total {
    /// Adds `n` times a number: `n` items with this mean.
    pub(super) fn add(&mut self, number: impl Into<MetricValue>, n: i64) -> Result<()> {
        // The mean over no items is NaN.
        if n == 0 {
            return Ok(());
        }
        match number.into() {
            MetricValue::Plain(v) => self.plain += v * n as f64,
            MetricValue::Tensor(t) => {
                // An undefined tensor has no device.
                t.f_kind()?;
                let kind = if t.device() == Device::Mps { Kind::Float } else { Kind::Double };
                let part = t.detach().f_to_kind(kind)? * n as f64;
                self.device = Some(match self.device.take() {
                    Some(sum) => sum.f_add(&part)?,
                    None => part,
                });
            }
        }
        self.count = self.count.saturating_add(n);
        Ok(())
    }

    /// Returns the sums as tensors.
    pub(super) fn state(&self) -> Vec<(String, Tensor)> {
        let numbers = Tensor::from_slice(&[self.plain, self.count as f64]);
        let device = self.device.as_ref().map(|t| ("device".to_owned(), t.shallow_clone()));
        std::iter::once(("numbers".to_owned(), numbers)).chain(device).collect()
    }

    /// Restores the result of [`Total::state`].
    pub(super) fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let find = |name: &str| state.iter().find(|(n, _)| n == name).map(|(_, t)| t);
        let numbers = find("numbers").map(Vec::<f64>::try_from).transpose()?;
        let Some([plain, count]) = numbers.as_deref() else {
            return Err(Error::mismatch("Metric::load_state", "this is not the state of a mean"));
        };
        let device = find("device").map(Tensor::shallow_clone);
        *self = Self { plain: *plain, device, count: *count as i64 };
        Ok(())
    }

    /// Returns the mean over the items; `None` without items. Waits for the device.
    pub(super) fn mean(&self) -> Result<Option<f64>> {
        if self.count == 0 {
            return Ok(None);
        }
        let device = self.device.as_ref().map_or(Ok(0.0), f64::try_from)?;
        Ok(Some((self.plain + device) / self.count as f64))
    }
}

/// The mean of a function over the items of an epoch: fastai's `AvgMetric`. The function returns the mean
/// of a batch, as a number, or as a tensor with one element so that no batch waits for the device.
///
/// ```
/// use finetune::{metric::{Mean, Metric}, tch::{Kind, Tensor}};
///
/// let mut bias = Mean::new("bias", |pred: &Tensor, y: &Tensor| Ok((pred - y).mean(Kind::Float)));
/// bias.update(&Tensor::from_slice(&[1.0_f32, 4.0]), &Tensor::from_slice(&[0.0_f32, 1.0]))?;
/// assert_eq!(bias.value()?, Some(2.0));
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(derive_more::Debug)]
pub struct Mean<F> {
    name: String,
    #[debug(skip)]
    f: F,
    /// The function applied to the mean at the end.
    #[debug(skip)]
    finish: fn(f64) -> f64,
    total: Total,
    better: Option<Better>,
    targets: (&'static str, Targets),
}

impl<F, R> Mean<F>
where
    F: Fn(&Tensor, &Tensor) -> Result<R> + Send,
    R: Into<MetricValue>,
{
    /// Returns a metric from a function of predictions and targets that returns the mean of a batch.
    pub fn new(name: impl Into<String>, f: F) -> Self {
        Self {
            name: name.into(),
            f,
            finish: |mean| mean,
            total: Total::default(),
            better: None,
            targets: ("metric", Targets::Any),
        }
    }

    /// Sets which values are better, for callbacks that monitor the metric. Default: not set.
    #[must_use]
    pub fn better_is(mut self, better: Better) -> Self {
        self.better = Some(better);
        self
    }

    /// Sets the targets that the metric is defined for.
    pub(super) fn targets(mut self, name: &'static str, targets: Targets) -> Self {
        self.targets = (name, targets);
        self
    }

    /// Sets a function that is applied to the mean of the epoch, such as a square root. Default: none.
    #[must_use]
    pub fn finish(mut self, f: fn(f64) -> f64) -> Self {
        self.finish = f;
        self
    }
}

impl<F, R> Metric for Mean<F>
where
    F: Fn(&Tensor, &Tensor) -> Result<R> + Send,
    R: Into<MetricValue>,
{
    fn name(&self) -> &str {
        &self.name
    }
    fn reset(&mut self) {
        self.total = Total::default();
    }
    fn update(&mut self, pred: &Tensor, y: &Tensor) -> Result<()> {
        let n = y.size().first().copied().unwrap_or(1);
        // The function may fail without items.
        if n == 0 {
            return Ok(());
        }
        self.total.add(caught(|| (self.f)(pred, y))?, n)
    }
    fn state(&self) -> Option<Vec<(String, Tensor)>> {
        Some(self.total.state())
    }
    fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        self.total.load_state(state)
    }
    fn value(&self) -> Result<Option<f64>> {
        Ok(self.total.mean()?.map(self.finish))
    }
    fn better(&self) -> Option<Better> {
        self.better
    }
    fn check(&self, task: &Task) -> Result<()> {
        let (name, targets) = self.targets;
        targets.check(name, task)
    }
}
