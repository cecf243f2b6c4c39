//! The two stages of fine-tuning.

use super::{
    one_cycle::OneCycle,
    policy::{Common, common_setters},
};

/// Trains the new head first, then the whole network with smaller rates for earlier groups: fastai's
/// [`fine_tune`](https://docs.fast.ai/callback.schedule.html#learner.fine_tune).
///
/// Weight decay, `reset_opt` and `start_epoch` apply to both stages; a stage with no more epochs than
/// `start_epoch` is skipped.
#[derive(Debug, Clone)]
pub struct FineTune {
    /// The settings of both stages, without the learning rate.
    common: Common,
    base_lr: f64,
    freeze_epochs: usize,
    lr_mult: f64,
    pct_start: f64,
    div: f64,
    div_final: f64,
    moms: Option<(f64, f64, f64)>,
}

impl FineTune {
    /// Trains the head for one epoch, then all layers for `epochs` epochs.
    #[must_use]
    pub fn new(epochs: usize) -> Self {
        Self {
            common: Common::new(epochs),
            base_lr: 2e-3,
            freeze_epochs: 1,
            lr_mult: 100.0,
            pct_start: 0.3,
            div: 5.0,
            div_final: 1e5,
            moms: None,
        }
    }
    common_setters!();
    /// Sets the learning rate of the head while the body is frozen; the second stage uses half of it.
    /// Default: 2e-3.
    #[must_use]
    pub fn base_lr(mut self, lr: f64) -> Self {
        self.base_lr = lr;
        self
    }
    /// Sets the number of epochs with a frozen body. Default: 1.
    #[must_use]
    pub fn freeze_epochs(mut self, epochs: usize) -> Self {
        self.freeze_epochs = epochs;
        self
    }
    /// Sets the ratio of the head's learning rate to the first group's. Default: 100.
    #[must_use]
    pub fn lr_mult(mut self, mult: f64) -> Self {
        self.lr_mult = mult;
        self
    }
    /// Sets the fraction of the second stage after which the peak is reached. Default: 0.3.
    #[must_use]
    pub fn pct_start(mut self, pct: f64) -> Self {
        self.pct_start = pct;
        self
    }
    /// Sets the ratio of the peak to the initial learning rate of the second stage. Default: 5.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "fastai's name; a setter divides nothing")]
    pub fn div(mut self, div: f64) -> Self {
        self.div = div;
        self
    }
    /// Sets the ratio of the peak to the final learning rate of both stages. Default: 100,000.
    #[must_use]
    pub fn div_final(mut self, div: f64) -> Self {
        self.div_final = div;
        self
    }
    /// Sets the momentum at the start, at the peak and at the end of both stages. Default: the learner's.
    #[must_use]
    pub fn moms(mut self, start: f64, peak: f64, end: f64) -> Self {
        self.moms = Some((start, peak, end));
        self
    }

    /// Returns the stage with a frozen body and the one with the whole network.
    pub(in crate::learner) fn stages(&self) -> (OneCycle, OneCycle) {
        let stage = |epochs| OneCycle {
            common: Common { epochs, ..self.common.clone() },
            moms: self.moms,
            ..OneCycle::new(epochs).div_final(self.div_final)
        };
        let lr = self.base_lr / 2.0;
        let head = stage(self.freeze_epochs).lr(..=self.base_lr).pct_start(0.99);
        let whole = stage(self.common.epochs).lr(lr / self.lr_mult..=lr);
        (head, whole.pct_start(self.pct_start).div(self.div))
    }
}

impl From<usize> for FineTune {
    fn from(epochs: usize) -> Self {
        Self::new(epochs)
    }
}
