//! Residual networks, wide residual networks, and ResNeXt, with torchvision's names and shapes.
//!
//! He et al., [Deep Residual Learning](https://arxiv.org/abs/1512.03385); Zagoruyko and Komodakis,
//! [Wide Residual Networks](https://arxiv.org/abs/1605.07146); Xie et al.,
//! [Aggregated Residual Transformations](https://arxiv.org/abs/1611.05431).

use super::{
    batch_norm::BatchNorm,
    body::{Chain, Children},
    layers::{self, Conv, avg_pool_flat, max_pool, norm, relu},
};
use tch::{
    Tensor,
    nn::{Conv2D, ModuleT, Path},
};

/// The options of the family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// The number of blocks in each of the four layers.
    pub(super) blocks: [usize; 4],
    /// If true, a block has three convolutions with a bottleneck in the middle.
    pub(super) bottleneck: bool,
    /// The number of groups of the middle convolution.
    pub(super) groups: i64,
    /// The width of each of those groups in the first layer.
    pub(super) group_width: i64,
}

/// The ratio of a bottleneck block's output width to its middle width.
const EXPANSION: i64 = 4;

/// One residual block: two convolutions, or three with a bottleneck.
#[derive(Debug)]
struct Block {
    convs: Vec<(Conv2D, BatchNorm)>,
    downsample: Option<(Conv2D, BatchNorm)>,
}

impl Block {
    fn new(path: &Path<'_>, c_in: i64, planes: i64, stride: i64, shape: Shape) -> Self {
        let c_out = shape.c_out(planes);
        // torchvision strides in the 3×3 convolution.
        let convs = if shape.bottleneck {
            let width = planes * shape.group_width / 64 * shape.groups;
            vec![
                (width, Conv::new(c_in, width, 1)),
                (width, Conv::new(width, width, 3).stride(stride).groups(shape.groups)),
                (c_out, Conv::new(width, c_out, 1)),
            ]
        } else {
            vec![
                (planes, Conv::new(c_in, planes, 3).stride(stride)),
                (planes, Conv::new(planes, planes, 3)),
            ]
        };
        let convs = (1..).zip(convs).map(|(i, (channels, conv))| {
            (conv.build(&(path / format!("conv{i}"))), norm(&(path / format!("bn{i}")), channels))
        });
        let convs = convs.collect();
        let downsample = (stride != 1 || c_in != c_out).then(|| {
            let path = path / "downsample";
            let conv = Conv::new(c_in, c_out, 1).stride(stride).build(&(&path / "0"));
            (conv, norm(&(&path / "1"), c_out))
        });
        Self { convs, downsample }
    }
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let pass = |x: &Tensor, (conv, norm): &(Conv2D, BatchNorm)| {
            norm.forward_t(&conv.forward_t(x, train), train)
        };
        let last = self.convs.len() - 1;
        let mut y = x.shallow_clone();
        for (i, layer) in self.convs.iter().enumerate() {
            y = pass(&y, layer);
            if i < last {
                y = y.relu_();
            }
        }
        match &self.downsample {
            Some(layer) => y.g_add_(&pass(x, layer)).relu_(),
            None => y.g_add_(x).relu_(),
        }
    }
}

impl Shape {
    fn c_out(self, planes: i64) -> i64 {
        if self.bottleneck { planes * EXPANSION } else { planes }
    }

    /// Builds one of the four layers: blocks, the first of which may halve the size.
    fn layer(self, path: &Path<'_>, i: usize) -> Chain {
        let planes = 64 << i;
        let before = if i == 0 { 64 } else { self.c_out(planes / 2) };
        let block = |j: usize| {
            let stride = if i > 0 && j == 0 { 2 } else { 1 };
            let c_in = if j == 0 { before } else { self.c_out(planes) };
            Block::new(&(path / j), c_in, planes, stride, self)
        };
        Chain::new((0..self.blocks[i]).map(block))
    }
}

/// Appends the children of a residual network.
pub(super) fn children(net: &mut Children<'_>, n_in: i64, shape: Shape, n_out: i64) {
    net.add("conv1", move |p| Conv::new(n_in, 64, 7).stride(2).first().build(p))
        .add("bn1", |p| norm(p, 64))
        .add("relu", |_| relu())
        .add("maxpool", |_| max_pool(3, 2, 1, false));
    for i in 0..4 {
        net.add(format!("layer{}", i + 1), move |p| shape.layer(p, i)).chain();
    }
    let features = shape.c_out(512);
    net.add("avgpool", |_| avg_pool_flat(1)).add("fc", move |p| {
        layers::linear(p, features, n_out, layers::linear_default(features), None)
    });
}
