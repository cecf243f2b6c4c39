//! Messages about a learner at the start of a training.

use crate::{
    learner::{Callback, Precision, Step, Training, order},
    sys,
};
use tch::Device;

/// The message about a number format that the processor does not support.
const EMULATED: &str = "this processor has no bfloat16 instructions, so the training is slower than in 32-bit floats: \
                        remove `to_bf16`";

/// Adds messages at the start of the first fit of a training.
#[derive(Debug)]
pub(super) struct Advice(Vec<String>);

impl Advice {
    /// Creates the messages for `t`, after `of_learner`, the message with which the learner was built.
    pub(super) fn new(of_learner: Option<String>, t: &Training) -> Self {
        let bf16 = t.precision == Precision::BFloat16 && t.model.device() == Device::Cpu;
        let emulated = (bf16 && !sys::has_bf16()).then(|| EMULATED.to_owned());
        Self(of_learner.into_iter().chain(emulated).collect())
    }
}

impl Callback for Advice {
    /// Comes after the callback that clears the messages.
    fn order(&self) -> i32 {
        order::RECORDER
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        let messages = std::mem::take(&mut self.0);
        // A resumed training has given them before its checkpoint.
        if !t.is_resumed() {
            messages.into_iter().for_each(|message| t.say(message));
        }
        Ok(())
    }
}
