//! Columns and calls of a learner's metrics. Errors and panics name the metric.

use crate::{
    error::{Error, Result},
    metric::{Better, Metric},
    sample::Batch,
    sys::caught,
};
use tch::Tensor;

/// Returns the columns of the table, and which values of each are better. Metrics with equal names are
/// numbered.
pub(in crate::learner) fn columns(
    train_metrics: bool,
    metrics: &[Box<dyn Metric>],
) -> Result<Columns> {
    let mut metric_names: Vec<(String, Option<Better>)> = vec![];
    for metric in metrics {
        let (name, better) = caught(|| Ok((metric.name().to_owned(), metric.better())))?;
        let taken = |n: &str| {
            ["train_loss", "valid_loss"].contains(&n) || metric_names.iter().any(|m| m.0 == n)
        };
        let numbered = (2..).map(|k| format!("{name}_{k}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|n| !taken(n));
        metric_names.push((free.unwrap_or(name), better));
    }
    let prefixed = |prefix: &str| {
        metric_names.iter().map(|(n, better)| (format!("{prefix}{n}"), *better)).collect::<Vec<_>>()
    };
    let (train, valid) = match train_metrics {
        true => (prefixed("train_"), prefixed("valid_")),
        false => (vec![], prefixed("")),
    };
    let loss = |name: &str| std::iter::once((name.to_owned(), Some(Better::Lower)));
    let all = loss("train_loss").chain(train).chain(loss("valid_loss")).chain(valid);
    Ok(all.unzip())
}

/// The names of columns, and which values of each are better.
type Columns = (Vec<String>, Vec<Option<Better>>);

/// Calls a function with each metric. Errors and panics name the metric.
fn each_metric<T>(
    metrics: &mut [Box<dyn Metric>],
    of: &str,
    mut f: impl FnMut(&mut dyn Metric) -> Result<T>,
) -> Result<Vec<T>> {
    let one = |metric: &mut Box<dyn Metric>| {
        caught(|| f(&mut **metric)).map_err(Error::computation(|| {
            let name = caught(|| Ok(metric.name().to_owned())).unwrap_or_default();
            format!("the metric `{name}`{of}")
        }))
    };
    metrics.iter_mut().map(one).collect()
}

/// Resets the metrics.
pub(in crate::learner) fn reset(metrics: &mut [Box<dyn Metric>]) -> Result<()> {
    let reset = |m: &mut dyn Metric| {
        m.reset();
        Ok(())
    };
    each_metric(metrics, "", reset).map(drop)
}

/// Returns the value of each metric.
pub(in crate::learner) fn values(metrics: &mut [Box<dyn Metric>]) -> Result<Vec<Option<f64>>> {
    each_metric(metrics, "", |m| m.value())
}

/// Adds a batch to the metrics.
pub(in crate::learner) fn update(
    metrics: &mut [Box<dyn Metric>],
    pred: &Tensor,
    batch: &Batch,
    loss: &Tensor,
) -> Result<()> {
    let (pred, loss) = (pred.detach(), loss.detach());
    let targets = batch.y.as_ref().map_or_else(Vec::new, Tensor::size);
    let items = targets.first().copied().unwrap_or(1);
    let of = format!(" of outputs {:?} and targets {targets:?}", pred.size());
    let update = |m: &mut dyn Metric| {
        m.update_batch(&pred, batch)?;
        m.update_loss(&loss, items)
    };
    each_metric(metrics, &of, update).map(drop)
}
