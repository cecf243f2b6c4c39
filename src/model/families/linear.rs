//! Linear layers and scales as transformers begin them.

use crate::model::layers::begins;
use tch::{
    Tensor,
    nn::{self, Init, Linear, LinearConfig, Path},
};

/// Normal with a standard deviation of 0.02, what the published networks call truncated normal: they
/// truncate at ±2.
pub(super) const NARROW: Init = Init::Randn { mean: 0.0, stdev: 0.02 };

/// A linear layer with [`NARROW`] weights and biases of zero.
pub(super) fn linear(path: &Path<'_>, n_in: i64, n_out: i64, bias: bool) -> Linear {
    let config =
        LinearConfig { ws_init: begins(NARROW), bs_init: Some(begins(Init::Const(0.0))), bias };
    nn::linear(path, n_in, n_out, config)
}

/// A vector of scales that begin at `value`.
pub(super) fn scale(path: &Path<'_>, name: &str, size: &[i64], value: f64) -> Tensor {
    path.var(name, size, begins(Init::Const(value)))
}
