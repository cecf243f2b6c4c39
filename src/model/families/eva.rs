//! Vision transformers with rotary positions or gated feed-forward layers, with the names and shapes of
//! timm's `Eva`: EVA and EVA-02, the Perception Encoder, DINOv3 and others.
//!
//! Fang et al., [EVA](https://arxiv.org/abs/2211.07636) and
//! [EVA-02](https://arxiv.org/abs/2303.11331).

use super::{
    attention::{attend, join_heads, split_heads, split_qkv},
    build::Build,
    classifier::linear_classifier,
    drop_path::DropPath,
    feed_forward::{FeedForward, Gating, Widths},
    linear::{linear, scale},
    norm::{Norm, NormKind},
    patch::{Extent, PatchEmbed},
    rotary::{Angles, Grid, Indexing, Rotary},
    tokens::{Embedding, PoolShape, Pooling, Positions, Prefix, TokenNorm, TokenPool},
};
use crate::model::{
    body::Children,
    layers::{Activation, begins},
};
use serde::Deserialize;
use tch::{
    Tensor,
    nn::{Init, Linear, Module as _, ModuleT, Path},
};

/// Selects one of timm's two attention layers, which differ in their biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Biases {
    /// Queries and values.
    Eva,
    /// Queries, keys and values.
    Rope,
}

/// The options of the family, with timm's names.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::model) struct Config {
    pub(super) img_size: Extent,
    pub(super) patch_size: i64,
    global_pool: Pooling,
    embed_dim: i64,
    depth: usize,
    num_heads: i64,
    qkv_bias: bool,
    qkv_fused: bool,
    mlp_ratio: f64,
    swiglu_mlp: bool,
    swiglu_align_to: i64,
    scale_mlp: bool,
    scale_attn_inner: bool,
    attn_type: Biases,
    drop_rate: f64,
    drop_path_rate: f64,
    norm: NormKind,
    norm_eps: f64,
    init_values: Option<f64>,
    class_token: bool,
    num_reg_tokens: i64,
    no_embed_class: bool,
    use_abs_pos_emb: bool,
    use_rot_pos_emb: bool,
    rope_type: Angles,
    rope_grid_offset: f64,
    rope_grid_indexing: Indexing,
    rope_temperature: f64,
    rope_rotate_half: bool,
    use_post_norm: bool,
    use_pre_transformer_norm: bool,
    use_post_transformer_norm: Option<bool>,
    use_fc_norm: Option<bool>,
    attn_pool_num_heads: Option<i64>,
    attn_pool_mlp_ratio: Option<f64>,
    ref_feat_shape: Option<[i64; 2]>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            img_size: Extent::Square(224),
            patch_size: 16,
            global_pool: Pooling::Avg,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            qkv_bias: true,
            qkv_fused: true,
            mlp_ratio: 4.0,
            swiglu_mlp: false,
            swiglu_align_to: 0,
            scale_mlp: false,
            scale_attn_inner: false,
            attn_type: Biases::Eva,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
            norm: NormKind::Layer,
            norm_eps: 1e-6,
            init_values: None,
            class_token: true,
            num_reg_tokens: 0,
            no_embed_class: false,
            use_abs_pos_emb: true,
            use_rot_pos_emb: false,
            rope_type: Angles::Fixed,
            rope_grid_offset: 0.0,
            rope_grid_indexing: Indexing::Ij,
            rope_temperature: 10000.0,
            rope_rotate_half: false,
            use_post_norm: false,
            use_pre_transformer_norm: false,
            use_post_transformer_norm: None,
            use_fc_norm: None,
            attn_pool_num_heads: None,
            attn_pool_mlp_ratio: None,
            ref_feat_shape: None,
        }
    }
}

impl Config {
    fn prefix(&self) -> Prefix {
        Prefix { class: self.class_token, distilled: false, registers: self.num_reg_tokens }
    }

    fn norms(&self) -> (NormKind, f64) {
        (self.norm, self.norm_eps)
    }

    fn normalize(&self, path: &Path<'_>) -> Norm {
        Norm::new(path, self.norm, self.embed_dim, self.norm_eps)
    }

    fn hidden(&self, ratio: f64) -> i64 {
        (self.embed_dim as f64 * ratio) as i64
    }

    fn feed_forward(&self, path: &Path<'_>) -> FeedForward {
        let hidden = self.hidden(self.mlp_ratio);
        let (gating, hidden, act) = if !self.swiglu_mlp {
            (Gating::None, hidden, Activation::Gelu)
        } else if self.scale_mlp || self.swiglu_align_to > 0 {
            let step = self.swiglu_align_to.max(1);
            (Gating::Split, (hidden + step - 1) / step * step, Activation::Silu)
        } else {
            (Gating::Packed, 2 * hidden, Activation::Silu)
        };
        let widths = Widths { dim: self.embed_dim, hidden, bias: true };
        FeedForward::new(path, widths, act, gating, self.scale_mlp.then_some(self.norms()))
    }

    /// Returns the rotary embedding of block `i`, whose learned frequencies are at `root`.
    fn rotary(&self, root: &Path<'_>, i: usize, size: [i64; 2]) -> Option<Rotary> {
        if !self.use_rot_pos_emb {
            return None;
        }
        let mixed = self.rope_type == Angles::Mixed;
        let centered = self.rope_type == Angles::Centered;
        let grid = Grid {
            size: size.map(|n| n / self.patch_size),
            reference: if self.rope_type == Angles::Fixed { self.ref_feat_shape } else { None },
            offset: if mixed { 0.0 } else { self.rope_grid_offset },
            indexing: self.rope_grid_indexing,
            centered,
        };
        if mixed {
            // `children` creates them before the first block.
            let freqs = (root / "rope").get("freqs")?;
            return Some(Rotary::mixed(&grid, freqs, i as i64));
        }
        let features = self.embed_dim / self.num_heads;
        Some(Rotary::fixed(&grid, features, self.rope_temperature, self.rope_rotate_half))
    }

    fn attention(&self, path: &Path<'_>, rotary: Option<Rotary>) -> Attention {
        let dim = self.embed_dim;
        let biased = |name: &str, bias| linear(&(path / name), dim, dim, bias && self.qkv_bias);
        let zeros = |name: &str| scale(path, name, &[dim], 0.0);
        let all = self.attn_type == Biases::Rope;
        let inputs = if !self.qkv_fused {
            Inputs::Each([biased("q_proj", true), biased("k_proj", all), biased("v_proj", true)])
        } else {
            let qkv = linear(&(path / "qkv"), dim, 3 * dim, all && self.qkv_bias);
            let biases = (!all && self.qkv_bias).then(|| (zeros("q_bias"), zeros("v_bias")));
            Inputs::Fused { qkv, biases }
        };
        Attention {
            heads: self.num_heads,
            skipped: self.prefix().len(),
            inputs,
            rotary,
            norm: self.scale_attn_inner.then(|| self.normalize(&(path / "norm"))),
            proj: linear(&(path / "proj"), dim, dim, true),
        }
    }

    fn block(&self, root: &Path<'_>, i: usize, size: [i64; 2], drop: DropPath) -> Block {
        let path = &(root / "blocks" / i);
        let gamma = |name: &str| {
            let value = self.init_values.filter(|_| !self.use_post_norm)?;
            Some(scale(path, name, &[self.embed_dim], value))
        };
        Block {
            norm1: self.normalize(&(path / "norm1")),
            attn: self.attention(&(path / "attn"), self.rotary(root, i, size)),
            gamma_1: gamma("gamma_1"),
            norm2: self.normalize(&(path / "norm2")),
            mlp: self.feed_forward(&(path / "mlp")),
            gamma_2: gamma("gamma_2"),
            post: self.use_post_norm,
            drop,
        }
    }

    pub(super) fn children<'a>(&'a self, net: &mut Children<'a>, build: Build) {
        let dim = self.embed_dim;
        let size = build.size.unwrap_or_else(|| self.img_size.pair());
        let positions = match (self.use_abs_pos_emb, self.no_embed_class) {
            (true, true) => Positions::Patches,
            (true, false) => Positions::All,
            (false, _) => Positions::None,
        };
        net.at_root("patch_embed", move |p| {
            if self.use_rot_pos_emb && self.rope_type == Angles::Mixed {
                let shape = [2, self.depth as i64, self.num_heads, dim / self.num_heads / 2];
                let narrow = Init::Randn { mean: 0.0, stdev: 1.0 };
                let _ = (p / "rope").var("freqs", &shape, begins(narrow));
            }
            let patches = PatchEmbed::new(
                &(p / "patch_embed"),
                (build.n_in, dim),
                self.patch_size,
                size,
                !self.use_pre_transformer_norm,
                None,
            );
            let norm_pre = self.use_pre_transformer_norm.then_some(self.norms());
            Embedding::new(p, dim, patches, self.prefix(), positions, norm_pre)
        });
        let rate = build.drop_path.unwrap_or(self.drop_path_rate);
        for i in 0..self.depth {
            let drop = DropPath::linear(rate, i, self.depth);
            let name = format!("blocks.{i}");
            net.at_root(name, move |p| self.block(p, i, size, drop)).layer().block();
        }
        let fc_norm = self.use_fc_norm.unwrap_or(self.global_pool == Pooling::Avg);
        if self.use_post_transformer_norm.unwrap_or(!fc_norm) {
            net.add("norm", move |p| TokenNorm(self.normalize(p)));
        }
        let attended = self.global_pool == Pooling::Map;
        let skipped = if attended { 0 } else { self.prefix().len() };
        net.at_root("pool", move |p| {
            let shape = PoolShape {
                heads: self.attn_pool_num_heads.unwrap_or(self.num_heads),
                hidden: self.hidden(self.attn_pool_mlp_ratio.unwrap_or(self.mlp_ratio)),
                act: Activation::Gelu,
            };
            TokenPool::new(p, dim, (self.global_pool, skipped), shape, self.norms(), fc_norm)
        })
        .last_layer();
        linear_classifier(net, "head", (dim, build.n_out), build.drop.unwrap_or(self.drop_rate));
    }
}

/// The layers that compute queries, keys and values.
#[derive(Debug)]
enum Inputs {
    /// One layer, and the biases of queries and values.
    Fused { qkv: Linear, biases: Option<(Tensor, Tensor)> },
    /// One layer for each.
    Each([Linear; 3]),
}

/// Attention whose queries and keys are rotated by their positions.
#[derive(Debug)]
struct Attention {
    heads: i64,
    skipped: i64,
    inputs: Inputs,
    rotary: Option<Rotary>,
    norm: Option<Norm>,
    proj: Linear,
}

impl Attention {
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let [q, k, v] = match &self.inputs {
            Inputs::Each(layers) => {
                let part = |i: usize| split_heads(&layers[i].forward(x), self.heads);
                [part(0), part(1), part(2)]
            }
            Inputs::Fused { qkv, biases: None } => split_qkv(&qkv.forward(x), self.heads),
            Inputs::Fused { qkv, biases: Some((of_q, of_v)) } => {
                let biases = Tensor::cat(&[of_q, &of_q.zeros_like(), of_v], 0);
                split_qkv(&x.linear(&qkv.ws, Some(&biases)), self.heads)
            }
        };
        let (q, k) = match &self.rotary {
            Some(rotary) => (rotary.turn(&q, self.skipped), rotary.turn(&k, self.skipped)),
            None => (q, k),
        };
        let y = join_heads(&attend(&q, &k, &v, None));
        let y = match &self.norm {
            Some(norm) => norm.last(&y, train),
            None => y,
        };
        self.proj.forward(&y)
    }
}

/// One block, normalized before or after its two layers.
#[derive(Debug)]
struct Block {
    norm1: Norm,
    attn: Attention,
    gamma_1: Option<Tensor>,
    norm2: Norm,
    mlp: FeedForward,
    gamma_2: Option<Tensor>,
    post: bool,
    drop: DropPath,
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        if self.post {
            let y = self.norm1.last(&self.attn.forward(x, train), train);
            let x = x + self.drop.apply(y, train);
            let y = self.norm2.last(&self.mlp.forward(&x, train), train);
            return x + self.drop.apply(y, train);
        }
        let scaled = |y: Tensor, gamma: &Option<Tensor>| match gamma {
            Some(gamma) => y * gamma,
            None => y,
        };
        let y = scaled(self.attn.forward(&self.norm1.last(x, train), train), &self.gamma_1);
        let x = x + self.drop.apply(y, train);
        let y = scaled(self.mlp.forward(&self.norm2.last(&x, train), train), &self.gamma_2);
        x + self.drop.apply(y, train)
    }
}
