//! Layers of the architectures, with the initializations of PyTorch's models.

use super::{
    batch_norm::{BatchNorm, batch_norm2d},
    switch::Switch,
};
use std::cell::Cell;
use tch::{
    Tensor,
    nn::{self, Conv2D, Init, Linear, ModuleT, Path, init},
};

thread_local! {
    /// If true, this thread builds models whose weights are loaded afterwards.
    static UNDRAWN: Cell<bool> = const { Cell::new(false) };
}

/// Calls `build` without drawing weights, which would take longer than loading them afterwards.
pub(super) fn undrawn<T>(build: impl FnOnce() -> T) -> T {
    let _undrawn = Switch::set(&UNDRAWN, true);
    build()
}

/// Returns the initialization of a variable: `init`, or zeros inside [`undrawn`].
pub(super) fn begins(init: Init) -> Init {
    if UNDRAWN.get() { Init::Const(0.0) } else { init }
}

/// The initialization of the weights of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConvInit {
    /// Normal, scaled by the fan-out, biases zero: most of torchvision's models.
    FanOut,
    /// Normal, scaled by the fan-in, biases zero: DenseNet, xresnet.
    FanIn,
    /// Uniform, scaled by the fan-in, biases zero: SqueezeNet.
    UniformFanIn,
    /// Normal with a standard deviation of 0.02, biases zero: ConvNeXt.
    Narrow,
    /// PyTorch's default, for weights and biases: AlexNet, and every first layer for a number of channels
    /// other than 3, as in fastai.
    Default,
}

/// Options of a convolution: square, padded to keep the size if the stride is 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conv {
    c_in: i64,
    c_out: i64,
    size: i64,
    stride: i64,
    padding: i64,
    groups: i64,
    bias: bool,
    init: ConvInit,
    /// If true, padding follows TensorFlow's `SAME`, which depends on the size of the image.
    same: bool,
}

impl Conv {
    pub(super) fn new(c_in: i64, c_out: i64, size: i64) -> Self {
        let init = ConvInit::FanOut;
        let (padding, same) = (size / 2, false);
        Self { c_in, c_out, size, stride: 1, padding, groups: 1, bias: false, init, same }
    }

    pub(super) fn stride(self, stride: i64) -> Self {
        Self { stride, ..self }
    }

    pub(super) fn padding(self, padding: i64) -> Self {
        Self { padding, ..self }
    }

    pub(super) fn groups(self, groups: i64) -> Self {
        Self { groups, ..self }
    }

    pub(super) fn bias(self) -> Self {
        Self { bias: true, ..self }
    }

    pub(super) fn init(self, init: ConvInit) -> Self {
        Self { init, ..self }
    }

    /// Uses TensorFlow's `SAME` padding: if the number of padding pixels is odd, the additional one is on
    /// the right and at the bottom. Only [`ConvNorm`] supports this.
    pub(super) fn same(self) -> Self {
        Self { same: true, ..self }
    }

    /// Marks the first layer of a network: as in fastai, it has PyTorch's default initialization if the
    /// number of input channels is not 3.
    pub(super) fn first(self) -> Self {
        if self.c_in == 3 { self } else { self.init(ConvInit::Default) }
    }

    pub(super) fn build(self, path: &Path<'_>) -> Conv2D {
        let area = self.size * self.size;
        let fan_in = (self.c_in / self.groups * area) as f64;
        let fan_out = (self.c_out * area) as f64;
        let uniform = |bound: f64| Init::Uniform { lo: -bound, up: bound };
        let (ws_init, bs_init) = match self.init {
            ConvInit::FanOut => (normal((2.0 / fan_out).sqrt()), Init::Const(0.0)),
            ConvInit::FanIn => (normal((2.0 / fan_in).sqrt()), Init::Const(0.0)),
            ConvInit::Narrow => (normal(0.02), Init::Const(0.0)),
            ConvInit::UniformFanIn => (uniform((6.0 / fan_in).sqrt()), Init::Const(0.0)),
            ConvInit::Default => (uniform(fan_in.sqrt().recip()), uniform(fan_in.sqrt().recip())),
        };
        let config = nn::ConvConfig {
            stride: self.stride,
            padding: self.padding,
            groups: self.groups,
            bias: self.bias,
            ws_init: begins(ws_init),
            bs_init: begins(bs_init),
            ..Default::default()
        };
        nn::conv2d(path, self.c_in, self.c_out, self.size, config)
    }
}

/// Returns a normal distribution with mean zero.
pub(super) fn normal(stdev: f64) -> Init {
    Init::Randn { mean: 0.0, stdev }
}

/// Creates a batch normalization with weights 1 and biases 0, as in PyTorch. By default, tch draws the weights.
pub(super) fn norm(path: &Path<'_>, channels: i64) -> BatchNorm {
    norm_with(path, channels, nn::BatchNormConfig::default(), 1.0)
}

/// Creates a batch normalization with other constants and the initial weight `weight`.
pub(super) fn norm_with(
    path: &Path<'_>,
    channels: i64,
    config: nn::BatchNormConfig,
    weight: f64,
) -> BatchNorm {
    let config = nn::BatchNormConfig { ws_init: Init::Const(weight), ..config };
    batch_norm2d(path, channels, config)
}

/// Creates a linear layer with this initialization of weights. Biases start at 0, or at PyTorch's default
/// if `bias` is `None`.
pub(super) fn linear(
    path: &Path<'_>,
    n_in: i64,
    n_out: i64,
    weight: Init,
    bias: Option<f64>,
) -> Linear {
    let bs_init = bias.map(Init::Const);
    let config = nn::LinearConfig { ws_init: begins(weight), bs_init, bias: true };
    nn::linear(path, n_in, n_out, config)
}

/// Returns PyTorch's default initialization of a linear layer's weights.
pub(super) fn linear_default(n_in: i64) -> Init {
    let bound = (n_in as f64).sqrt().recip();
    Init::Uniform { lo: -bound, up: bound }
}

/// He's normal initialization of a linear layer's weights, scaled by the fan-in.
pub(super) const KAIMING_NORMAL: Init = init::DEFAULT_KAIMING_NORMAL;

/// An activation between linear layers or convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`.
    #[serde(alias = "relu")]
    Relu,
    /// `min(max(x, 0), 6)`.
    #[serde(alias = "relu6")]
    Relu6,
    /// `x * relu6(x + 3) / 6`.
    #[serde(alias = "hard_swish")]
    HardSwish,
    /// `x * sigmoid(x)`, also called swish.
    #[serde(alias = "silu")]
    Silu,
    /// `x` times the cumulative normal distribution of `x`.
    #[serde(alias = "gelu")]
    Gelu,
    /// [`Gelu`](Self::Gelu), approximated with a hyperbolic tangent.
    #[serde(alias = "gelu_tanh")]
    GeluTanh,
    /// `x * sigmoid(1.702 * x)`, another approximation of [`Gelu`](Self::Gelu).
    #[serde(alias = "quick_gelu")]
    QuickGelu,
    /// `x * tanh(softplus(x))`.
    #[serde(alias = "mish")]
    Mish,
    /// `x`, or `x / 100` if negative.
    #[serde(alias = "leaky_relu")]
    LeakyRelu,
    /// The hyperbolic tangent.
    #[serde(alias = "tanh")]
    Tanh,
    /// `1 / (1 + exp(-x))`.
    #[serde(alias = "sigmoid")]
    Sigmoid,
    /// `relu6(x + 3) / 6`.
    #[serde(alias = "hard_sigmoid")]
    HardSigmoid,
}

impl Activation {
    /// Applies the activation to a tensor that is not used elsewhere.
    ///
    /// In place if that saves memory: ReLU's gradient needs only its output. The gradients of the others
    /// need their input, which autograd would have to copy.
    pub(super) fn apply(self, mut x: Tensor, train: bool) -> Tensor {
        match self {
            Self::Relu => x.relu_(),
            Self::Relu6 => x.relu6_(),
            Self::Tanh => x.tanh_(),
            Self::LeakyRelu => x.leaky_relu_(),
            Self::HardSwish if train => x.hardswish(),
            Self::HardSwish => x.hardswish_(),
            Self::Silu if train => x.silu(),
            Self::Silu => x.silu_(),
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::QuickGelu => (&x * 1.702).sigmoid() * x,
            Self::Sigmoid => x.sigmoid_(),
            Self::HardSigmoid => x.hardsigmoid(),
            Self::Mish => x.mish(),
        }
    }
}

/// A convolution, its normalization and its activation, named `0` and `1` as in torchvision's
/// `Conv2dNormActivation`.
#[derive(Debug)]
pub(super) struct ConvNorm {
    /// The kernel size and stride of a convolution whose padding depends on the size of its input.
    pads: Option<(i64, i64)>,
    conv: Conv2D,
    norm: BatchNorm,
    act: Option<Activation>,
}

impl ConvNorm {
    pub(super) fn new(
        path: &Path<'_>,
        conv: Conv,
        norm: nn::BatchNormConfig,
        act: Option<Activation>,
    ) -> Self {
        Self::zeroed(path, conv, norm, act, 1.0)
    }

    /// Creates the layer with the initial normalization weight `weight`.
    pub(super) fn zeroed(
        path: &Path<'_>,
        conv: Conv,
        norm: nn::BatchNormConfig,
        act: Option<Activation>,
        weight: f64,
    ) -> Self {
        let channels = conv.c_out;
        // With stride 1 and an odd kernel size, the padding is the same on both sides.
        let pads = (conv.same && conv.stride > 1).then_some((conv.size, conv.stride));
        let conv = if pads.is_some() { conv.padding(0) } else { conv };
        let conv = conv.build(&(path / "0"));
        Self { pads, conv, norm: norm_with(&(path / "1"), channels, norm, weight), act }
    }
}

impl ModuleT for ConvNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let padded = self.pads.map(|(size, stride)| pad_same(x, size, stride));
        let x = self.conv.forward_t(padded.as_ref().unwrap_or(x), train);
        let x = self.norm.forward_t(&x, train);
        match self.act {
            Some(act) => act.apply(x, train),
            None => x,
        }
    }
}

/// Pads `x`, `[N, C, H, W]`, with zeros as TensorFlow's `SAME` padding for a kernel size and a stride.
fn pad_same(x: &Tensor, size: i64, stride: i64) -> Tensor {
    let around = |n: i64| {
        let all = ((n + stride - 1) / stride * stride - stride + size - n).max(0);
        [all / 2, all - all / 2]
    };
    let size = x.size();
    let [height, width] = [2, 3].map(|dim| around(size.get(dim).copied().unwrap_or(0)));
    x.constant_pad_nd([width, height].concat())
}

/// Scales each channel by a factor that two small layers compute from the means of all channels.
///
/// Hu et al., [Squeeze-and-Excitation Networks](https://arxiv.org/abs/1709.01507).
#[derive(Debug)]
pub(super) struct SqueezeExcitation {
    fc1: Conv2D,
    fc2: Conv2D,
    act: Activation,
    hard: bool,
}

impl SqueezeExcitation {
    /// Creates the block. If `hard` is true, the scale is a piecewise linear sigmoid.
    pub(super) fn new(
        path: &Path<'_>,
        channels: i64,
        squeezed: i64,
        act: Activation,
        hard: bool,
    ) -> Self {
        let fc1 = Conv::new(channels, squeezed, 1).bias().build(&(path / "fc1"));
        let fc2 = Conv::new(squeezed, channels, 1).bias().build(&(path / "fc2"));
        Self { fc1, fc2, act, hard }
    }
}

impl ModuleT for SqueezeExcitation {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let means = x.adaptive_avg_pool2d([1, 1]);
        let squeezed = self.act.apply(self.fc1.forward_t(&means, train), train);
        let mut scale = self.fc2.forward_t(&squeezed, train);
        let scale = if self.hard { scale.hardsigmoid() } else { scale.sigmoid_() };
        scale * x
    }
}

/// Creates a maximum pooling.
pub(super) fn max_pool(size: i64, stride: i64, padding: i64, ceil: bool) -> nn::Func<'static> {
    nn::func(move |x| x.max_pool2d([size; 2], [stride; 2], [padding; 2], [1, 1], ceil))
}

/// Creates an in-place ReLU.
pub(super) fn relu() -> nn::Func<'static> {
    nn::func(|x| x.shallow_clone().relu_())
}

/// Creates an average pooling to `size` × `size`, flattened.
pub(super) fn avg_pool_flat(size: i64) -> nn::Func<'static> {
    nn::func(move |x| x.adaptive_avg_pool2d([size; 2]).flatten(1, -1))
}
