//! A message about a learner for its first fit.

use crate::learner::{Callback, Step, Training, order};

/// Adds a message at the start of a fit, if there is one.
#[derive(Debug)]
pub(super) struct Advice(pub(super) Option<String>);

impl Callback for Advice {
    /// Comes after the callback that clears the messages.
    fn order(&self) -> i32 {
        order::RECORDER
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        // The history of a resumed fit contains the message.
        if let Some(message) = self.0.take().filter(|_| !t.is_resumed()) {
            t.say(message);
        }
        Ok(())
    }
}
