//! Loss scaling for 16-bit floats.

use super::Optimizer;
use crate::{
    error::{Error, Result},
    sys,
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Scales the loss so that small gradients do not vanish in 16-bit floats, and adapts the scale:
/// torch's [`GradScaler`](https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling).
///
/// A step whose gradients are infinite or NaN is skipped and the scale is reduced; after `growth_interval`
/// consecutive successful steps, it is increased. The calls of a step, in order: [`scale`](Self::scale) the
/// loss and call backward, [`unscale`](Self::unscale) if unscaled gradients are needed (for clipping),
/// [`step`](Self::step), [`update`](Self::update).
///
/// ```
/// use finetune::optim::GradScaler;
/// use tch::Tensor;
///
/// let scaler = GradScaler::new().init_scale(128.0);
/// assert_eq!(f64::try_from(scaler.scale(&Tensor::from(0.5_f32)))?, 64.0);
/// # Ok::<(), finetune::tch::TchError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GradScaler {
    scale: f32,
    growth_factor: f64,
    backoff_factor: f64,
    growth_interval: u32,
    good_steps: u32,
    /// True if this step's gradients are infinite or NaN; known once they are unscaled.
    found_inf: Option<bool>,
    stepped: bool,
}

/// The state of a [`GradScaler`] that a resumed fit needs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScalerState {
    /// The scale of the loss.
    pub scale: f32,
    /// The number of successful steps since the scale last changed.
    pub growth_tracker: u32,
}

impl GradScaler {
    /// Returns a scaler with torch's defaults: the scale starts at 65,536, doubles after 2,000 successful
    /// steps and halves after a skipped one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            scale: 65536.0,
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 2000,
            good_steps: 0,
            found_inf: None,
            stepped: false,
        }
    }
    /// Sets the initial scale. Default: 65,536.
    #[must_use]
    pub fn init_scale(mut self, scale: f64) -> Self {
        self.scale = scale as f32;
        self
    }
    /// Sets the factor of the scale after `growth_interval` successful steps. Default: 2.
    #[must_use]
    pub fn growth_factor(mut self, factor: f64) -> Self {
        self.growth_factor = factor;
        self
    }
    /// Sets the factor of the scale after a skipped step. Default: 0.5.
    #[must_use]
    pub fn backoff_factor(mut self, factor: f64) -> Self {
        self.backoff_factor = factor;
        self
    }
    /// Sets the number of consecutive successful steps after which the scale is increased. Default: 2,000.
    #[must_use]
    pub fn growth_interval(mut self, steps: u32) -> Self {
        self.growth_interval = steps;
        self
    }

    /// Returns the current scale.
    #[must_use]
    pub fn get_scale(&self) -> f64 {
        f64::from(self.scale)
    }

    /// Returns the number of successful steps since the scale last changed.
    #[must_use]
    pub fn growth_tracker(&self) -> u32 {
        self.good_steps
    }

    /// Returns the scaled loss, on which to call backward.
    pub fn scale(&self, loss: &Tensor) -> Tensor {
        loss * f64::from(self.scale)
    }

    /// Divides the optimizer's gradients by the scale, and returns true if one of them is infinite or NaN.
    /// Optional: [`step`](Self::step) does it otherwise. Waits for the device.
    ///
    /// # Errors
    /// [`Error::Config`] if it was already called since the last update, or a factor is invalid.
    pub fn unscale(&mut self, opt: &Optimizer) -> Result<bool> {
        self.check()?;
        if self.found_inf.is_some() {
            let why = "the gradients are already unscaled; call `update` after each step";
            return Err(Error::config("GradScaler::unscale", why));
        }
        let inverse = (1.0 / f64::from(self.scale)) as f32;
        let found = sys::unscale(&opt.grads()?, inverse)?;
        self.found_inf = Some(found);
        Ok(found)
    }

    /// Takes one step of the optimizer, unless a gradient is infinite or NaN. Returns true if the step was
    /// taken.
    ///
    /// # Errors
    /// [`Error::Config`] if it was already called since the last update; errors of the optimizer.
    pub fn step(&mut self, opt: &mut Optimizer) -> Result<bool> {
        if self.stepped {
            let why = "was already called since the last `update`";
            return Err(Error::config("GradScaler::step", why));
        }
        let found = match self.found_inf {
            Some(found) => found,
            None => self.unscale(opt)?,
        };
        if !found {
            opt.step()?;
        }
        self.stepped = true;
        Ok(!found)
    }

    /// Reduces the scale after a skipped step and increases it after enough successful ones.
    ///
    /// # Errors
    /// [`Error::Config`] if no gradients were unscaled since the last update.
    pub fn update(&mut self) -> Result<()> {
        let Some(found) = self.found_inf.take() else {
            let why = "no gradients were unscaled since the last one: call `step` first";
            return Err(Error::config("GradScaler::update", why));
        };
        self.stepped = false;
        if found {
            self.scale = (f64::from(self.scale) * self.backoff_factor) as f32;
            self.good_steps = 0;
            return Ok(());
        }
        self.good_steps = self.good_steps.saturating_add(1);
        // A restored count may be beyond the interval of this program.
        if self.good_steps >= self.growth_interval {
            let grown = (f64::from(self.scale) * self.growth_factor) as f32;
            // As in torch, a scale that overflows 32 bits is not used.
            if grown.is_finite() {
                self.scale = grown;
            }
            self.good_steps = 0;
        }
        Ok(())
    }

    /// Returns the state that a resumed fit needs.
    #[must_use]
    pub fn state(&self) -> ScalerState {
        ScalerState { scale: self.scale, growth_tracker: self.good_steps }
    }

    /// Restores the result of [`GradScaler::state`].
    ///
    /// # Errors
    /// [`Error::Config`] if the scale is not finite and positive.
    pub fn load_state(&mut self, state: ScalerState) -> Result<()> {
        let loaded = Self { scale: state.scale, good_steps: state.growth_tracker, ..self.clone() };
        loaded.check()?;
        *self = Self { found_inf: None, stepped: false, ..loaded };
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let wrong = |option, why: &str| Err(Error::config(option, why));
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return wrong("init_scale", "must be finite and positive");
        }
        if self.growth_factor.is_nan() || self.growth_factor <= 1.0 {
            return wrong("growth_factor", "must be above 1");
        }
        if !(self.backoff_factor > 0.0 && self.backoff_factor < 1.0) {
            return wrong("backoff_factor", "must be between 0 and 1");
        }
        if self.growth_interval == 0 {
            return wrong("growth_interval", "is 0; it must be 1 or more");
        }
        Ok(())
    }
}

impl Default for GradScaler {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Param, ParamKind},
        optim::{Hyper, Sgd},
    };
    use tch::Kind;

    fn param() -> Param {
        let tensor = Tensor::from_slice(&[1.0_f32, -2.0]).set_requires_grad(true);
        Param { name: "w".into(), tensor, group: 0, kind: ParamKind::Weight }
    }

    fn numbers(p: &Param) -> Vec<f32> {
        Vec::try_from(p.tensor.detach()).unwrap()
    }

    /// Runs backward and a step with the gradient (1, 1), or one that overflows.
    fn step(scaler: &mut GradScaler, opt: &mut Optimizer, p: &Param, overflow: bool) -> bool {
        let loss = p.tensor.sum(Kind::Float);
        // 3e38, scaled by more than 1, overflows 32 bits.
        let loss = if overflow { loss * 3e38 } else { loss };
        scaler.scale(&loss).backward();
        let stepped = scaler.step(opt).unwrap();
        scaler.update().unwrap();
        opt.zero_grad();
        stepped
    }

    #[test]
    fn an_overflow_skips_the_step_and_good_steps_bring_the_scale_back() {
        let p = param();
        let mut opt = Optimizer::new(std::slice::from_ref(&p), Sgd::new()).unwrap();
        opt.set(Hyper::Lr, &[0.5]).unwrap();
        let mut scaler = GradScaler::new().init_scale(8.0).growth_interval(2);

        assert!(!step(&mut scaler, &mut opt, &p, true));
        assert_eq!(numbers(&p), [1.0, -2.0]);
        assert_eq!((scaler.get_scale(), scaler.growth_tracker()), (4.0, 0));

        assert!(step(&mut scaler, &mut opt, &p, false));
        assert_eq!(numbers(&p), [0.5, -2.5]);
        assert_eq!((scaler.get_scale(), scaler.growth_tracker()), (4.0, 1));
        assert!(step(&mut scaler, &mut opt, &p, false));
        assert_eq!((scaler.get_scale(), scaler.growth_tracker()), (8.0, 0));

        // A skipped step in between resets the count.
        step(&mut scaler, &mut opt, &p, false);
        step(&mut scaler, &mut opt, &p, true);
        assert_eq!((scaler.get_scale(), scaler.growth_tracker()), (4.0, 0));
        step(&mut scaler, &mut opt, &p, false);
        let saved = scaler.state();
        let mut other = GradScaler::new().growth_interval(2);
        other.load_state(saved).unwrap();
        step(&mut other, &mut opt, &p, false);
        assert_eq!((other.get_scale(), other.growth_tracker()), (8.0, 0));
    }

    #[test]
    fn a_restored_count_beyond_the_interval_lets_the_scale_grow() {
        let p = param();
        let mut opt = Optimizer::new(std::slice::from_ref(&p), Sgd::new()).unwrap();
        let mut scaler = GradScaler::new().init_scale(8.0).growth_interval(2);
        scaler.load_state(ScalerState { growth_tracker: u32::MAX, ..scaler.state() }).unwrap();
        assert!(step(&mut scaler, &mut opt, &p, false));
        assert_eq!((scaler.get_scale(), scaler.growth_tracker()), (16.0, 0));
    }

    #[test]
    fn a_scale_at_the_end_of_32_bits_does_not_grow_further() {
        let p = param();
        let mut opt = Optimizer::new(std::slice::from_ref(&p), Sgd::new()).unwrap();
        let mut scaler = GradScaler::new().init_scale(2e38).growth_interval(1);
        assert!(step(&mut scaler, &mut opt, &p, false));
        assert_eq!(scaler.get_scale(), f64::from(2e38_f32));
    }

    #[test]
    fn the_order_of_calls_is_checked_as_in_torch() {
        let p = param();
        let mut opt = Optimizer::new(std::slice::from_ref(&p), Sgd::new()).unwrap();
        let mut scaler = GradScaler::new();
        assert!(scaler.update().unwrap_err().to_string().contains("call `step` first"));
        scaler.scale(&p.tensor.sum(Kind::Float)).backward();
        assert!(!scaler.unscale(&opt).unwrap());
        assert_eq!(Vec::<f32>::try_from(p.tensor.grad()).unwrap(), [1.0, 1.0]);
        assert!(scaler.unscale(&opt).unwrap_err().to_string().contains("already unscaled"));
        assert!(scaler.step(&mut opt).unwrap());
        assert!(scaler.step(&mut opt).unwrap_err().to_string().contains("already called since"));
        scaler.update().unwrap();

        let e = GradScaler::new().growth_factor(1.0).unscale(&opt).unwrap_err();
        assert!(e.to_string().contains("growth_factor"), "{e}");
    }
}
