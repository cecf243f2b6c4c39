//! Convolutions with a normalization, with the names of timm's networks.

use crate::model::{
    batch_norm::{BatchNorm, batch_norm2d},
    layers::{Activation, ConvInit, begins},
};
use tch::{
    Tensor,
    nn::{self, BatchNormConfig, Init, Module as _, ModuleT, Path},
};

/// Options of a convolution: square, padded to keep the size if the stride is 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conv {
    pub(super) c_in: i64,
    pub(super) c_out: i64,
    pub(super) size: i64,
    pub(super) stride: i64,
    pub(super) groups: i64,
    pub(super) bias: bool,
    /// If true, padded as in TensorFlow, depending on the size of the input.
    pub(super) same: bool,
    /// If false, not padded.
    pub(super) padded: bool,
    pub(super) init: ConvInit,
}

impl Conv {
    pub(super) fn new(c_in: i64, c_out: i64, size: i64) -> Self {
        let init = ConvInit::FanOut;
        Self {
            c_in,
            c_out,
            size,
            stride: 1,
            groups: 1,
            bias: false,
            same: false,
            padded: true,
            init,
        }
    }

    pub(super) fn stride(self, stride: i64) -> Self {
        Self { stride, ..self }
    }

    pub(super) fn groups(self, groups: i64) -> Self {
        Self { groups, ..self }
    }

    pub(super) fn same(self, same: bool) -> Self {
        Self { same, ..self }
    }

    pub(super) fn bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    /// Marks the first layer of a network: it has PyTorch's default initialization if the number of input
    /// channels is not 3.
    pub(super) fn first(self) -> Self {
        if self.c_in == 3 { self } else { Self { init: ConvInit::Default, ..self } }
    }

    pub(super) fn build(self, path: &Path<'_>) -> Conv2d {
        let area = (self.size * self.size) as f64;
        let fan_out = self.c_out as f64 * area / self.groups as f64;
        let uniform = (self.c_in as f64 * area / self.groups as f64).sqrt().recip();
        let (weight, bias) = match self.init {
            ConvInit::Default => {
                let uniform = Init::Uniform { lo: -uniform, up: uniform };
                (uniform, uniform)
            }
            _ => (Init::Randn { mean: 0.0, stdev: (2.0 / fan_out).sqrt() }, Init::Const(0.0)),
        };
        let dynamic = self.same && (self.stride > 1 || self.size % 2 == 0);
        let padding = if self.padded { (self.stride - 1 + self.size - 1) / 2 } else { 0 };
        let config = nn::ConvConfig {
            stride: self.stride,
            padding: if dynamic { 0 } else { padding },
            groups: self.groups,
            bias: self.bias,
            ws_init: begins(weight),
            bs_init: begins(bias),
            ..Default::default()
        };
        let conv = nn::conv2d(path, self.c_in, self.c_out, self.size, config);
        Conv2d { conv, same: dynamic.then_some((self.size, self.stride)) }
    }
}

/// A convolution that can pad as TensorFlow does.
#[derive(Debug)]
pub(super) struct Conv2d {
    pub(super) conv: nn::Conv2D,
    /// The kernel size and stride, if the padding depends on the input.
    same: Option<(i64, i64)>,
}

impl Conv2d {
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        match self.same {
            None => self.conv.forward(x),
            Some((size, stride)) => self.conv.forward(&pad_same(x, size, stride, 0.0)),
        }
    }
}

/// Pads so that a window of `size` with `stride` gives `⌈n / stride⌉` outputs, with the larger half of the
/// padding at the end.
pub(super) fn pad_same(x: &Tensor, size: i64, stride: i64, value: f64) -> Tensor {
    let shape = x.size();
    let missing = |n: i64| (((n + stride - 1) / stride - 1) * stride + size - n).max(0);
    let (down, right) = (missing(shape[2]), missing(shape[3]));
    if down == 0 && right == 0 {
        return x.shallow_clone();
    }
    let padding = [right / 2, right - right / 2, down / 2, down - down / 2];
    x.pad(padding, "constant", Some(value))
}

/// The constants of a batch normalization.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchNormOptions {
    pub(super) eps: f64,
    pub(super) momentum: f64,
    /// The initial value of the weights.
    pub(super) weight: f64,
}

impl Default for BatchNormOptions {
    fn default() -> Self {
        Self { eps: 1e-5, momentum: 0.1, weight: 1.0 }
    }
}

/// A batch normalization and its activation.
#[derive(Debug)]
pub(super) struct NormAct {
    norm: BatchNorm,
    act: Option<Activation>,
}

impl NormAct {
    pub(super) fn new(
        path: &Path<'_>,
        channels: i64,
        options: BatchNormOptions,
        act: Option<Activation>,
    ) -> Self {
        let config = BatchNormConfig {
            eps: options.eps,
            momentum: options.momentum,
            ws_init: Init::Const(options.weight),
            bs_init: Init::Const(0.0),
            ..Default::default()
        };
        Self { norm: batch_norm2d(path, channels, config), act }
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let x = self.norm.forward_t(x, train);
        match self.act {
            Some(act) => act.apply(x, train),
            None => x,
        }
    }
}

impl ModuleT for NormAct {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.forward(x, train)
    }
}

/// A convolution, its normalization and its activation: `conv` and `bn`.
#[derive(Debug)]
pub(super) struct ConvNormAct {
    conv: Conv2d,
    norm: NormAct,
}

impl ConvNormAct {
    pub(super) fn new(
        path: &Path<'_>,
        conv: Conv,
        options: BatchNormOptions,
        act: Option<Activation>,
    ) -> Self {
        Self::named(path, ["conv", "bn"], conv, options, act)
    }

    /// Uses other names than `conv` and `bn`.
    pub(super) fn named(
        path: &Path<'_>,
        [conv_name, norm_name]: [&str; 2],
        conv: Conv,
        options: BatchNormOptions,
        act: Option<Activation>,
    ) -> Self {
        let norm = NormAct::new(&(path / norm_name), conv.c_out, options, act);
        Self { conv: conv.build(&(path / conv_name)), norm }
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.norm.forward(&self.conv.forward(x), train)
    }
}

impl ModuleT for ConvNormAct {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.forward(x, train)
    }
}

/// Scales each channel by a factor that two small layers compute from the means of all channels.
///
/// Hu et al., [Squeeze-and-Excitation Networks](https://arxiv.org/abs/1709.01507).
#[derive(Debug)]
pub(super) struct Squeeze {
    reduce: Conv2d,
    expand: Conv2d,
    act: Activation,
    gate: Activation,
}

impl Squeeze {
    pub(super) fn new(
        path: &Path<'_>,
        [reduce, expand]: [&str; 2],
        (channels, squeezed): (i64, i64),
        act: Activation,
        gate: Activation,
    ) -> Self {
        Self {
            reduce: Conv::new(channels, squeezed, 1).bias(true).build(&(path / reduce)),
            expand: Conv::new(squeezed, channels, 1).bias(true).build(&(path / expand)),
            act,
            gate,
        }
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let means = x.mean_dim([2i64, 3].as_slice(), true, None::<tch::Kind>);
        let squeezed = self.act.apply(self.reduce.forward(&means), train);
        x * self.gate.apply(self.expand.forward(&squeezed), train)
    }
}
