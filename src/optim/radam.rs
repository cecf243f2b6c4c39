use super::{Hypers, Rule, StepGroup, adam::fused, setters};
use crate::error::Result;

/// Adam with a rectified step, which is smaller until the running mean of squares is reliable:
/// fastai's `RAdam`.
///
/// While the variance of that mean is unbounded, a step follows only the mean of gradients. Liu et al., [On
/// the Variance of the Adaptive Learning Rate](https://arxiv.org/abs/1908.03265).
#[derive(Debug, Clone)]
pub struct RAdam {
    mom: f64,
    sqr_mom: f64,
    eps: f64,
    wd: f64,
    beta: f64,
    decouple_wd: bool,
}

impl RAdam {
    /// Returns the rule with fastai's defaults: `mom` 0.9, `sqr_mom` 0.99, `eps` 1e-5, no `wd`, no `beta`.
    #[must_use]
    pub fn new() -> Self {
        Self { mom: 0.9, sqr_mom: 0.99, eps: 1e-5, wd: 0.0, beta: 0.0, decouple_wd: true }
    }
    setters!(mom, sqr_mom, eps, wd, decouple_wd);
    /// Applies a softplus of this sharpness to the denominator, which keeps it above 0
    /// ([SAdam](https://arxiv.org/abs/1908.00700)). Default: 0, no softplus.
    #[must_use]
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }
}

impl Default for RAdam {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the rectification factor of Adam's step; `None` while the variance is unbounded.
fn rectified(sqr_mom: f64, debias: f64, step: f64) -> Option<f64> {
    let most = 2.0 / (1.0 - sqr_mom) - 1.0;
    let r = most - 2.0 * step * (1.0 - debias) / debias;
    let part = |r: f64| (r - 4.0) * (r - 2.0) / r;
    (r > 5.0).then(|| (part(r) / part(most)).sqrt())
}

impl Rule for RAdam {
    fn hypers(&self) -> Hypers {
        let Self { mom, sqr_mom, eps, wd, .. } = *self;
        Hypers { lr: 1e-3, mom, sqr_mom, eps, wd }
    }

    fn state_names(&self) -> &'static [&'static str] {
        &["grad_avg", "sqr_avg"]
    }

    fn counts(&self) -> bool {
        true
    }

    fn step(&self, group: &StepGroup) -> Result<()> {
        let h = &group.hypers;
        let debias = group.debias(h.sqr_mom);
        let part = rectified(h.sqr_mom, debias, group.step as f64);
        if let (Some(part), true) = (part, self.beta == 0.0) {
            return fused(group, self.decouple_wd, part);
        }
        group.apply_decay(self.decouple_wd)?;
        let (by, by_squares) = group.average()?;
        let Some(part) = part else {
            return group.params.add(group.state(0), -h.lr / by);
        };
        let denominator = group.denominator(1, by_squares, h.eps)?;
        // softplus(x) = x + ln(1 + exp(-βx)) / β, which does not overflow for positive x.
        let above = denominator.copies()?;
        above.mul(-self.beta)?;
        above.exp()?;
        above.log1p()?;
        denominator.add(&above, 1.0 / self.beta)?;
        group.params.addcdiv(group.state(0), &denominator, -h.lr * part / by)
    }
}
