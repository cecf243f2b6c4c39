//! The message about a number format that the processor does not support.

use crate::{
    learner::{Callback, Precision, Step, Training, order},
    sys,
};
use tch::Device;

/// Adds a message before a fit in bfloat16 on a processor without instructions for it.
#[derive(Debug)]
pub(in crate::learner) struct Emulated;

/// The message.
const SLOW: &str = "this processor has no bfloat16 instructions, so the training is slower than in 32-bit floats: \
                    remove `to_bf16`";

impl Callback for Emulated {
    /// Comes after the callback that clears the messages.
    fn order(&self) -> i32 {
        order::RECORDER
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        let bf16 = t.precision == Precision::BFloat16 && t.model.device() == Device::Cpu;
        // A resumed fit may have it from its checkpoint.
        let told = t.history.messages.iter().any(|m| m == SLOW);
        if bf16 && !told && !sys::has_bf16() {
            t.say(SLOW);
        }
        Ok(())
    }
}
