use crate::learner::{Callback, Step, Training, order};

/// Uses the running statistics of frozen batch normalization layers in training and does not update them:
/// fastai's `BnFreeze`. Otherwise, frozen layers normalize by batch statistics and keep updating their
/// averages.
///
/// It applies to networks of this crate, and to your own if they use [`BatchNorm`](crate::model::BatchNorm).
#[derive(Debug, Clone, Default)]
pub struct BnFreeze {
    _private: (),
}

impl BnFreeze {
    /// Creates the callback. With [`train_bn`](crate::learner::Learner::train_bn), no normalization layer is
    /// frozen, so it has no effect.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Callback for BnFreeze {
    fn fingerprint(&self) -> Option<String> {
        Some("BnFreeze".to_owned())
    }

    fn order(&self) -> i32 {
        order::MIX
    }

    fn before_train(&mut self, t: &mut Training) -> Step {
        t.model.hold_frozen_norms(true);
        Ok(())
    }

    fn after_fit(&mut self, t: &mut Training) -> Step {
        t.model.hold_frozen_norms(false);
        Ok(())
    }
}
