//! The check for a loss that is NaN or infinite.

use crate::{
    error::Error,
    learner::{Callback, Outcome, Step, Training, order, record::history::number},
    sample::Batch,
};
use tch::Device;

/// Ends a fit with an error if the training loss is NaN or infinite, before it is recorded.
///
/// On a GPU, this check would wait for every step, so the recorder does it when it reads the losses.
#[derive(Debug)]
pub(in crate::learner) struct Finite;

impl Callback for Finite {
    fn order(&self) -> i32 {
        order::NAN_GUARD
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, outcome: &Outcome) -> Step {
        let (true, Some(loss)) = (t.at.is_training(), &outcome.loss) else { return Ok(()) };
        if loss.device() != Device::Cpu {
            return Ok(());
        }
        let loss = f64::from(number(loss)?);
        if loss.is_finite() {
            return Ok(());
        }
        Err(Error::non_finite_loss(loss, t.at.epoch, t.at.batch).into())
    }
}
