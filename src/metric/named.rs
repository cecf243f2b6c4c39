use super::{Better, Metric};
use crate::{
    error::Result,
    sample::{Batch, Task},
};
use tch::Tensor;

/// A metric with another name. Returned by [`named`].
#[derive(Debug)]
pub struct Named<M> {
    name: String,
    metric: M,
}

/// Renames a metric; the name is its column in the table of epochs.
///
/// ```
/// use finetune::metric::{Average, Metric, f1_score, named};
///
/// let metric = named("f1_macro", f1_score().average(Average::Macro));
/// assert_eq!(metric.name(), "f1_macro");
/// ```
#[must_use]
pub fn named<M: Metric>(name: impl Into<String>, metric: M) -> Named<M> {
    Named { name: name.into(), metric }
}

impl<M: Metric> Metric for Named<M> {
    fn name(&self) -> &str {
        &self.name
    }
    fn reset(&mut self) {
        self.metric.reset();
    }
    fn update(&mut self, pred: &Tensor, y: &Tensor) -> Result<()> {
        self.metric.update(pred, y)
    }
    fn update_batch(&mut self, pred: &Tensor, batch: &Batch) -> Result<()> {
        self.metric.update_batch(pred, batch)
    }
    fn update_loss(&mut self, loss: &Tensor, items: i64) -> Result<()> {
        self.metric.update_loss(loss, items)
    }
    fn state(&self) -> Option<Vec<(String, Tensor)>> {
        self.metric.state()
    }
    fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        self.metric.load_state(state)
    }
    fn value(&self) -> Result<Option<f64>> {
        self.metric.value()
    }
    fn better(&self) -> Option<Better> {
        self.metric.better()
    }
    fn check(&self, task: &Task) -> Result<()> {
        self.metric.check(task)
    }
}
