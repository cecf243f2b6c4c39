//! Closures as batch transforms.

use super::{BatchTransform, Plan};
use crate::{error::Result, sample::Split, seed::Rng};
use std::{fmt, sync::Arc};
use tch::Tensor;

type Apply = Arc<dyn Fn(Tensor) -> Result<Tensor> + Send + Sync>;

/// A batch transform by a closure of the user, on tensors `[N, C, H, W]`. Before normalization, values
/// are between 0 and 1.
///
/// It ends the pass in which the transforms before it are executed. The transforms after it are executed
/// in another pass, on the device of the batches; on the CPU, on the thread that requests the batches.
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
    /// Creates a transform for training and validation. `name` is used in `summary` and in errors.
    pub fn new(
        name: impl Into<String>,
        apply: impl Fn(Tensor) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), apply: Arc::new(apply), only: None, order: 50 }
    }
    /// Restricts the transform to training or validation. Default: both.
    #[must_use]
    pub fn only(mut self, split: Split) -> Self {
        self.only = Some(split);
        self
    }
    /// Sets the position among the transforms; see [`BatchTransform::order`]. Default: 50, after colors
    /// and before normalization.
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
