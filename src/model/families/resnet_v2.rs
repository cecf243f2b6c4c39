//! ResNets that normalize before each convolution, with timm's names and shapes, including BiT.
//!
//! He et al., [Identity Mappings](https://arxiv.org/abs/1603.05027); Kolesnikov et al.,
//! [Big Transfer](https://arxiv.org/abs/1912.11370).

use super::{
    build::{Build, divisible, divisible_f},
    conv::{Conv, Conv2d},
    drop_path::DropPath,
    norm::{Norm, NormKind},
};
use crate::model::{body::Children, layers::Activation};
use serde::Deserialize;
use tch::{
    Tensor,
    nn::{ModuleT, Path},
};

/// The options of the family, with timm's names.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::model) struct Config {
    layers: [usize; 4],
    channels: [i64; 4],
    width_factor: i64,
    stem_chs: i64,
    stem_type: String,
    avg_down: bool,
    basic: bool,
    bottle_ratio: f64,
    act: Activation,
    norm: NormKind,
    /// The value added to the variance of the weights if they are standardized.
    standardized: Option<f64>,
    drop_rate: f64,
    drop_path_rate: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            layers: [3, 4, 6, 3],
            channels: [256, 512, 1024, 2048],
            width_factor: 1,
            stem_chs: 64,
            stem_type: String::new(),
            avg_down: false,
            basic: false,
            bottle_ratio: 0.25,
            act: Activation::Relu,
            norm: NormKind::Group,
            standardized: None,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
        }
    }
}

impl Config {
    fn conv(&self, path: &Path<'_>, conv: Conv) -> StdConv {
        let (stride, padding) = (conv.stride, (conv.stride - 1 + conv.size - 1) / 2);
        StdConv { conv: conv.build(path), eps: self.standardized, stride, padding }
    }

    fn norm(&self, path: &Path<'_>, channels: i64) -> NormAct {
        NormAct { norm: Norm::new(path, self.norm, channels, 1e-5), act: self.act }
    }

    fn stem(&self, path: &Path<'_>, n_in: i64, width: i64) -> Stem {
        let layer = |name: &str, conv| self.conv(&(path / name), conv);
        let deep = self.stem_type.contains("deep") || self.stem_type.contains("tiered");
        let fixed = self.stem_type.contains("fixed");
        if !deep {
            let conv = Conv::new(n_in, width, 7).stride(2).first();
            return Stem { convs: vec![(layer("conv", conv), None)], fixed };
        }
        let second = width / 2;
        let first = if self.stem_type.contains("tiered") { 3 * width / 8 } else { second };
        let norm = |name: &str, channels| Some(self.norm(&(path / name), channels));
        let convs = vec![
            (layer("conv1", Conv::new(n_in, first, 3).stride(2).first()), norm("norm1", first)),
            (layer("conv2", Conv::new(first, second, 3)), norm("norm2", second)),
            (layer("conv3", Conv::new(second, width, 3)), None),
        ];
        Stem { convs, fixed }
    }

    pub(super) fn children<'a>(&'a self, net: &mut Children<'a>, build: Build) {
        let width = divisible(self.stem_chs * self.width_factor, 8);
        net.add("stem", move |p| self.stem(p, build.n_in, width));
        let rate = build.drop_path.unwrap_or(self.drop_path_rate);
        let (total, mut done) = (self.layers.iter().sum(), 0);
        let mut c_in = width;
        for (i, depth) in self.layers.into_iter().enumerate() {
            let c_out = divisible(self.channels[i] * self.width_factor, 8);
            for j in 0..depth {
                let stride = if i > 0 && j == 0 { 2 } else { 1 };
                let drop = DropPath::linear(rate, done + j, total);
                let shape = Shape { c_in, c_out, stride, first: j == 0 };
                let block = move |p: &Path<'_>| Block::new(p, self, shape, drop);
                net.add(format!("stages.{i}.blocks.{j}"), block).layer().block();
                c_in = c_out;
            }
            done += depth;
        }
        net.add("norm", move |p| self.norm(p, c_in));
        let drop = build.drop.unwrap_or(self.drop_rate);
        net.at_root("head", move |p| {
            let fc = Conv::new(c_in, build.n_out, 1).bias(true);
            ConvHead { fc: fc.build(&(p / "head" / "fc")), drop }
        })
        .last_layer();
    }
}

/// A convolution whose weights are standardized per output.
///
/// Qiao et al., [Weight Standardization](https://arxiv.org/abs/1903.10520).
#[derive(Debug)]
struct StdConv {
    conv: Conv2d,
    eps: Option<f64>,
    stride: i64,
    padding: i64,
}

impl StdConv {
    fn forward(&self, x: &Tensor) -> Tensor {
        let Some(eps) = self.eps else { return self.conv.forward(x) };
        let weight = &self.conv.conv.ws;
        let size = weight.size();
        let none = || None::<&Tensor>;
        let flat = weight.reshape([1, size[0], -1]);
        let flat = flat.batch_norm(none(), none(), none(), none(), true, 0.0, eps, true);
        let weight = flat.view_(&size);
        x.conv2d(&weight, none(), [self.stride; 2], [self.padding; 2], [1, 1], 1)
    }
}

/// A normalization and an activation.
#[derive(Debug)]
struct NormAct {
    norm: Norm,
    act: Activation,
}

impl NormAct {
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.act.apply(self.norm.second(x, train), train)
    }
}

impl ModuleT for NormAct {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.forward(x, train)
    }
}

/// One or three convolutions, and pooling.
#[derive(Debug)]
struct Stem {
    convs: Vec<(StdConv, Option<NormAct>)>,
    /// If true, the border counts as zeros in the maxima.
    fixed: bool,
}

impl ModuleT for Stem {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let x = self.convs.iter().fold(x.shallow_clone(), |x, (conv, norm)| {
            let x = conv.forward(&x);
            match norm {
                Some(norm) => norm.forward(&x, train),
                None => x,
            }
        });
        let (x, padding) = if self.fixed { (x.constant_pad_nd([1, 1, 1, 1]), 0) } else { (x, 1) };
        x.max_pool2d([3, 3], [2, 2], [padding; 2], [1, 1], false)
    }
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    c_in: i64,
    c_out: i64,
    stride: i64,
    first: bool,
}

/// Two or three convolutions, each after a normalization.
#[derive(Debug)]
struct Block {
    layers: Vec<(NormAct, StdConv)>,
    /// The shortcut: whether it averages, and its convolution.
    downsample: Option<(bool, StdConv)>,
    drop: DropPath,
}

impl Block {
    fn new(path: &Path<'_>, config: &Config, shape: Shape, drop: DropPath) -> Self {
        let Shape { c_in, c_out, stride, first } = shape;
        let middle = divisible_f(c_out as f64 * config.bottle_ratio, 8);
        let convs = if config.basic {
            vec![Conv::new(c_in, middle, 3).stride(stride), Conv::new(middle, c_out, 3)]
        } else {
            vec![
                Conv::new(c_in, middle, 1),
                Conv::new(middle, middle, 3).stride(stride),
                Conv::new(middle, c_out, 1),
            ]
        };
        // A block of two convolutions has a convolution in its shortcut only if the shape changes.
        let projects = first && (!config.basic || stride != 1 || c_in != c_out);
        let downsample = projects.then(|| {
            let stride = if config.avg_down { 1 } else { stride };
            let conv = Conv::new(c_in, c_out, 1).stride(stride);
            let averages = config.avg_down && shape.stride > 1;
            (averages, config.conv(&(path / "downsample" / "conv"), conv))
        });
        let layers = (1..).zip(convs).map(|(i, conv)| {
            let norm = config.norm(&(path / format!("norm{i}")), conv.c_in);
            (norm, config.conv(&(path / format!("conv{i}")), conv))
        });
        Self { layers: layers.collect(), downsample, drop }
    }
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let mut y = x.shallow_clone();
        let mut shortcut = x.shallow_clone();
        for (i, (norm, conv)) in self.layers.iter().enumerate() {
            y = norm.forward(&y, train);
            if let Some((averages, layer)) = self.downsample.as_ref().filter(|_| i == 0) {
                let y = if *averages {
                    y.avg_pool2d([2, 2], [2, 2], [0, 0], true, false, None)
                } else {
                    y.shallow_clone()
                };
                shortcut = layer.forward(&y);
            }
            y = conv.forward(&y);
        }
        self.drop.apply(y, train) + shortcut
    }
}

/// Pooling and a classifier that is a convolution.
#[derive(Debug)]
struct ConvHead {
    fc: Conv2d,
    drop: f64,
}

impl ModuleT for ConvHead {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let x = x.adaptive_avg_pool2d([1, 1]).dropout(self.drop, train);
        self.fc.forward(&x).flatten(1, -1)
    }
}
