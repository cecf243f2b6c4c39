//! Closures as transforms of batches.

use super::{BatchTransform, Plan};
use crate::{error::Result, sample::Split, seed::Rng};
use std::{fmt, sync::Arc};
use tch::Tensor;

type Apply = Arc<dyn Fn(Tensor) -> Result<Tensor> + Send + Sync>;

/// A transform of batches by a closure of the caller's own, on tensors N×C×H×W with values from 0 to 1
/// where it comes before normalization.
///
/// It ends the one pass in which the transforms before it are carried out; those after it make another
/// one, on the device of the batches and, if that is the CPU, on the thread that asks for them.
///
/// ```
/// use finetune::{sample::Split, transform::BatchFn};
///
/// let negative = BatchFn::new("negative", |x| Ok(1.0 - x)).only(Split::Train);
/// ```
#[derive(Clone)]
pub struct BatchFn {
    name: String,
    apply: Apply,
    only: Option<Split>,
    order: i32,
}

impl fmt::Debug for BatchFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl BatchFn {
    /// In training and in validation. `name` is what `summary` and errors call it.
    pub fn new(
        name: impl Into<String>,
        apply: impl Fn(Tensor) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), apply: Arc::new(apply), only: None, order: 50 }
    }
    /// In training or in validation alone. Default: in both.
    #[must_use]
    pub fn only(mut self, split: Split) -> Self {
        self.only = Some(split);
        self
    }
    /// Its place among the transforms; see [`BatchTransform::order`]. Default: 50, after colors and
    /// before normalization.
    #[must_use]
    pub fn order(mut self, order: i32) -> Self {
        self.order = order;
        self
    }
}

impl BatchTransform for BatchFn {
    fn plan(&self, plan: &mut Plan, split: Split, _: &mut Rng) -> Result<()> {
        if self.only.is_none_or(|only| only == split) {
            let apply = self.apply.clone();
            plan.step(move |x| apply(x));
        }
        Ok(())
    }
    fn order(&self) -> i32 {
        self.order
    }
}
