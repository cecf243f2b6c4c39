//! Swin transformers, with timm's names and shapes.
//!
//! Liu et al., [Swin Transformer](https://arxiv.org/abs/2103.14030).

use super::{
    attention::{attend, join_heads, split_qkv},
    build::Build,
    classifier::pooled_classifier,
    constant::Constant,
    drop_path::DropPath,
    feed_forward::{FeedForward, Gating, Widths},
    linear::{NARROW, linear},
    norm::{Norm, NormKind},
    patch::{Extent, PatchEmbed},
};
use crate::model::{
    body::Children,
    layers::{Activation, begins},
};
use serde::Deserialize;
use tch::{
    Kind, Tensor,
    nn::{Linear, Module as _, ModuleT, Path},
};

/// The default of torch's layer normalization.
const EPS: f64 = 1e-5;

/// Added to the scores of tokens that share a window only because the image was shifted.
const APART: f64 = -100.0;

/// The options of the family, with timm's names.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::model) struct Config {
    pub(super) img_size: Extent,
    pub(super) patch_size: i64,
    embed_dim: i64,
    depths: Vec<usize>,
    num_heads: Vec<i64>,
    window_size: Vec<i64>,
    mlp_ratio: f64,
    qkv_bias: bool,
    drop_rate: f64,
    drop_path_rate: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            img_size: Extent::Square(224),
            patch_size: 4,
            embed_dim: 96,
            depths: vec![2, 2, 6, 2],
            num_heads: vec![3, 6, 12, 24],
            window_size: vec![7; 4],
            mlp_ratio: 4.0,
            qkv_bias: true,
            drop_rate: 0.0,
            drop_path_rate: 0.1,
        }
    }
}

impl Config {
    /// Returns the height and width of the windows of the stage that a variable belongs to.
    pub(super) fn window(&self, variable: &str, size: [i64; 2]) -> Option<[i64; 2]> {
        let stage = variable.strip_prefix("layers.")?.split('.').next()?;
        let stage: usize = stage.parse().ok()?;
        let target = *self.window_size.get(stage)?;
        let grid = (0..stage).fold(size.map(|n| n / self.patch_size), |grid, _| halved(grid));
        Some(Window::new(target, grid, false).size)
    }

    pub(super) fn children<'a>(&'a self, net: &mut Children<'a>, build: Build) {
        let size = build.size.unwrap_or_else(|| self.img_size.pair());
        net.add("patch_embed", move |p| {
            let norm = Some((NormKind::Layer, EPS));
            let dims = (build.n_in, self.embed_dim);
            Patches(PatchEmbed::new(p, dims, self.patch_size, size, true, norm))
        })
        .channels_last();
        let rate = build.drop_path.unwrap_or(self.drop_path_rate);
        let (total, mut done) = (self.depths.iter().sum(), 0);
        let mut dim = self.embed_dim;
        let mut grid = size.map(|n| n / self.patch_size);
        for (stage, depth) in self.depths.iter().copied().enumerate() {
            if stage > 0 {
                let before = dim;
                net.add(format!("layers.{stage}.downsample"), move |p| Merging {
                    norm: Norm::layer(&(p / "norm"), 4 * before, EPS),
                    reduction: linear(&(p / "reduction"), 4 * before, 2 * before, false),
                })
                .layer()
                .block()
                .channels_last();
                dim *= 2;
                grid = halved(grid);
            }
            for i in 0..depth {
                let drop = DropPath::linear(rate, done + i, total);
                let window = Window::new(self.window_size[stage], grid, i % 2 == 1);
                let heads = self.num_heads[stage];
                let hidden = (dim as f64 * self.mlp_ratio) as i64;
                let qkv_bias = self.qkv_bias;
                net.add(format!("layers.{stage}.blocks.{i}"), move |p| Block {
                    norm1: Norm::layer(&(p / "norm1"), dim, EPS),
                    attn: WindowAttention::new(&(p / "attn"), dim, heads, qkv_bias, window),
                    norm2: Norm::layer(&(p / "norm2"), dim, EPS),
                    mlp: FeedForward::new(
                        &(p / "mlp"),
                        Widths { dim, hidden, bias: true },
                        Activation::Gelu,
                        Gating::None,
                        None,
                    ),
                    drop,
                });
                net.block().channels_last();
                if i > 0 || stage == 0 {
                    net.layer();
                }
            }
            done += depth;
        }
        net.add("norm", move |p| LastNorm(Norm::layer(p, dim, EPS)));
        let drop = build.drop.unwrap_or(self.drop_rate);
        pooled_classifier(net, "head", "fc", (dim, build.n_out), drop);
    }
}

/// Converts an image to patches, `[N, H, W, C]`.
#[derive(Debug)]
struct Patches(PatchEmbed);

impl ModuleT for Patches {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.0.forward(x, train)
    }
}

/// Normalizes `[N, H, W, C]` and returns `[N, C, H, W]`.
#[derive(Debug)]
struct LastNorm(Norm);

impl ModuleT for LastNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.0.last(x, train).permute([0, 3, 1, 2])
    }
}

/// Returns the height and width after patches are merged.
fn halved(grid: [i64; 2]) -> [i64; 2] {
    grid.map(|n| (n + 1) / 2)
}

/// Merges each 2×2 patches.
#[derive(Debug)]
struct Merging {
    norm: Norm,
    reduction: Linear,
}

impl ModuleT for Merging {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let size = x.size();
        let x = x.constant_pad_nd([0, 0, 0, size[2] % 2, 0, size[1] % 2]);
        let size = x.size();
        let (height, width) = (size[1] / 2, size[2] / 2);
        let x = x.reshape([-1, height, 2, width, 2, size[3]]).permute([0, 1, 3, 4, 2, 5]);
        self.reduction.forward(&self.norm.last(&x.flatten(3, -1), train))
    }
}

/// The windows of a feature map.
#[derive(Debug, Clone, Copy)]
struct Window {
    size: [i64; 2],
    shift: [i64; 2],
    /// The height and width of the feature map.
    grid: [i64; 2],
}

impl Window {
    /// Creates windows that are no larger than the map; a map that one window covers is not shifted.
    fn new(target: i64, grid: [i64; 2], shifted: bool) -> Self {
        let size = grid.map(|n| n.min(target));
        let shift = grid.map(|n| if shifted && n > target { target / 2 } else { 0 });
        Self { size, shift, grid }
    }

    fn area(self) -> i64 {
        self.size[0] * self.size[1]
    }

    /// Returns the row of the bias table for each pair of tokens of a window.
    fn pairs(self) -> Tensor {
        let [height, width] = self.size;
        let mut rows = vec![];
        for a in 0..self.area() {
            for b in 0..self.area() {
                let down = a / width - b / width + height - 1;
                let right = a % width - b % width + width - 1;
                rows.push(down * (2 * width - 1) + right);
            }
        }
        Tensor::from_slice(&rows)
    }

    /// Splits `[N, H, W, C]` into windows: `[N × windows, area, C]`.
    fn split(self, x: &Tensor) -> Tensor {
        let ([height, width], size) = (self.size, x.size());
        let shape = [size[0], size[1] / height, height, size[2] / width, width, size[3]];
        let x = x.reshape(shape).permute([0, 1, 3, 2, 4, 5]);
        x.reshape([-1, self.area(), size[3]])
    }

    /// Inverse of [`split`](Self::split), with height and width `padded`.
    fn join(self, x: &Tensor, padded: [i64; 2]) -> Tensor {
        let [height, width] = self.size;
        let channels = x.size()[2];
        let shape = [-1, padded[0] / height, padded[1] / width, height, width, channels];
        let x = x.reshape(shape).permute([0, 1, 3, 2, 4, 5]);
        x.reshape([-1, padded[0], padded[1], channels])
    }

    /// Returns the height and width rounded up to whole windows.
    fn padded(self) -> [i64; 2] {
        [0, 1].map(|i| (self.grid[i] + self.size[i] - 1) / self.size[i] * self.size[i])
    }

    /// Returns the values added to the scores so that tokens ignore those from another side of the image:
    /// `[windows, 1, area, area]`; `None` without a shift.
    fn mask(self) -> Option<Tensor> {
        if self.shift == [0, 0] {
            return None;
        }
        let padded = self.padded();
        // The region of each row or column: before the last window, in it, or shifted in.
        let region = |i: usize, at: i64| {
            let (end, window, shift) = (padded[i], self.size[i], self.shift[i]);
            // timm's slices put every row or column of an unshifted map into the last region.
            if shift == 0 || at >= end - shift { 2 } else { i32::from(at >= end - window) }
        };
        let mut regions = vec![];
        for row in 0..padded[0] {
            for column in 0..padded[1] {
                regions.push((region(0, row) * 3 + region(1, column)) as f32);
            }
        }
        let map = Tensor::from_slice(&regions).view([1, padded[0], padded[1], 1]);
        let windows = self.split(&map).squeeze_dim(2);
        let apart = windows.unsqueeze(1).ne_tensor(&windows.unsqueeze(2));
        Some((apart.to_kind(Kind::Float) * APART).unsqueeze(1))
    }
}

/// Attention within windows, with a learned bias for each offset between tokens.
#[derive(Debug)]
struct WindowAttention {
    window: Window,
    heads: i64,
    table: Tensor,
    pairs: Constant,
    mask: Option<Constant>,
    qkv: Linear,
    proj: Linear,
}

impl WindowAttention {
    fn new(path: &Path<'_>, dim: i64, heads: i64, qkv_bias: bool, window: Window) -> Self {
        let [height, width] = window.size;
        let rows = (2 * height - 1) * (2 * width - 1);
        Self {
            window,
            heads,
            table: path.var("relative_position_bias_table", &[rows, heads], begins(NARROW)),
            pairs: Constant::new(window.pairs()),
            mask: window.mask().map(Constant::new),
            qkv: linear(&(path / "qkv"), dim, 3 * dim, qkv_bias),
            proj: linear(&(path / "proj"), dim, dim, true),
        }
    }

    /// Returns the biases of the scores: `[1, heads, area, area]`, or one for each window.
    fn biases(&self, n: i64) -> Tensor {
        let (area, device) = (self.window.area(), self.table.device());
        let biases = self.table.index_select(0, &self.pairs.on(device)).view([area, area, -1]);
        let biases = biases.permute([2, 0, 1]).unsqueeze(0);
        match &self.mask {
            None => biases.contiguous(),
            Some(mask) => (biases + mask.on(device)).repeat([n, 1, 1, 1]),
        }
    }

    /// Maps `[N, H, W, C]` to the same shape.
    fn forward(&self, x: &Tensor) -> Tensor {
        let Window { shift, grid, .. } = self.window;
        let shifted = self.mask.is_some();
        let x = if shifted { x.roll([-shift[0], -shift[1]], [1, 2]) } else { x.shallow_clone() };
        let padded = self.window.padded();
        let x = if padded == grid {
            x
        } else {
            x.constant_pad_nd([0, 0, 0, padded[1] - grid[1], 0, padded[0] - grid[0]])
        };
        let n = x.size()[0];
        let windows = self.window.split(&x);
        let [q, k, v] = split_qkv(&self.qkv.forward(&windows), self.heads);
        let y = join_heads(&attend(&q, &k, &v, Some(&self.biases(n))));
        let y = self.window.join(&self.proj.forward(&y), padded);
        let y = if padded == grid { y } else { y.narrow(1, 0, grid[0]).narrow(2, 0, grid[1]) };
        if shifted { y.roll(shift, [1, 2]) } else { y }
    }
}

/// Window attention and a feed-forward layer.
#[derive(Debug)]
struct Block {
    norm1: Norm,
    attn: WindowAttention,
    norm2: Norm,
    mlp: FeedForward,
    drop: DropPath,
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let attended = self.attn.forward(&self.norm1.last(x, train));
        let x = x + self.drop.apply(attended, train);
        let y = self.mlp.forward(&self.norm2.last(&x, train), train);
        x + self.drop.apply(y, train)
    }
}
