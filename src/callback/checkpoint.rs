use crate::{
    error::Error,
    learner::{Callback, Outcome, Step, Training, order},
    sample::Batch,
};

/// Writes a checkpoint every so many training batches, from which
/// [`Learner::resume`](crate::learner::Learner::resume) goes on bit for bit.
///
/// The file is `NAME.resume.safetensors` below
/// [`Learner::model_dir`](crate::learner::Learner::model_dir); it is replaced as a whole, so a program
/// that is killed while it writes leaves the one before. Where gradients are being gathered over
/// several batches, it waits for the step.
#[derive(Debug)]
pub struct Checkpoint {
    name: String,
    every: usize,
    waited: usize,
    stepped: bool,
}

impl Checkpoint {
    /// Writes every 100 batches.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), every: 100, waited: 0, stepped: false }
    }

    /// After how many training batches to write. The last batch of an epoch always is one. Default: 100.
    #[must_use]
    pub fn every(mut self, batches: usize) -> Self {
        self.every = batches;
        self
    }
}

impl Callback for Checkpoint {
    fn order(&self) -> i32 {
        order::CHECKPOINT
    }

    fn skip_evaluation(&self) -> bool {
        true
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        self.waited = 0;
        if self.every == 0 {
            return Err(Error::config("every", "must not be 0").into());
        }
        t.checkpoint_path(&self.name)?;
        Ok(())
    }

    fn before_batch(&mut self, _: &mut Training, _: &mut Batch) -> Step {
        self.stepped = false;
        Ok(())
    }

    fn after_step(&mut self, _: &mut Training) -> Step {
        self.stepped = true;
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        if !t.at.is_training() {
            return Ok(());
        }
        self.waited += 1;
        let last = t.at.batch + 1 == t.at.batches;
        if self.stepped && (self.waited >= self.every || last) {
            self.waited = 0;
            t.write_checkpoint(&self.name)?;
        }
        Ok(())
    }
}
