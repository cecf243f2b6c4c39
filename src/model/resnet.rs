//! Residual networks without their last two layers, in torchvision's names and shapes.
//!
//! He et al., [Deep Residual Learning](https://arxiv.org/abs/1512.03385).

use tch::{
    Tensor,
    nn::{self, BatchNorm, Conv2D, ModuleT, Path},
};

/// A residual network up to its last feature map.
#[derive(Debug)]
pub(super) struct ResNet {
    conv1: Conv2D,
    bn1: BatchNorm,
    layers: Vec<Vec<Block>>,
}

/// One residual block: two convolutions, or three with a bottleneck.
#[derive(Debug)]
struct Block {
    convs: Vec<(Conv2D, BatchNorm)>,
    downsample: Option<(Conv2D, BatchNorm)>,
}

/// How many times wider a bottleneck block's output is than its middle.
const EXPANSION: i64 = 4;

fn conv(path: &Path<'_>, c_in: i64, c_out: i64, size: i64, stride: i64) -> Conv2D {
    // torchvision's initialisation: normal, for the fan of the outputs.
    let stdev = (2.0 / (c_out * size * size) as f64).sqrt();
    let config = nn::ConvConfig {
        stride,
        padding: size / 2,
        bias: false,
        ws_init: nn::Init::Randn { mean: 0.0, stdev },
        ..Default::default()
    };
    nn::conv2d(path, c_in, c_out, size, config)
}

fn norm(path: &Path<'_>, channels: i64) -> BatchNorm {
    let ones = nn::Init::Const(1.0); // tch would draw them
    nn::batch_norm2d(path, channels, nn::BatchNormConfig { ws_init: ones, ..Default::default() })
}

impl Block {
    fn new(path: &Path<'_>, c_in: i64, width: i64, stride: i64, bottleneck: bool) -> Self {
        let c_out = if bottleneck { width * EXPANSION } else { width };
        // (inputs, outputs, size, stride): torchvision strides in the 3x3 convolution.
        let shapes = if bottleneck {
            vec![(c_in, width, 1, 1), (width, width, 3, stride), (width, c_out, 1, 1)]
        } else {
            vec![(c_in, width, 3, stride), (width, width, 3, 1)]
        };
        let convs = (1..)
            .zip(shapes)
            .map(|(i, (a, b, size, stride))| {
                let conv = conv(&(path / format!("conv{i}")), a, b, size, stride);
                (conv, norm(&(path / format!("bn{i}")), b))
            })
            .collect();
        let downsample = (stride != 1 || c_in != c_out).then(|| {
            let path = path / "downsample";
            (conv(&(&path / "0"), c_in, c_out, 1, stride), norm(&(&path / "1"), c_out))
        });
        Self { convs, downsample }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
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

impl ResNet {
    /// A network with these numbers of blocks; the stem and the first two layers are parameter group
    /// 0, the others group 1, as fastai cuts it.
    pub(super) fn new(path: &Path<'_>, n_in: i64, blocks: [usize; 4], bottleneck: bool) -> Self {
        let (early, late) = (path.set_group(0), path.set_group(1));
        let conv1 = {
            let stdev = (2.0 / (64.0 * 49.0_f64)).sqrt();
            let ws_init = match n_in {
                3 => nn::Init::Randn { mean: 0.0, stdev },
                // A first layer for other channels is PyTorch's default one, as in fastai.
                n => {
                    let bound = 1.0 / ((n * 49) as f64).sqrt();
                    nn::Init::Uniform { lo: -bound, up: bound }
                }
            };
            let config = nn::ConvConfig {
                stride: 2,
                padding: 3,
                bias: false,
                ws_init,
                ..Default::default()
            };
            nn::conv2d(&early / "conv1", n_in, 64, 7, config)
        };
        let bn1 = norm(&(&early / "bn1"), 64);
        let mut c_in = 64;
        let layers = blocks
            .iter()
            .enumerate()
            .map(|(i, &n)| {
                let width = 64 << i;
                let path = (if i < 2 { &early } else { &late }) / format!("layer{}", i + 1);
                (0..n)
                    .map(|j| {
                        let stride = if i > 0 && j == 0 { 2 } else { 1 };
                        let path = &path / j.to_string();
                        let block = Block::new(&path, c_in, width, stride, bottleneck);
                        c_in = if bottleneck { width * EXPANSION } else { width };
                        block
                    })
                    .collect()
            })
            .collect();
        Self { conv1, bn1, layers }
    }
}

impl ModuleT for ResNet {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let x = self.bn1.forward_t(&self.conv1.forward_t(x, train), train).relu_();
        let x = x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
        self.layers.iter().flatten().fold(x, |x, block| block.forward(&x, train))
    }
}
