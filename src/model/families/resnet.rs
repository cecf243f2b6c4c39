//! ResNets with later improvements, with timm's names and shapes: the deep stem and average pooling of
//! ResNet-D, squeeze-and-excitation, anti-aliasing, ResNeXt.
//!
//! He et al., [Bag of Tricks](https://arxiv.org/abs/1812.01187); Bello et al.,
//! [Revisiting ResNets](https://arxiv.org/abs/2103.07579); Hu et al.,
//! [Squeeze-and-Excitation Networks](https://arxiv.org/abs/1709.01507); Wang et al.,
//! [ECA-Net](https://arxiv.org/abs/1910.03151).

use super::{
    build::{Build, nearest_multiple},
    classifier::linear_classifier,
    conv::{Conv, Conv2d, Squeeze},
    drop_path::DropPath,
    norm::{Norm, NormKind},
};
use crate::model::{
    body::Children,
    layers::{Activation, begins},
};
use serde::Deserialize;
use tch::{
    Kind, Tensor,
    nn::{Init, ModuleT, Path},
};

/// The filter before a stride, against aliasing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Smoothing {
    /// The mean of 2×2 pixels.
    Avg,
    /// A fixed 3×3 filter: Zhang, <https://arxiv.org/abs/1904.11486>.
    Blur,
}

impl Smoothing {
    /// Halves the size.
    fn apply(self, x: &Tensor) -> Tensor {
        if self == Self::Avg {
            return x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None);
        }
        let channels = x.size()[1];
        // `Tensor::full` is recorded when the network is traced; the values of a slice would not be.
        let [side, middle] = [0.25, 0.5].map(|n| Tensor::full([1], n, tch::kind::FLOAT_CPU));
        let row = Tensor::cat(&[&side, &middle, &side], 0);
        let filter = row.unsqueeze(1) * row.unsqueeze(0);
        let filter = filter.to_device(x.device()).to_kind(x.kind());
        let filter = filter.view([1, 1, 3, 3]).expand([channels, 1, 3, 3], false);
        let x = x.reflection_pad2d([1, 1, 1, 1]);
        x.conv2d(&filter, None::<&Tensor>, [2, 2], [0, 0], [1, 1], channels)
    }
}

/// The layer that scales the channels of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scaling {
    Se,
    Eca,
}

/// The options of the family, with timm's names.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::model) struct Config {
    layers: [usize; 4],
    bottleneck: bool,
    cardinality: i64,
    base_width: i64,
    stem_width: i64,
    stem_type: String,
    replace_stem_pool: bool,
    block_reduce_first: i64,
    down_kernel_size: i64,
    avg_down: bool,
    channels: [i64; 4],
    act: Activation,
    norm: NormKind,
    aa: Option<Smoothing>,
    attn: Option<Scaling>,
    rd_ratio: f64,
    drop_rate: f64,
    drop_path_rate: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            layers: [2, 2, 2, 2],
            bottleneck: false,
            cardinality: 1,
            base_width: 64,
            stem_width: 64,
            stem_type: String::new(),
            replace_stem_pool: false,
            block_reduce_first: 1,
            down_kernel_size: 1,
            avg_down: false,
            channels: [64, 128, 256, 512],
            act: Activation::Relu,
            norm: NormKind::Batch,
            aa: None,
            attn: None,
            rd_ratio: 1.0 / 16.0,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
        }
    }
}

impl Config {
    fn expansion(&self) -> i64 {
        if self.bottleneck { 4 } else { 1 }
    }

    fn norm(&self, path: &Path<'_>, channels: i64) -> Norm {
        Norm::new(path, self.norm, channels, 1e-5)
    }

    /// Builds the first convolution, or three of them.
    fn stem(&self, path: &Path<'_>, n_in: i64) -> (Stem, i64) {
        let act = self.act;
        if !self.stem_type.contains("deep") {
            let conv = Conv::new(n_in, 64, 7).stride(2).first().build(path);
            return (Stem { convs: vec![(conv, None)], act }, 64);
        }
        let second = self.stem_width;
        let first = if self.stem_type.contains("tiered") { 3 * (second / 4) } else { second };
        let layer = |i: usize, conv: Conv, norm: bool| {
            let norm = norm.then(|| self.norm(&(path / (i + 1)), conv.c_out));
            (conv.build(&(path / i)), norm)
        };
        let convs = vec![
            layer(0, Conv::new(n_in, first, 3).stride(2).first(), true),
            layer(3, Conv::new(first, second, 3), true),
            layer(6, Conv::new(second, 2 * second, 3), false),
        ];
        (Stem { convs, act }, 2 * second)
    }

    fn stem_channels(&self) -> i64 {
        if self.stem_type.contains("deep") { 2 * self.stem_width } else { 64 }
    }

    fn pool(&self, path: &Path<'_>, channels: i64) -> StemPool {
        if self.replace_stem_pool {
            let stride = if self.aa.is_some() { 1 } else { 2 };
            let conv = Conv::new(channels, channels, 3).stride(stride).build(&(path / 0));
            let after = 1 + usize::from(self.aa.is_some());
            let norm = self.norm(&(path / after), channels);
            return StemPool::Conv { conv, smoothing: self.aa, norm, act: self.act };
        }
        StemPool::Max(self.aa)
    }

    pub(super) fn children<'a>(&'a self, net: &mut Children<'a>, build: Build) {
        let stem = self.stem_channels();
        net.add("conv1", move |p| self.stem(p, build.n_in).0);
        net.add("bn1", move |p| NormAct { norm: self.norm(p, stem), act: self.act });
        net.add("maxpool", move |p| self.pool(p, stem));
        let rate = build.drop_path.unwrap_or(self.drop_path_rate);
        let (total, mut done) = (self.layers.iter().sum(), 0);
        let mut c_in = stem;
        for (i, depth) in self.layers.into_iter().enumerate() {
            let planes = self.channels[i];
            for j in 0..depth {
                let stride = if i > 0 && j == 0 { 2 } else { 1 };
                let drop = DropPath::linear(rate, done + j, total);
                let (before, first) = (c_in, j == 0);
                let block = move |p: &Path<'_>| {
                    Block::new(p, self, Shape { c_in: before, planes, stride, first }, drop)
                };
                net.add(format!("layer{}.{j}", i + 1), block).layer().block();
                c_in = planes * self.expansion();
            }
            done += depth;
        }
        let drop = build.drop.unwrap_or(self.drop_rate);
        net.step("global_pool", |x| x.adaptive_avg_pool2d([1, 1]).flatten(1, -1)).last_layer();
        linear_classifier(net, "fc", (c_in, build.n_out), drop);
    }
}

/// Convolutions, each with its following layers.
#[derive(Debug)]
struct Stem {
    convs: Vec<(Conv2d, Option<Norm>)>,
    act: Activation,
}

impl ModuleT for Stem {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.convs.iter().fold(x.shallow_clone(), |x, (conv, norm)| {
            let x = conv.forward(&x);
            match norm {
                Some(norm) => self.act.apply(norm.second(&x, train), train),
                None => x,
            }
        })
    }
}

/// A normalization and an activation.
#[derive(Debug)]
struct NormAct {
    norm: Norm,
    act: Activation,
}

impl ModuleT for NormAct {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.act.apply(self.norm.second(x, train), train)
    }
}

/// The layer that halves the size after the stem.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a network holds a few dozen of them")]
enum StemPool {
    Max(Option<Smoothing>),
    Conv { conv: Conv2d, smoothing: Option<Smoothing>, norm: Norm, act: Activation },
}

impl ModuleT for StemPool {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let max = |stride: i64| x.max_pool2d([3, 3], [stride; 2], [1, 1], [1, 1], false);
        match self {
            Self::Max(None) => max(2),
            Self::Max(Some(Smoothing::Avg)) => Smoothing::Avg.apply(x),
            Self::Max(Some(Smoothing::Blur)) => Smoothing::Blur.apply(&max(1)),
            Self::Conv { conv, smoothing, norm, act } => {
                let x = conv.forward(x);
                let x = smoothing.map_or_else(|| x.shallow_clone(), |s| s.apply(&x));
                act.apply(norm.second(&x, train), train)
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    c_in: i64,
    planes: i64,
    stride: i64,
    first: bool,
}

/// Scales channels by a convolution over the channel dimension.
#[derive(Debug)]
struct Eca {
    weight: Tensor,
    padding: i64,
}

impl Eca {
    fn new(path: &Path<'_>, channels: i64) -> Self {
        let size = ((((channels as f64).log2() + 1.0).abs() / 2.0) as i64).max(0);
        let size = (if size % 2 == 1 { size } else { size + 1 }).max(3);
        let bound = (size as f64).sqrt().recip();
        let uniform = Init::Uniform { lo: -bound, up: bound };
        let weight = (path / "conv").var("weight", &[1, 1, size], begins(uniform));
        Self { weight, padding: (size - 1) / 2 }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let size = x.size();
        let means = x.mean_dim([2i64, 3].as_slice(), false, None::<Kind>).unsqueeze(1);
        let padding = [self.padding];
        let gates = means.conv1d(&self.weight, None::<&Tensor>, [1], padding, [1], 1);
        x * gates.sigmoid().view([size[0], size[1], 1, 1])
    }
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a network holds a few dozen of them")]
enum Scales {
    Se(Squeeze),
    Eca(Eca),
}

/// The shortcut of a block that changes the shape.
#[derive(Debug)]
struct Downsample {
    averages: bool,
    conv: Conv2d,
    norm: Norm,
}

/// One residual block.
#[derive(Debug)]
struct Block {
    /// Convolutions with their normalizations; the last has no activation.
    convs: Vec<(Conv2d, Norm)>,
    /// The convolution after which smoothing halves the size.
    smoothed: Option<(usize, Smoothing)>,
    scales: Option<Scales>,
    downsample: Option<Downsample>,
    act: Activation,
    drop: DropPath,
}

impl Block {
    fn new(path: &Path<'_>, config: &Config, shape: Shape, drop: DropPath) -> Self {
        let Shape { c_in, planes, stride, first } = shape;
        let c_out = planes * config.expansion();
        let smoothing = config.aa.filter(|_| stride == 2);
        let own_stride = if smoothing.is_some() { 1 } else { stride };
        let (convs, smoothed) = if config.bottleneck {
            let width = (planes as f64 * (config.base_width as f64 / 64.0)).floor() as i64
                * config.cardinality;
            let reduced = width / config.block_reduce_first;
            let middle = Conv::new(reduced, width, 3).stride(own_stride).groups(config.cardinality);
            (vec![Conv::new(c_in, reduced, 1), middle, Conv::new(width, c_out, 1)], 1)
        } else {
            let reduced = planes / config.block_reduce_first;
            let first = Conv::new(c_in, reduced, 3).stride(own_stride);
            (vec![first, Conv::new(reduced, c_out, 3)], 0)
        };
        let convs = (1..).zip(convs).map(|(i, conv)| {
            let norm = config.norm(&(path / format!("bn{i}")), conv.c_out);
            (conv.build(&(path / format!("conv{i}"))), norm)
        });
        let convs = convs.collect();
        let scales = config.attn.map(|kind| {
            let path = path / "se";
            match kind {
                Scaling::Eca => Scales::Eca(Eca::new(&path, c_out)),
                Scaling::Se => {
                    let squeezed = nearest_multiple(c_out as f64 * config.rd_ratio, 8);
                    Scales::Se(Squeeze::new(
                        &path,
                        ["fc1", "fc2"],
                        (c_out, squeezed),
                        Activation::Relu,
                        Activation::Sigmoid,
                    ))
                }
            }
        });
        let downsample = (first && (stride != 1 || c_in != c_out)).then(|| {
            let path = path / "downsample";
            // With averaging, index 0 is the pooling, or an identity.
            let number = usize::from(config.avg_down);
            let (size, conv_stride) = if config.avg_down {
                (1, 1)
            } else {
                (if stride == 1 { 1 } else { config.down_kernel_size }, stride)
            };
            let conv = Conv::new(c_in, c_out, size).stride(conv_stride);
            Downsample {
                averages: config.avg_down && stride == 2,
                conv: conv.build(&(&path / number)),
                norm: config.norm(&(&path / (number + 1)), c_out),
            }
        });
        let smoothed = smoothing.map(|s| (smoothed, s));
        Self { convs, smoothed, scales, downsample, act: config.act, drop }
    }
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let last = self.convs.len() - 1;
        let mut y = x.shallow_clone();
        for (i, (conv, norm)) in self.convs.iter().enumerate() {
            y = norm.second(&conv.forward(&y), train);
            if i < last {
                y = self.act.apply(y, train);
            }
            if let Some((_, smoothing)) = self.smoothed.filter(|s| s.0 == i) {
                y = smoothing.apply(&y);
            }
        }
        let y = match &self.scales {
            Some(Scales::Se(layer)) => layer.forward(&y, train),
            Some(Scales::Eca(layer)) => layer.forward(&y),
            None => y,
        };
        let y = self.drop.apply(y, train);
        let y = match &self.downsample {
            None => y + x,
            Some(Downsample { averages, conv, norm }) => {
                let x = if *averages {
                    x.avg_pool2d([2, 2], [2, 2], [0, 0], true, false, None)
                } else {
                    x.shallow_clone()
                };
                y + norm.second(&conv.forward(&x), train)
            }
        };
        self.act.apply(y, train)
    }
}
