use crate::{
    learner::{Callback, Scope, Step, Training, order},
    sample::Batch,
};
use serde_json::Value;
use tch::Tensor;

/// The key of its note in a checkpoint.
const OWNER: &str = "GradientAccumulation";

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

    fn before_fit(&mut self, t: &mut Training) -> Step {
        // The gradients of these items are in the checkpoint too.
        let seen = t.notes.get(OWNER).filter(|_| t.is_resumed()).and_then(Value::as_u64);
        self.seen = seen.map_or(0, |seen| seen as usize);
        Ok(())
    }

    fn before_checkpoint(&mut self, t: &mut Training) -> Step {
        t.notes.insert(OWNER.to_owned(), self.seen.into());
        Ok(())
    }

    fn fingerprint(&self) -> Option<String> {
        Some(format!("GradientAccumulation of {} items", self.items))
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
