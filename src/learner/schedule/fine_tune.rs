//! The two stages of fine-tuning.

use super::{
    one_cycle::{Cycle, OneCycle, cycle_setters},
    policy::{Common, Defaults, common_setters},
};

/// Trains the new head first, then the whole network with smaller rates for earlier groups: fastai's
/// [`fine_tune`](https://docs.fast.ai/callback.schedule.html#learner.fine_tune).
///
/// Weight decay, layer decay, `reset_opt`, `start_epoch`, `div_final` and `moms` apply to both stages, `pct_start`
/// and `div` to the second one. A stage with no more epochs than `start_epoch` is skipped; one must be left.
#[derive(Debug, Clone)]
pub struct FineTune {
    /// The settings of both stages, without the learning rate.
    common: Common,
    /// The shape of the second stage.
    cycle: Cycle,
    base_lr: f64,
    freeze_epochs: Option<usize>,
    from_probe: bool,
    lr_mult: Option<f64>,
}

impl FineTune {
    /// Returns options that train the head for one epoch, then all layers for `epochs` epochs.
    #[must_use]
    pub fn new(epochs: usize) -> Self {
        Self {
            common: Common::new(epochs),
            cycle: Cycle::new(0.3, 5.0),
            base_lr: 2e-3,
            freeze_epochs: None,
            from_probe: false,
            lr_mult: None,
        }
    }
    common_setters!();
    cycle_setters!(pct_start = "0.3", div = "5");
    /// Sets the learning rate of the head while the body is frozen; the second stage uses half of it.
    /// Default: 2e-3.
    #[must_use]
    pub fn base_lr(mut self, lr: f64) -> Self {
        self.base_lr = lr;
        self
    }
    /// Sets the number of epochs with a frozen body. Default: 1, or 0 with [`from_probe`](Self::from_probe).
    #[must_use]
    pub fn freeze_epochs(mut self, epochs: usize) -> Self {
        self.freeze_epochs = Some(epochs);
        self
    }
    /// Uses a linear probe as the initial head, and trains the whole network from there: Kumar et al.,
    /// 2022, <https://arxiv.org/abs/2202.10054>. There is no stage with a frozen body unless
    /// [`freeze_epochs`](Self::freeze_epochs) is set.
    ///
    /// If [`Probe::install`](crate::learner::Probe::install) has not been called since the last fit, the probe is
    /// computed with [`Learner::probe`](crate::learner::Learner::probe) and installed; a resumed run repeats this
    /// before it reads its checkpoint. If the fit ends with a lower accuracy than the last probe of the learner, a
    /// message says so.
    ///
    /// ```no_run
    /// # fn f(mut learn: finetune::learner::Learner) -> finetune::Result<()> {
    /// use finetune::learner::FineTune;
    ///
    /// let probe = learn.probe()?;
    /// println!("{probe}");
    /// probe.install(&mut learn)?;
    /// learn.fine_tune(FineTune::new(4).from_probe())?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn from_probe(mut self) -> Self {
        self.from_probe = true;
        self
    }
    /// Sets the ratio of the head's learning rate to the first group's in the second stage. Default: 100,
    /// or 1 with [`layer_decay`](Self::layer_decay), which already makes the rates of the first groups small.
    #[must_use]
    pub fn lr_mult(mut self, mult: f64) -> Self {
        self.lr_mult = Some(mult);
        self
    }

    /// Returns the stage with a frozen body, if there is one, and the one with the whole network.
    pub(in crate::learner) fn stages(&self, defaults: &Defaults) -> (Option<OneCycle>, OneCycle) {
        let Self { common, cycle, base_lr, .. } = self;
        let stage = |epochs, pct_start, div| OneCycle {
            common: Common { epochs, ..common.clone() },
            cycle: Cycle { pct_start, div, ..cycle.clone() },
        };
        let decays = common.layer_decay.or(defaults.layer_decay).is_some_and(|decay| decay < 1.0);
        let mult = self.lr_mult.unwrap_or(if decays { 1.0 } else { 100.0 });
        let lr = base_lr / 2.0;
        let epochs = self.freeze_epochs.unwrap_or(usize::from(!self.from_probe));
        // A probe is already trained, so it needs no stage with a frozen body.
        let has_head = !self.from_probe || epochs > 0;
        let head = has_head.then(|| stage(epochs, 0.99, 25.0).lr(..=*base_lr));
        let whole = stage(common.epochs, cycle.pct_start, cycle.div).lr(lr / mult..=lr);
        (head, whole)
    }
}

impl FineTune {
    pub(in crate::learner) fn is_from_probe(&self) -> bool {
        self.from_probe
    }
}

impl From<usize> for FineTune {
    fn from(epochs: usize) -> Self {
        Self::new(epochs)
    }
}
