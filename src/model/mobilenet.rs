//! MobileNet v3, with torchvision's names and shapes.
//!
//! Howard et al., [Searching for MobileNetV3](https://arxiv.org/abs/1905.02244).

use super::{
    body::Children,
    layers::{self, Activation, Conv, ConvNorm, SqueezeExcitation, avg_pool_flat, normal},
};
use tch::{
    Tensor,
    nn::{self, BatchNormConfig, ModuleT, Path},
};

use Activation::{HardSwish as HS, Relu as RE};

/// One inverted residual: kernel size, expanded channels, outputs, whether it has squeeze-and-excitation,
/// activation, stride.
type Row = (i64, i64, i64, bool, Activation, i64);

pub(super) const SMALL: &[Row] = &[
    (3, 16, 16, true, RE, 2),
    (3, 72, 24, false, RE, 2),
    (3, 88, 24, false, RE, 1),
    (5, 96, 40, true, HS, 2),
    (5, 240, 40, true, HS, 1),
    (5, 240, 40, true, HS, 1),
    (5, 120, 48, true, HS, 1),
    (5, 144, 48, true, HS, 1),
    (5, 288, 96, true, HS, 2),
    (5, 576, 96, true, HS, 1),
    (5, 576, 96, true, HS, 1),
];

pub(super) const LARGE: &[Row] = &[
    (3, 16, 16, false, RE, 1),
    (3, 64, 24, false, RE, 2),
    (3, 72, 24, false, RE, 1),
    (5, 72, 40, true, RE, 2),
    (5, 120, 40, true, RE, 1),
    (5, 120, 40, true, RE, 1),
    (3, 240, 80, false, HS, 2),
    (3, 200, 80, false, HS, 1),
    (3, 184, 80, false, HS, 1),
    (3, 184, 80, false, HS, 1),
    (3, 480, 112, true, HS, 1),
    (3, 672, 112, true, HS, 1),
    (5, 672, 160, true, HS, 2),
    (5, 960, 160, true, HS, 1),
    (5, 960, 160, true, HS, 1),
];

/// Returns torchvision's constants of batch normalization.
fn config() -> BatchNormConfig {
    BatchNormConfig { eps: 1e-3, momentum: 0.01, ..Default::default() }
}

/// Returns the nearest multiple of 8 that is at least 90 % of `n`.
fn divisible_by_8(n: i64) -> i64 {
    let rounded = ((n + 4) / 8 * 8).max(8);
    if rounded * 10 < n * 9 { rounded + 8 } else { rounded }
}

/// Expands, applies a depthwise convolution, and projects.
#[derive(Debug)]
struct InvertedResidual {
    block: Vec<Box<dyn ModuleT>>,
    residual: bool,
}

impl InvertedResidual {
    fn new(path: &Path<'_>, c_in: i64, (size, wide, c_out, squeezes, act, stride): Row) -> Self {
        let path = path / "block";
        let mut block: Vec<Box<dyn ModuleT>> = vec![];
        let conv =
            |i: usize, conv: Conv, act| Box::new(ConvNorm::new(&(&path / i), conv, config(), act));
        if wide != c_in {
            block.push(conv(block.len(), Conv::new(c_in, wide, 1), Some(act)));
        }
        let depthwise = Conv::new(wide, wide, size).stride(stride).groups(wide);
        block.push(conv(block.len(), depthwise, Some(act)));
        if squeezes {
            let path = &path / block.len();
            let squeezed = divisible_by_8(wide / 4);
            block.push(Box::new(SqueezeExcitation::new(&path, wide, squeezed, RE, true)));
        }
        block.push(conv(block.len(), Conv::new(wide, c_out, 1), None));
        Self { block, residual: stride == 1 && c_in == c_out }
    }
}

impl ModuleT for InvertedResidual {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let mut y = self.block.iter().fold(x.shallow_clone(), |x, l| l.forward_t(&x, train));
        if self.residual { y.g_add_(x) } else { y }
    }
}

/// Appends the children of a MobileNet v3; its classifier has a hidden layer of `hidden`.
pub(super) fn children(
    net: &mut Children<'_>,
    n_in: i64,
    rows: &'static [Row],
    hidden: i64,
    n_out: i64,
) {
    net.add("features.0", move |p| {
        ConvNorm::new(p, Conv::new(n_in, 16, 3).stride(2).first(), config(), Some(HS))
    });
    let mut c_in = 16;
    for (i, &row) in (1..).zip(rows) {
        let before = c_in;
        net.add(format!("features.{i}"), move |p| InvertedResidual::new(p, before, row)).block();
        c_in = row.2;
    }
    let features = 6 * c_in;
    net.add(format!("features.{}", rows.len() + 1), move |p| {
        ConvNorm::new(p, Conv::new(c_in, features, 1), config(), Some(HS))
    })
    .add("avgpool", |_| avg_pool_flat(1))
    .add("classifier", move |p| {
        let linear =
            |i: usize, n_in, n_out| layers::linear(&(p / i), n_in, n_out, normal(0.01), Some(0.0));
        nn::seq_t()
            .add(linear(0, features, hidden))
            .add_fn_t(|x, train| HS.apply(x.shallow_clone(), train).dropout(0.2, train))
            .add(linear(3, hidden, n_out))
    });
}

#[cfg(test)]
mod tests {
    use super::divisible_by_8;

    #[test]
    fn squeezed_channels_are_torchvisions() {
        let ours: Vec<i64> = [16, 72, 96, 120, 480, 672].map(|n| divisible_by_8(n / 4)).into();
        assert_eq!(ours, [8, 24, 24, 32, 120, 168]);
    }
}
