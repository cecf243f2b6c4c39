//! Linear layers and scales, with the initialization of transformers.

use crate::model::layers::begins;
use tch::{
    Tensor,
    nn::{self, Init, Linear, LinearConfig, Path},
};

/// A normal distribution with a standard deviation of 0.02. The published networks truncate it at ±2, which is 100
/// standard deviations and has no effect.
pub(super) const NARROW: Init = Init::Randn { mean: 0.0, stdev: 0.02 };

/// Creates a linear layer with [`NARROW`] weights and biases of zero.
pub(super) fn linear(path: &Path<'_>, n_in: i64, n_out: i64, bias: bool) -> Linear {
    let config =
        LinearConfig { ws_init: begins(NARROW), bs_init: Some(begins(Init::Const(0.0))), bias };
    nn::linear(path, n_in, n_out, config)
}

/// Creates a vector of scales with the initial value `value`.
pub(super) fn scale(path: &Path<'_>, name: &str, size: &[i64], value: f64) -> Tensor {
    path.var(name, size, begins(Init::Const(value)))
}
