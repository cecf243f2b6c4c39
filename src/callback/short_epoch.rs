use crate::{
    error::Error,
    learner::{Callback, Outcome, Scope, Step, Training, order},
    sample::Batch,
};

/// Ends training and validation after a fraction of their batches, for a quick test: fastai's
/// `ShortEpochCallback`.
#[derive(Debug, Clone)]
pub struct ShortEpoch {
    part: f64,
    short_valid: bool,
}

impl ShortEpoch {
    /// Creates a callback that ends after the fraction `part` of the batches, from 0 to 1, and at least one batch.
    /// fastai's default is 0.01.
    #[must_use]
    pub fn new(part: f64) -> Self {
        Self { part, short_valid: true }
    }

    /// If true, validation is shortened too. Default: true.
    #[must_use]
    pub fn short_valid(mut self, yes: bool) -> Self {
        self.short_valid = yes;
        self
    }
}

impl Callback for ShortEpoch {
    fn fingerprint(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }

    fn order(&self) -> i32 {
        order::MIX
    }

    fn before_fit(&mut self, _: &mut Training) -> Step {
        if (0.0..=1.0).contains(&self.part) {
            return Ok(());
        }
        Err(Error::config(
            "ShortEpoch",
            format!("the fraction is {}; it must be between 0 and 1", self.part),
        )
        .into())
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        if (t.at.batch as f64) / (t.at.batches as f64) < self.part {
            return Ok(());
        }
        match t.at.is_training() {
            true => Scope::Train.cancel(),
            false if self.short_valid => Scope::Validate.cancel(),
            false => Ok(()),
        }
    }
}
