//! ConvNeXt, both versions, with timm's names and shapes.
//!
//! Liu et al., [A ConvNet for the 2020s](https://arxiv.org/abs/2201.03545); Woo et al.,
//! [ConvNeXt V2](https://arxiv.org/abs/2301.00808).

use super::{
    build::{Build, Layout, divisible},
    classifier::pooled_classifier,
    drop_path::DropPath,
    linear::{linear, scale},
    norm::{Norm, NormKind},
};
use crate::model::{
    body::Children,
    layers::{Activation, Conv, ConvInit},
};
use serde::Deserialize;
use tch::{
    Kind, Tensor,
    nn::{Conv2D, Linear, Module as _, ModuleT, Path},
};

/// The layers that reduce the size of the image first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stem {
    /// One convolution with non-overlapping patches.
    Patch,
    /// Two overlapping convolutions of the full width.
    Overlap,
    /// Two overlapping convolutions, the first with half the width.
    OverlapTiered,
    /// As `Overlap`, with an activation between the convolutions.
    OverlapAct,
}

/// The options of the family, with timm's names.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::model) struct Config {
    depths: [usize; 4],
    dims: [i64; 4],
    kernel_sizes: Extents,
    ls_init_value: f64,
    stem_type: Stem,
    patch_size: i64,
    head_norm_first: bool,
    head_hidden_size: Option<i64>,
    conv_mlp: bool,
    conv_bias: bool,
    use_grn: bool,
    act: Activation,
    norm: NormKind,
    norm_eps: f64,
    drop_rate: f64,
    drop_path_rate: f64,
    #[serde(skip)]
    layout: Layout,
}

/// Kernel sizes: one, or one per stage.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Extents {
    One(i64),
    Each([i64; 4]),
}

impl Extents {
    fn of(self, stage: usize) -> i64 {
        match self {
            Self::One(n) => n,
            Self::Each(all) => all[stage],
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            depths: [3, 3, 9, 3],
            dims: [96, 192, 384, 768],
            kernel_sizes: Extents::One(7),
            ls_init_value: 1e-6,
            stem_type: Stem::Patch,
            patch_size: 4,
            head_norm_first: false,
            head_hidden_size: None,
            conv_mlp: false,
            conv_bias: true,
            use_grn: false,
            act: Activation::Gelu,
            norm: NormKind::Layer,
            norm_eps: 1e-6,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
            layout: Layout::Timm,
        }
    }
}

impl Config {
    pub(super) fn laid_out(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    fn norm(&self, path: &Path<'_>, width: i64) -> Norm {
        Norm::new(path, self.norm, width, self.norm_eps)
    }

    fn conv(&self, c_in: i64, c_out: i64, size: i64) -> Conv {
        let conv = Conv::new(c_in, c_out, size).init(ConvInit::Narrow);
        if self.conv_bias { conv.bias() } else { conv }
    }

    fn stem(&self, path: &Path<'_>, n_in: i64) -> StemLayers {
        let width = self.dims[0];
        let first = |conv: Conv| if n_in == 3 { conv } else { conv.init(ConvInit::Default) };
        if self.stem_type == Stem::Patch {
            let patch = self.patch_size;
            let conv = first(self.conv(n_in, width, patch)).stride(patch).padding(0);
            let convs = vec![(conv.build(&(path / 0)), None)];
            return StemLayers { convs, norm: self.norm(&(path / 1), width) };
        }
        let middle = match self.stem_type {
            Stem::OverlapTiered => divisible(width / 2, 8),
            _ => width,
        };
        let act = (self.stem_type == Stem::OverlapAct).then_some(self.act);
        let second = 1 + usize::from(act.is_some());
        let convs = vec![
            (first(self.conv(n_in, middle, 3)).stride(2).build(&(path / 0)), act),
            (self.conv(middle, width, 3).stride(2).build(&(path / second)), None),
        ];
        StemLayers { convs, norm: self.norm(&(path / (second + 1)), width) }
    }

    pub(super) fn children<'a>(&'a self, net: &mut Children<'a>, build: Build) {
        net.add("stem", move |p| self.stem(p, build.n_in));
        let rate = build.drop_path.unwrap_or(self.drop_path_rate);
        let (total, mut done) = (self.depths.iter().sum(), 0);
        for (stage, depth) in self.depths.into_iter().enumerate() {
            let before = self.dims[stage.saturating_sub(1)];
            let width = self.dims[stage];
            let stride = if stage > 0 || self.stem_stride() == 2 { 2 } else { 1 };
            let shrinks = stride > 1 || before != width;
            if shrinks {
                net.add(format!("stages.{stage}.downsample"), move |p| Downsample {
                    norm: self.norm(&(p / 0), before),
                    conv: self
                        .conv(before, width, if stride > 1 { 2 } else { 1 })
                        .stride(stride)
                        .padding(0)
                        .build(&(p / 1)),
                })
                .layer()
                .block();
            }
            for i in 0..depth {
                let drop = DropPath::linear(rate, done + i, total);
                let block = move |p: &Path<'_>| Block::new(p, self, stage, drop);
                net.add(format!("stages.{stage}.blocks.{i}"), block).block();
                if i > 0 || !shrinks {
                    net.layer();
                }
            }
            done += depth;
        }
        let (dim, n_out) = (self.dims[3], build.n_out);
        let drop = build.drop.unwrap_or(self.drop_rate);
        if self.head_norm_first {
            net.add("norm_pre", move |p| Norm2d(self.norm(p, dim)));
            pooled_classifier(net, "head", "fc", (dim, n_out), drop);
            return;
        }
        net.add("head", move |p| Head {
            norm: self.norm(&(p / "norm"), dim),
            hidden: self.head_hidden_size.map(|n| linear(&(p / "pre_logits" / "fc"), dim, n, true)),
            drop,
            fc: linear(&(p / "fc"), self.head_hidden_size.unwrap_or(dim), n_out, true),
        })
        .last_layer();
    }

    fn stem_stride(&self) -> i64 {
        if self.stem_type == Stem::Patch { self.patch_size } else { 4 }
    }
}

/// Convolutions, each with its following layers, and a normalization.
#[derive(Debug)]
struct StemLayers {
    convs: Vec<(Conv2D, Option<Activation>)>,
    norm: Norm,
}

impl ModuleT for StemLayers {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let x = self.convs.iter().fold(x.shallow_clone(), |x, (conv, act)| {
            let x = conv.forward(&x);
            match act {
                Some(act) => act.apply(x, train),
                None => x,
            }
        });
        self.norm.second(&x, train)
    }
}

/// A normalization and a convolution that halves the size.
#[derive(Debug)]
struct Downsample {
    norm: Norm,
    conv: Conv2D,
}

impl ModuleT for Downsample {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.conv.forward(&self.norm.second(x, train))
    }
}

/// A normalization of a feature map, as a child of a network.
#[derive(Debug)]
struct Norm2d(Norm);

impl ModuleT for Norm2d {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.0.second(x, train)
    }
}

/// A layer applied to each pixel of a feature map.
#[derive(Debug)]
enum Pointwise {
    /// With channels in the last dimension.
    Linear(Linear),
    /// With channels in the second dimension.
    Conv(Conv2D),
}

impl Pointwise {
    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Linear(layer) => layer.forward(x),
            Self::Conv(layer) => layer.forward(x),
        }
    }
}

/// A depthwise convolution followed by pointwise layers, with a residual connection.
#[derive(Debug)]
struct Block {
    conv: Conv2D,
    norm: Norm,
    fc1: Pointwise,
    act: Activation,
    grn: Option<ResponseNorm>,
    fc2: Pointwise,
    gamma: Option<Tensor>,
    drop: DropPath,
}

impl Block {
    fn new(path: &Path<'_>, config: &Config, stage: usize, drop: DropPath) -> Self {
        let dim = config.dims[stage];
        let mlp = path / "mlp";
        let layer = |name: &str, n_in, n_out| {
            let path = &mlp / name;
            if config.conv_mlp {
                let conv = Conv::new(n_in, n_out, 1).init(ConvInit::Narrow).bias();
                Pointwise::Conv(conv.build(&path))
            } else {
                Pointwise::Linear(linear(&path, n_in, n_out, true))
            }
        };
        let size = config.kernel_sizes.of(stage);
        // torchvision stores the scale as a feature map.
        let gamma: &[i64] = match config.layout {
            Layout::Timm => &[dim],
            Layout::Torchvision => &[dim, 1, 1],
        };
        Self {
            conv: config.conv(dim, dim, size).groups(dim).build(&(path / "conv_dw")),
            norm: config.norm(&(path / "norm"), dim),
            fc1: layer("fc1", dim, 4 * dim),
            act: config.act,
            grn: config.use_grn.then(|| ResponseNorm::new(&(&mlp / "grn"), 4 * dim)),
            fc2: layer("fc2", 4 * dim, dim),
            gamma: (config.ls_init_value > 0.0)
                .then(|| scale(path, "gamma", gamma, config.ls_init_value)),
            drop,
        }
    }
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let last = matches!(self.fc1, Pointwise::Linear(_));
        let y = self.conv.forward(x);
        let y = if last {
            self.norm.last(&y.permute([0, 2, 3, 1]), train)
        } else {
            self.norm.second(&y, train)
        };
        let y = self.act.apply(self.fc1.forward(&y), train);
        let y = match &self.grn {
            Some(grn) => grn.forward(&y, last),
            None => y,
        };
        let y = self.fc2.forward(&y);
        let y = if last { y.permute([0, 3, 1, 2]) } else { y };
        let y = match &self.gamma {
            Some(gamma) => y * gamma.view([1, -1, 1, 1]),
            None => y,
        };
        self.drop.apply(y, train) + x
    }
}

/// Divides the norm of each channel by the mean of all channels' norms, and scales by the result.
#[derive(Debug)]
struct ResponseNorm {
    weight: Tensor,
    bias: Tensor,
}

impl ResponseNorm {
    fn new(path: &Path<'_>, dim: i64) -> Self {
        let zeros = |name: &str| scale(path, name, &[dim], 0.0);
        Self { weight: zeros("weight"), bias: zeros("bias") }
    }

    /// Applies the layer; `last` is true if the channels are in the last dimension.
    fn forward(&self, x: &Tensor, last: bool) -> Tensor {
        let (places, channels, shape) =
            if last { ([1i64, 2], -1i64, [1, 1, 1, -1]) } else { ([2, 3], 1, [1, -1, 1, 1]) };
        let norms = x.norm_scalaropt_dim(2.0, places.as_slice(), true);
        let mean = norms.mean_dim([channels].as_slice(), true, None::<Kind>) + 1e-6;
        let scaled = x * (norms / mean);
        x + (scaled * self.weight.view(shape) + self.bias.view(shape))
    }
}

/// Pools, normalizes and classifies.
#[derive(Debug)]
struct Head {
    norm: Norm,
    hidden: Option<Linear>,
    drop: f64,
    fc: Linear,
}

impl ModuleT for Head {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let means = x.mean_dim([2i64, 3].as_slice(), false, None::<Kind>);
        let x = self.norm.last(&means, train);
        let x = match &self.hidden {
            Some(layer) => layer.forward(&x).gelu("none"),
            None => x,
        };
        self.fc.forward(&x.dropout(self.drop, train))
    }
}
