//! Ends a fit whose loss is no longer a number.

use super::{Callback, Outcome, Step, Training, order, recorder::number};
use crate::{error::Error, sample::Batch};

/// Ends a fit with an error where the training loss is no longer a number, before it is recorded.
#[derive(Debug)]
pub(super) struct NanGuard;

impl Callback for NanGuard {
    fn order(&self) -> i32 {
        order::NAN_GUARD
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, outcome: &Outcome) -> Step {
        let (true, Some(loss)) = (t.at.training(), &outcome.loss) else { return Ok(()) };
        let loss = f64::from(number(loss)?);
        if loss.is_finite() {
            return Ok(());
        }
        Err(Error::NonFiniteLoss { loss, epoch: t.at.epoch, batch: t.at.batch }.into())
    }
}
