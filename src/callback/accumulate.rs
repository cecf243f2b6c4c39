use crate::{
    learner::{Callback, Scope, Step, Training, order},
    sample::Batch,
};
use tch::Tensor;

/// Steps once for every `items` items, as if the batch were that large: fastai's
/// `GradientAccumulation`.
///
/// Unlike there, a batch larger than `items` is not scaled up, and gradients left at the end of an
/// epoch go on into the next one but never into the next fit.
#[derive(Debug)]
pub struct GradientAccumulation {
    items: usize,
    seen: usize,
    batch: usize,
}

impl GradientAccumulation {
    /// Gathers the gradients of `items` items before a step.
    #[must_use]
    pub fn new(items: usize) -> Self {
        Self { items: items.max(1), seen: 0, batch: 0 }
    }
}

impl Callback for GradientAccumulation {
    fn order(&self) -> i32 {
        order::GRADIENT_ACCUMULATION
    }

    fn before_fit(&mut self, _: &mut Training) -> Step {
        self.seen = 0;
        Ok(())
    }

    fn before_backward(&mut self, t: &mut Training, batch: &Batch, loss: &mut Tensor) -> Step {
        self.batch = t.batch_items(batch.items.len());
        *loss = &*loss * (self.batch as f64 / self.items.max(self.batch) as f64);
        Ok(())
    }

    fn before_step(&mut self, _: &mut Training) -> Step {
        self.seen += self.batch;
        if self.seen < self.items {
            // The batch, not the step: the gradients stay for the next batch to add to.
            return Scope::Batch.cancel();
        }
        self.seen = 0;
        Ok(())
    }
}
