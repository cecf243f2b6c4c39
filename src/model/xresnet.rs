//! fastai's xresnet, with the names and shapes of its
//! [implementation](https://docs.fast.ai/vision.models.xresnet.html): three small convolutions at the
//! start, average pooling in the shortcut of blocks that halve the size, and blocks that start as the
//! identity.
//!
//! He et al., [Bag of Tricks](https://arxiv.org/abs/1812.01187).

use super::{
    body::{Chain, Children},
    layers::{self, Activation, Conv, ConvInit, ConvNorm, KAIMING_NORMAL, avg_pool_flat, max_pool},
};
use tch::{
    Tensor,
    nn::{self, ModuleT, Path},
};

/// The options of the family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// The number of blocks in each of the four layers.
    pub(super) blocks: [usize; 4],
    /// The ratio of a block's output width to its middle width: 4 with three convolutions, 1 with two.
    pub(super) expansion: i64,
}

fn conv(c_in: i64, c_out: i64, size: i64) -> Conv {
    Conv::new(c_in, c_out, size).init(ConvInit::FanIn)
}

fn conv_relu(path: &Path<'_>, conv: Conv) -> ConvNorm {
    ConvNorm::new(path, conv, nn::BatchNormConfig::default(), Some(Activation::Relu))
}

/// One residual block. The weights of its last normalization start at zero, so the whole branch does.
#[derive(Debug)]
struct Block {
    convpath: Vec<ConvNorm>,
    /// If true, average pooling halves the size of the shortcut.
    halved: bool,
    shortcut: Option<ConvNorm>,
}

impl Block {
    fn new(path: &Path<'_>, c_in: i64, width: i64, stride: i64, expansion: i64) -> Self {
        let c_out = width * expansion;
        let convs = if expansion == 1 {
            vec![conv(c_in, width, 3).stride(stride), conv(width, c_out, 3)]
        } else {
            vec![conv(c_in, width, 1), conv(width, width, 3).stride(stride), conv(width, c_out, 1)]
        };
        let last = convs.len() - 1;
        let config = nn::BatchNormConfig::default();
        let convpath = path / "convpath";
        let convpath = convs.into_iter().enumerate().map(|(i, conv)| {
            let path = &convpath / i;
            if i < last {
                conv_relu(&path, conv)
            } else {
                ConvNorm::zeroed(&path, conv, config, None, 0.0)
            }
        });
        let convpath = convpath.collect();
        let halved = stride != 1;
        let shortcut = (c_in != c_out).then(|| {
            let path = path / "idpath" / usize::from(halved);
            ConvNorm::new(&path, conv(c_in, c_out, 1), config, None)
        });
        Self { convpath, halved, shortcut }
    }
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let path = self.convpath.iter();
        let mut y = path.fold(x.shallow_clone(), |y, layer| layer.forward_t(&y, train));
        let x = match self.halved {
            true => x.avg_pool2d([2, 2], [2, 2], [0, 0], true, true, None),
            false => x.shallow_clone(),
        };
        match &self.shortcut {
            Some(layer) => y.g_add_(&layer.forward_t(&x, train)).relu_(),
            None => y.g_add_(&x).relu_(),
        }
    }
}

impl Shape {
    fn layer(self, path: &Path<'_>, i: usize) -> Chain {
        let width = 64 << i;
        let before = if i == 0 { 64 } else { width / 2 * self.expansion };
        let block = |j: usize| {
            let stride = if i > 0 && j == 0 { 2 } else { 1 };
            let c_in = if j == 0 { before } else { width * self.expansion };
            Block::new(&(path / j), c_in, width, stride, self.expansion)
        };
        Chain::new((0..self.blocks[i]).map(block))
    }
}

/// Appends the children of an xresnet. Their names are numbers.
pub(super) fn children(net: &mut Children<'_>, n_in: i64, shape: Shape, n_out: i64) {
    let stem = [conv(n_in, 32, 3).stride(2).first(), conv(32, 32, 3), conv(32, 64, 3)];
    for (i, conv) in stem.into_iter().enumerate() {
        net.add(i.to_string(), move |p| conv_relu(p, conv));
    }
    net.add("3", |_| max_pool(3, 2, 1, false));
    for i in 0..4 {
        net.add((4 + i).to_string(), move |p| shape.layer(p, i)).chain();
    }
    let features = 512 * shape.expansion;
    // fastai has dropout of 0 before the last layer.
    net.add("8", |_| avg_pool_flat(1))
        .step("9", Tensor::shallow_clone)
        .step("10", Tensor::shallow_clone)
        .add("11", move |p| layers::linear(p, features, n_out, KAIMING_NORMAL, Some(0.0)));
}
