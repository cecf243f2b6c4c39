//! EfficientNet b0, in torchvision's names and shapes.
//!
//! Tan and Le, [EfficientNet](https://arxiv.org/abs/1905.11946).

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

const SILU: Option<Activation> = Some(Activation::Silu);

fn conv_norm(path: &Path<'_>, conv: Conv, act: Option<Activation>) -> ConvNorm {
    ConvNorm::new(path, conv, BatchNormConfig::default(), act)
}

/// Widens, filters each channel by itself, scales the channels, and narrows again.
#[derive(Debug)]
struct MbConv {
    widen: Option<ConvNorm>,
    depthwise: ConvNorm,
    scale: SqueezeExcitation,
    narrow: ConvNorm,
    residual: bool,
    skipped: f64,
}

/// Channels in and out of a block, and the width between them.
#[derive(Debug, Clone, Copy)]
struct Channels {
    c_in: i64,
    wide: i64,
    c_out: i64,
}

impl MbConv {
    fn new(path: &Path<'_>, c: Channels, size: i64, stride: i64, skipped: f64) -> Self {
        let path = path / "block";
        let Channels { c_in, wide, c_out } = c;
        let widen = (wide != c_in).then(|| conv_norm(&(&path / 0), Conv::new(c_in, wide, 1), SILU));
        let first = usize::from(widen.is_some());
        let depthwise = Conv::new(wide, wide, size).stride(stride).groups(wide);
        Self {
            widen,
            depthwise: conv_norm(&(&path / first), depthwise, SILU),
            scale: SqueezeExcitation::new(
                &(&path / (first + 1)),
                wide,
                (c_in / 4).max(1),
                Activation::Silu,
                false,
            ),
            narrow: conv_norm(&(&path / (first + 2)), Conv::new(wide, c_out, 1), None),
            residual: stride == 1 && c_in == c_out,
            skipped,
        }
    }
}

impl ModuleT for MbConv {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let wide = self.widen.as_ref().map(|layer| layer.forward_t(x, train));
        let y = self.depthwise.forward_t(wide.as_ref().unwrap_or(x), train);
        let mut y = self.narrow.forward_t(&self.scale.forward_t(&y, train), train);
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

/// The children of EfficientNet b0.
pub(super) fn children(net: &mut Children<'_>, n_in: i64, n_out: i64) {
    net.add("features.0", move |p| conv_norm(p, Conv::new(n_in, 32, 3).stride(2).first(), SILU));
    let blocks: usize = STAGES.iter().map(|stage| stage.4).sum();
    let (mut before, mut done) = (32, 0);
    for (i, (expansion, size, stride, c_out, n)) in (1..).zip(STAGES) {
        let (c_first, first) = (before, done);
        net.add(format!("features.{i}"), move |p| {
            let block = |j: usize| {
                let c_in = if j == 0 { c_first } else { c_out };
                let skipped = STOCHASTIC_DEPTH * (first + j) as f64 / blocks as f64;
                let stride = if j == 0 { stride } else { 1 };
                let channels = Channels { c_in, wide: c_in * expansion, c_out };
                MbConv::new(&(p / j), channels, size, stride, skipped)
            };
            Chain((0..n).map(block).collect())
        });
        (before, done) = (c_out, done + n);
    }
    let features = 4 * before;
    net.add("features.8", move |p| conv_norm(p, Conv::new(before, features, 1), SILU))
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
