//! DenseNet, with torchvision's names and shapes.
//!
//! Huang et al., [Densely Connected Convolutional Networks](https://arxiv.org/abs/1608.06993).

use super::{
    batch_norm::BatchNorm,
    body::Children,
    layers::{self, Conv, ConvInit, avg_pool_flat, linear_default, max_pool, norm, relu},
};
use tch::{
    Tensor,
    nn::{self, Conv2D, ModuleT, Path},
};

/// The options of the family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// The number of channels that each layer adds.
    pub(super) growth: i64,
    /// The number of layers in each of the four blocks.
    pub(super) blocks: [usize; 4],
    /// The number of channels after the first convolution.
    pub(super) stem: i64,
    /// The rate of dropout before the classifier.
    pub(super) drop: f64,
}

fn conv(c_in: i64, c_out: i64, size: i64) -> Conv {
    Conv::new(c_in, c_out, size).init(ConvInit::FanIn)
}

/// Appends channels computed from all previous ones.
#[derive(Debug)]
struct DenseLayer {
    norm1: BatchNorm,
    conv1: Conv2D,
    norm2: BatchNorm,
    conv2: Conv2D,
}

impl DenseLayer {
    fn new(path: &Path<'_>, c_in: i64, growth: i64) -> Self {
        Self {
            norm1: norm(&(path / "norm1"), c_in),
            conv1: conv(c_in, 4 * growth, 1).build(&(path / "conv1")),
            norm2: norm(&(path / "norm2"), 4 * growth),
            conv2: conv(4 * growth, growth, 3).build(&(path / "conv2")),
        }
    }
}

/// Layers, each of which receives the outputs of all previous ones.
#[derive(Debug)]
struct DenseBlock(Vec<DenseLayer>);

impl ModuleT for DenseBlock {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let mut all = vec![x.shallow_clone()];
        for layer in &self.0 {
            let x = if let [x] = all.as_slice() { x.shallow_clone() } else { Tensor::cat(&all, 1) };
            let x = layer.conv1.forward_t(&layer.norm1.forward_t(&x, train).relu_(), train);
            all.push(layer.conv2.forward_t(&layer.norm2.forward_t(&x, train).relu_(), train));
        }
        Tensor::cat(&all, 1)
    }
}

/// Halves channels and size between two blocks.
#[derive(Debug)]
struct Transition {
    norm: BatchNorm,
    conv: Conv2D,
}

impl ModuleT for Transition {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let x = self.conv.forward_t(&self.norm.forward_t(x, train).relu_(), train);
        x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)
    }
}

/// Appends the children of a DenseNet.
pub(super) fn children(net: &mut Children<'_>, n_in: i64, shape: Shape, n_out: i64) {
    let Shape { growth, blocks, stem, drop } = shape;
    net.add("features.conv0", move |p| conv(n_in, stem, 7).stride(2).first().build(p))
        .add("features.norm0", move |p| norm(p, stem))
        .add("features.relu0", |_| relu())
        .add("features.pool0", |_| max_pool(3, 2, 1, false));
    let mut c_in = stem;
    for (i, n) in (1..).zip(blocks) {
        let before = c_in;
        net.add(format!("features.denseblock{i}"), move |p| {
            let layer = |j: usize| {
                let path = p / format!("denselayer{}", j + 1);
                DenseLayer::new(&path, before + j as i64 * growth, growth)
            };
            DenseBlock((0..n).map(layer).collect())
        });
        c_in += n as i64 * growth;
        if i < blocks.len() {
            let before = c_in;
            net.add(format!("features.transition{i}"), move |p| Transition {
                norm: norm(&(p / "norm"), before),
                conv: conv(before, before / 2, 1).build(&(p / "conv")),
            });
            c_in /= 2;
        }
    }
    net.add("features.norm5", move |p| norm(p, c_in)).add("classifier", move |p| {
        let linear = layers::linear(p, c_in, n_out, linear_default(c_in), Some(0.0));
        let dropout = move |x: &Tensor, train: bool| x.dropout(drop, train);
        nn::seq_t().add(relu()).add(avg_pool_flat(1)).add_fn_t(dropout).add(linear)
    });
}
