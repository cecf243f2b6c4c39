use crate::{
    error::Error,
    learner::{Callback, Step, Training, order},
};
use tch::{Kind, Tensor};

/// Scales gradients down if their norm is above a limit: fastai's `GradientClip`.
#[derive(Debug, Clone)]
pub struct GradientClip {
    max_norm: f64,
    norm_type: f64,
}

impl GradientClip {
    /// Creates the callback; `max_norm` is the maximum norm of all gradients together. fastai's default is 1.
    #[must_use]
    pub fn new(max_norm: f64) -> Self {
        Self { max_norm, norm_type: 2.0 }
    }

    /// Sets the order of the norm: 1, 2, or infinity for the largest absolute value. Default: 2.
    #[must_use]
    pub fn norm_type(mut self, p: f64) -> Self {
        self.norm_type = p;
        self
    }
}

impl Callback for GradientClip {
    fn fingerprint(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }

    fn order(&self) -> i32 {
        order::GRADIENT_CLIP
    }

    fn before_fit(&mut self, _: &mut Training) -> Step {
        if self.max_norm > 0.0 && self.norm_type > 0.0 {
            return Ok(());
        }
        Err(Error::config("GradientClip", "`norm_type` and `max_norm` must be positive").into())
    }

    fn before_step(&mut self, t: &mut Training) -> Step {
        let grads: Vec<Tensor> =
            t.model.params().iter().map(|p| p.tensor.grad()).filter(Tensor::defined).collect();
        if grads.is_empty() {
            return Ok(());
        }
        let all: Vec<Tensor> = grads.iter().map(|g| g.reshape([-1])).collect();
        let total = if self.norm_type.is_infinite() {
            Tensor::cat(&all, 0).abs().max()
        } else {
            Tensor::cat(&all, 0).norm_scalaropt_dtype(self.norm_type, Kind::Float)
        };
        // As torch.nn.utils.clip_grad_norm_, without waiting for the device.
        let scale = (self.max_norm / (total + 1e-6)).clamp_max(1.0);
        for mut grad in grads {
            let _ = grad.g_mul_(&scale);
        }
        Ok(())
    }
}
