use crate::learner::{Callback, Step, Training, order};

/// Keeps the running statistics of frozen batch normalizations, and uses them in training: fastai's
/// `BnFreeze`. Without it, frozen ones normalize by each batch and go on averaging.
///
/// For networks of this crate, and your own where they are made of
/// [`BatchNorm`](crate::model::BatchNorm).
#[derive(Debug, Clone, Default)]
pub struct BnFreeze {
    _private: (),
}

impl BnFreeze {
    /// Applies to all frozen normalizations; with [`train_bn`](crate::learner::Learner::train_bn)
    /// there are none.
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
