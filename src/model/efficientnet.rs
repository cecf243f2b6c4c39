//! EfficientNet b0 and Lite0, with torchvision's names and shapes.
//!
//! Tan and Le, [EfficientNet](https://arxiv.org/abs/1905.11946). The lite networks are Google's variants for
//! small devices, [without squeeze-and-excitation and with
//! ReLU6](https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).

use super::{
    body::{Chain, Children},
    layers::{self, Activation, Conv, ConvNorm, SqueezeExcitation, avg_pool_flat},
};
use tch::{
    Tensor,
    nn::{self, BatchNormConfig, Init, ModuleT, Path},
};

/// The stages of b0: expansion, kernel size, stride, outputs, blocks.
const STAGES: [(i64, i64, i64, i64, usize); 7] = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
];

/// The probability with which training skips the last block; the first is never skipped.
///
/// Huang et al., [Stochastic Depth](https://arxiv.org/abs/1603.09382).
const STOCHASTIC_DEPTH: f64 = 0.2;

/// The two variants of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// torchvision's: squeeze-and-excitation, SiLU, stochastic depth.
    Full,
    /// timm's `tf_efficientnet_lite`: ReLU6, with TensorFlow's constants and padding.
    Lite,
}

impl Kind {
    fn act(self) -> Option<Activation> {
        Some(if self == Self::Full { Activation::Silu } else { Activation::Relu6 })
    }

    fn conv_norm(self, path: &Path<'_>, conv: Conv, act: Option<Activation>) -> ConvNorm {
        let norm = BatchNormConfig::default();
        match self {
            Self::Full => ConvNorm::new(path, conv, norm, act),
            Self::Lite => {
                ConvNorm::new(path, conv.same(), BatchNormConfig { eps: 1e-3, ..norm }, act)
            }
        }
    }
}

/// Expands, applies a depthwise convolution, scales the channels, and projects.
#[derive(Debug)]
struct MbConv {
    widen: Option<ConvNorm>,
    depthwise: ConvNorm,
    scale: Option<SqueezeExcitation>,
    narrow: ConvNorm,
    residual: bool,
    skipped: f64,
}

/// The input and output channels of a block, and the expanded width.
#[derive(Debug, Clone, Copy)]
struct Channels {
    c_in: i64,
    wide: i64,
    c_out: i64,
}

impl MbConv {
    fn new(path: &Path<'_>, kind: Kind, c: Channels, size: i64, stride: i64, skipped: f64) -> Self {
        let path = path / "block";
        let Channels { c_in, wide, c_out } = c;
        let conv = |i: usize, conv: Conv, act| kind.conv_norm(&(&path / i), conv, act);
        let widen = (wide != c_in).then(|| conv(0, Conv::new(c_in, wide, 1), kind.act()));
        let first = usize::from(widen.is_some());
        let depthwise = Conv::new(wide, wide, size).stride(stride).groups(wide);
        let depthwise = conv(first, depthwise, kind.act());
        let scale = (kind == Kind::Full).then(|| {
            let squeezed = (c_in / 4).max(1);
            let path = &path / (first + 1);
            SqueezeExcitation::new(&path, wide, squeezed, Activation::Silu, false)
        });
        let last = first + 1 + usize::from(scale.is_some());
        Self {
            widen,
            depthwise,
            scale,
            narrow: conv(last, Conv::new(wide, c_out, 1), None),
            residual: stride == 1 && c_in == c_out,
            skipped,
        }
    }
}

impl ModuleT for MbConv {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let wide = self.widen.as_ref().map(|layer| layer.forward_t(x, train));
        let y = self.depthwise.forward_t(wide.as_ref().unwrap_or(x), train);
        let y = match &self.scale {
            Some(scale) => scale.forward_t(&y, train),
            None => y,
        };
        let mut y = self.narrow.forward_t(&y, train);
        if !self.residual {
            return y;
        }
        if train && self.skipped > 0.0 {
            let kept = 1.0 - self.skipped;
            let mut noise = Tensor::empty([x.size()[0], 1, 1, 1], (y.kind(), y.device()));
            y *= noise.bernoulli_float_(kept) / kept;
        }
        y.g_add_(x)
    }
}

/// Appends the children of EfficientNet b0 or Lite0.
pub(super) fn children(net: &mut Children<'_>, n_in: i64, kind: Kind, n_out: i64) {
    // timm's networks have no stochastic depth by default.
    let depth = if kind == Kind::Full { STOCHASTIC_DEPTH } else { 0.0 };
    net.add("features.0", move |p| {
        kind.conv_norm(p, Conv::new(n_in, 32, 3).stride(2).first(), kind.act())
    });
    let blocks: usize = STAGES.iter().map(|stage| stage.4).sum();
    let (mut before, mut done) = (32, 0);
    for (i, (expansion, size, stride, c_out, n)) in (1..).zip(STAGES) {
        let (c_first, first) = (before, done);
        net.add(format!("features.{i}"), move |p| {
            let block = |j: usize| {
                let c_in = if j == 0 { c_first } else { c_out };
                let skipped = depth * (first + j) as f64 / blocks as f64;
                let stride = if j == 0 { stride } else { 1 };
                let channels = Channels { c_in, wide: c_in * expansion, c_out };
                MbConv::new(&(p / j), kind, channels, size, stride, skipped)
            };
            Chain::new((0..n).map(block))
        })
        .chain();
        (before, done) = (c_out, done + n);
    }
    let features = 4 * before;
    net.add("features.8", move |p| kind.conv_norm(p, Conv::new(before, features, 1), kind.act()))
        .add("avgpool", |_| avg_pool_flat(1))
        .add("classifier", move |p| {
            let bound = (n_out as f64).sqrt().recip();
            let weight = Init::Uniform { lo: -bound, up: bound };
            nn::seq_t().add_fn_t(|x, train| x.dropout(0.2, train)).add(layers::linear(
                &(p / 1),
                features,
                n_out,
                weight,
                Some(0.0),
            ))
        });
}
