use crate::{
    error::Error,
    learner::{Callback, Scope, Step, Training, order},
    sample::Batch,
};
use serde_json::Value;
use tch::Tensor;

/// The key of the note in a checkpoint.
const OWNER: &str = "GradientAccumulation";

/// Accumulates gradients and takes one step for every `items` items: fastai's `GradientAccumulation`.
///
/// Unlike in fastai, a batch larger than `items` is not scaled up. Gradients left at the end of an epoch
/// are carried into the next epoch but not into the next fit; a message gives the number of items left. A
/// fit with fewer than `items` items is an error.
#[derive(Debug)]
pub struct GradientAccumulation {
    items: usize,
    seen: usize,
    batch: usize,
    /// True once `items` has been compared with the items of the fit.
    checked: bool,
}

impl GradientAccumulation {
    /// Creates the callback; `items` is the number of items whose gradients are accumulated before each step.
    #[must_use]
    pub fn new(items: usize) -> Self {
        Self { items, seen: 0, batch: 0, checked: false }
    }
}

impl Callback for GradientAccumulation {
    fn exclusive(&self) -> Option<String> {
        Some("accumulates gradients".to_owned())
    }

    fn order(&self) -> i32 {
        order::GRADIENT_ACCUMULATION
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        // The gradients of these items are in the checkpoint too.
        let seen = t.notes.get(OWNER).filter(|_| t.is_resumed()).and_then(Value::as_u64);
        self.seen = seen.map_or(0, |seen| seen as usize);
        self.checked = false;
        Ok(())
    }

    fn before_train(&mut self, t: &mut Training) -> Step {
        if std::mem::replace(&mut self.checked, true) {
            return Ok(());
        }
        let train = t.dls.train();
        let epochs = t.at.epochs.saturating_sub(t.at.epoch);
        let of_epoch = train.len().min(train.num_batches() * train.bs());
        let of_fit = epochs.saturating_mul(of_epoch);
        let wrong = |why| Err(Error::config("GradientAccumulation", why).into());
        if self.items == 0 {
            return wrong("`items` is 0; it must be 1 or more".to_owned());
        }
        // A resumed fit may have fewer items left.
        if self.items > of_fit && t.at.batch == 0 {
            return wrong(format!(
                "`items` is {}, but the fit has only {of_fit} items",
                self.items
            ));
        }
        Ok(())
    }

    fn after_fit(&mut self, t: &mut Training) -> Step {
        if self.seen > 0 {
            t.say(format!(
                "the gradients of the last {} items of the fit were not used: a step takes {}",
                self.seen, self.items
            ));
            self.seen = 0;
        }
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
        *loss = loss.f_mul_scalar(self.batch as f64 / self.items.max(self.batch) as f64)?;
        Ok(())
    }

    fn before_step(&mut self, _: &mut Training) -> Step {
        self.seen += self.batch;
        if self.seen < self.items {
            // Cancel the batch, not the step, so that the gradients are kept for the next batch.
            return Scope::Batch.cancel();
        }
        self.seen = 0;
        Ok(())
    }
}
