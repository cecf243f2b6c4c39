//! The two stages of fine-tuning.

use super::{
    one_cycle::OneCycle,
    policy::{Common, common_setters},
};

/// Trains the new head first, then the whole network with smaller rates for earlier groups: fastai's
/// [`fine_tune`](https://docs.fast.ai/callback.schedule.html#learner.fine_tune).
///
/// Weight decay, a new optimizer and the epoch to begin with are those of both stages; a stage that is not
/// longer than that epoch has none.
#[derive(Debug, Clone)]
pub struct FineTune {
    /// Of the second stage, without its learning rate.
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
    /// Trains for `epochs` after the head's own.
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
    /// The head's learning rate while the body is frozen; half of it afterwards. Default: 2e-3.
    #[must_use]
    pub fn base_lr(mut self, lr: f64) -> Self {
        self.base_lr = lr;
        self
    }
    /// The epochs with a frozen body. Default: 1.
    #[must_use]
    pub fn freeze_epochs(mut self, epochs: usize) -> Self {
        self.freeze_epochs = epochs;
        self
    }
    /// How many times smaller the first group's rate is than the head's. Default: 100.
    #[must_use]
    pub fn lr_mult(mut self, mult: f64) -> Self {
        self.lr_mult = mult;
        self
    }
    /// The part of the second stage after which the peak is reached. Default: 0.3.
    #[must_use]
    pub fn pct_start(mut self, pct: f64) -> Self {
        self.pct_start = pct;
        self
    }
    /// The second stage begins with the peak divided by this. Default: 5.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "fastai's name; a setter divides nothing")]
    pub fn div(mut self, div: f64) -> Self {
        self.div = div;
        self
    }
    /// Both stages end with the peak divided by this. Default: 100,000.
    #[must_use]
    pub fn div_final(mut self, div: f64) -> Self {
        self.div_final = div;
        self
    }
    /// The momentum at the start, at the peak and at the end of both stages. Default: the learner's.
    #[must_use]
    pub fn moms(mut self, start: f64, peak: f64, end: f64) -> Self {
        self.moms = Some((start, peak, end));
        self
    }

    /// The stage with a frozen body and the one with the whole network.
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
