//! TinyViT, with timm's names and shapes.
//!
//! Wu et al., [TinyViT](https://arxiv.org/abs/2207.10666).

use super::{
    attention::{attend, join_heads},
    build::Build,
    constant::Constant,
    conv::{BatchNormOptions, Conv, ConvNormAct},
    drop_path::DropPath,
    feed_forward::{FeedForward, Gating, Widths},
    linear::linear,
    norm::Norm,
};
use crate::model::{
    body::Children,
    layers::{Activation, begins},
};
use serde::Deserialize;
use std::collections::BTreeMap;
use tch::{
    Kind, Tensor,
    nn::{Init, Linear, Module as _, ModuleT, Path},
};

/// The default of torch's layer normalization.
const EPS: f64 = 1e-5;

/// The options of the family, with timm's names.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::model) struct Config {
    embed_dims: [i64; 4],
    depths: [usize; 4],
    num_heads: [i64; 4],
    window_sizes: [i64; 4],
    mlp_ratio: f64,
    mbconv_expand_ratio: f64,
    drop_rate: f64,
    drop_path_rate: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embed_dims: [96, 192, 384, 768],
            depths: [2, 2, 6, 2],
            num_heads: [3, 6, 12, 24],
            window_sizes: [7, 7, 14, 7],
            mlp_ratio: 4.0,
            mbconv_expand_ratio: 4.0,
            drop_rate: 0.0,
            drop_path_rate: 0.1,
        }
    }
}

fn layer(path: &Path<'_>, conv: Conv, act: bool, weight: f64) -> ConvNormAct {
    let options = BatchNormOptions { weight, ..Default::default() };
    ConvNormAct::new(path, conv, options, act.then_some(Activation::Gelu))
}

/// Builds three convolutions: 1×1 to the new width, depthwise, and 1×1.
fn three(path: &Path<'_>, [a, b, c]: [i64; 3], stride: i64, last: f64) -> [ConvNormAct; 3] {
    [
        layer(&(path / "conv1"), Conv::new(a, b, 1), true, 1.0),
        layer(&(path / "conv2"), Conv::new(b, b, 3).stride(stride).groups(b), true, 1.0),
        layer(&(path / "conv3"), Conv::new(b, c, 1), false, last),
    ]
}

impl Config {
    pub(super) fn children<'a>(&'a self, net: &mut Children<'a>, build: Build) {
        let dims = self.embed_dims;
        net.add("patch_embed", move |p| {
            let width = dims[0];
            let first = Conv::new(build.n_in, width / 2, 3).stride(2).first();
            let second = Conv::new(width / 2, width, 3).stride(2);
            Layers(vec![
                layer(&(p / "conv1"), first, true, 1.0),
                layer(&(p / "conv2"), second, false, 1.0),
            ])
        });
        let rate = build.drop_path.unwrap_or(self.drop_path_rate);
        let (total, mut done) = (self.depths.iter().sum(), 0);
        for (stage, depth) in self.depths.into_iter().enumerate() {
            let dim = dims[stage];
            if stage > 0 {
                let before = dims[stage - 1];
                net.add(format!("stages.{stage}.downsample"), move |p| {
                    Layers(three(p, [before, dim, dim], 2, 1.0).into())
                })
                .layer()
                .block();
            }
            for i in 0..depth {
                let drop = DropPath::linear(rate, done + i, total);
                let name = format!("stages.{stage}.blocks.{i}");
                if stage == 0 {
                    let wide = (dim as f64 * self.mbconv_expand_ratio) as i64;
                    net.add(name, move |p| MbConv {
                        convs: three(p, [dim, wide, dim], 1, 0.0),
                        drop,
                    });
                } else {
                    let (heads, window) = (self.num_heads[stage], self.window_sizes[stage]);
                    let hidden = (dim as f64 * self.mlp_ratio) as i64;
                    net.add(name, move |p| Block::new(p, dim, heads, window, hidden, drop));
                }
                net.block();
                if i > 0 || stage == 0 {
                    net.layer();
                }
            }
            done += depth;
        }
        let (dim, n_out) = (dims[3], build.n_out);
        let drop = build.drop.unwrap_or(self.drop_rate);
        net.add("head", move |p| Head {
            norm: Norm::layer(&(p / "norm"), dim, EPS),
            fc: linear(&(p / "fc"), dim, n_out, true),
            drop,
        })
        .last_layer();
    }
}

/// Sequential convolutions.
#[derive(Debug)]
struct Layers(Vec<ConvNormAct>);

impl ModuleT for Layers {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, layer| layer.forward(&x, train))
    }
}

/// Expands, applies a depthwise convolution and projects, with a residual connection.
#[derive(Debug)]
struct MbConv {
    convs: [ConvNormAct; 3],
    drop: DropPath,
}

impl ModuleT for MbConv {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let y = self.convs.iter().fold(x.shallow_clone(), |x, layer| layer.forward(&x, train));
        (self.drop.apply(y, train) + x).gelu("none")
    }
}

/// Attention within windows, a depthwise convolution, and a feed-forward layer.
#[derive(Debug)]
struct Block {
    window: i64,
    heads: i64,
    norm: Norm,
    qkv: Linear,
    proj: Linear,
    biases: Tensor,
    /// The column of `biases` for each pair of tokens of a window.
    pairs: Constant,
    local: ConvNormAct,
    mlp_norm: Norm,
    mlp: FeedForward,
    drop: DropPath,
}

impl Block {
    fn new(
        path: &Path<'_>,
        dim: i64,
        heads: i64,
        window: i64,
        hidden: i64,
        drop: DropPath,
    ) -> Self {
        let attn = path / "attn";
        let area = window * window;
        // Offsets are numbered in order of first occurrence.
        let (mut numbers, mut pairs) = (BTreeMap::new(), vec![]);
        for a in 0..area {
            for b in 0..area {
                let offset = ((a / window - b / window).abs(), (a % window - b % window).abs());
                let next = numbers.len() as i64;
                pairs.push(*numbers.entry(offset).or_insert(next));
            }
        }
        Self {
            window,
            heads,
            norm: Norm::layer(&(&attn / "norm"), dim, EPS),
            qkv: linear(&(&attn / "qkv"), dim, 3 * dim, true),
            proj: linear(&(&attn / "proj"), dim, dim, true),
            biases: attn.var("attention_biases", &[heads, area], begins(Init::Const(0.0))),
            pairs: Constant::new(Tensor::from_slice(&pairs)),
            local: layer(&(path / "local_conv"), Conv::new(dim, dim, 3).groups(dim), false, 1.0),
            mlp_norm: Norm::layer(&(path / "mlp" / "norm"), dim, EPS),
            mlp: FeedForward::new(
                &(path / "mlp"),
                Widths { dim, hidden, bias: true },
                Activation::Gelu,
                Gating::None,
                None,
            ),
            drop,
        }
    }

    /// Maps `[N, area, C]` to the same shape.
    fn attention(&self, x: &Tensor, train: bool) -> Tensor {
        let size = x.size();
        let area = size[1];
        let qkv = self.qkv.forward(&self.norm.last(x, train));
        let qkv = qkv.view([size[0], area, self.heads, -1]);
        let width = qkv.size()[3] / 3;
        let part = |i: i64| qkv.narrow(3, i * width, width).permute([0, 2, 1, 3]);
        let pairs = self.pairs.on(x.device());
        let biases = self.biases.index_select(1, &pairs).view([1, self.heads, area, area]);
        let y = attend(&part(0), &part(1), &part(2), Some(&biases));
        self.proj.forward(&join_heads(&y))
    }
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let x = x.permute([0, 2, 3, 1]);
        let (size, w) = (x.size(), self.window);
        let (height, width, channels) = (size[1], size[2], size[3]);
        let (down, right) = ((height + w - 1) / w * w, (width + w - 1) / w * w);
        let padded = x.constant_pad_nd([0, 0, 0, right - width, 0, down - height]);
        let windows = padded
            .reshape([-1, down / w, w, right / w, w, channels])
            .transpose(2, 3)
            .reshape([-1, w * w, channels]);
        let y = self
            .attention(&windows, train)
            .reshape([-1, down / w, right / w, w, w, channels])
            .transpose(2, 3)
            .reshape([-1, down, right, channels]);
        let y = y.narrow(1, 0, height).narrow(2, 0, width);
        let x = x + self.drop.apply(y, train);
        let x = self.local.forward(&x.permute([0, 3, 1, 2]), train);
        let tokens = x.permute([0, 2, 3, 1]);
        let y = self.mlp.forward(&self.mlp_norm.last(&tokens, train), train);
        (tokens + self.drop.apply(y, train)).permute([0, 3, 1, 2])
    }
}

/// Pools, normalizes and classifies.
#[derive(Debug)]
struct Head {
    norm: Norm,
    fc: Linear,
    drop: f64,
}

impl ModuleT for Head {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let means = x.mean_dim([2i64, 3].as_slice(), false, None::<Kind>);
        let x = self.norm.last(&means, train);
        self.fc.forward(&x.dropout(self.drop, train))
    }
}
