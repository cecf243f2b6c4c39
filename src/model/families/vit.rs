//! Vision transformers, with timm's names and shapes: augreg, DeiT and DeiT III, DINOv2, the image encoders
//! of CLIP and SigLIP, and others, which differ only in their options.
//!
//! Dosovitskiy et al., [An Image is Worth 16x16 Words](https://arxiv.org/abs/2010.11929); Touvron et al.,
//! [DeiT](https://arxiv.org/abs/2012.12877) and [DeiT III](https://arxiv.org/abs/2204.07118); Oquab et al.,
//! [DINOv2](https://arxiv.org/abs/2304.07193); Radford et al., [CLIP](https://arxiv.org/abs/2103.00020);
//! Zhai et al., [SigLIP](https://arxiv.org/abs/2303.15343).

use super::{
    attention::{self, Attention, attend, join_heads, split_heads},
    build::Build,
    classifier::linear_classifier,
    drop_path::DropPath,
    feed_forward::{FeedForward, Gating, Widths},
    linear::{linear, scale},
    norm::{Norm, NormKind},
    patch::{Extent, PatchEmbed},
    tokens::{Embedding, PoolShape, Pooling, Positions, Prefix, TokenNorm, TokenPool},
};
use crate::model::{body::Children, layers::Activation};
use serde::Deserialize;
use tch::{
    Tensor,
    nn::{Linear, Module as _, ModuleT, Path},
};

/// The order of normalization and layers in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// Before attention and before the feed-forward layer.
    Pre,
    /// After each of them.
    Post,
    /// Attention and feed-forward layer in parallel, with a common first layer: Dehghani et al.,
    /// <https://arxiv.org/abs/2302.05442>.
    Parallel,
    /// Two of each in parallel: Touvron et al., <https://arxiv.org/abs/2203.09795>.
    Things,
}

/// The options of the family, with timm's names.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::model) struct Config {
    pub(super) img_size: Extent,
    pub(super) patch_size: i64,
    embed_dim: i64,
    depth: usize,
    num_heads: i64,
    mlp_ratio: f64,
    qkv_bias: bool,
    qk_norm: bool,
    scale_attn_norm: bool,
    scale_mlp_norm: bool,
    proj_bias: bool,
    /// The initial value of the scales of the branches; `None` for no scales.
    init_values: Option<f64>,
    class_token: bool,
    distilled: bool,
    pos_embed: String,
    no_embed_class: bool,
    reg_tokens: i64,
    pre_norm: bool,
    final_norm: bool,
    fc_norm: Option<bool>,
    pool_include_prefix: bool,
    global_pool: Pooling,
    drop_rate: f64,
    drop_path_rate: f64,
    norm: NormKind,
    norm_eps: f64,
    embed_norm: Option<NormKind>,
    embed_norm_eps: f64,
    act: Activation,
    block: Order,
    mlp: Gating,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            img_size: Extent::Square(224),
            patch_size: 16,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            mlp_ratio: 4.0,
            qkv_bias: true,
            qk_norm: false,
            scale_attn_norm: false,
            scale_mlp_norm: false,
            proj_bias: true,
            init_values: None,
            class_token: true,
            distilled: false,
            pos_embed: "learn".to_owned(),
            no_embed_class: false,
            reg_tokens: 0,
            pre_norm: false,
            final_norm: true,
            fc_norm: None,
            pool_include_prefix: false,
            global_pool: Pooling::Token,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
            norm: NormKind::Layer,
            norm_eps: 1e-6,
            embed_norm: None,
            embed_norm_eps: 1e-6,
            act: Activation::Gelu,
            block: Order::Pre,
            mlp: Gating::None,
        }
    }
}

impl Config {
    fn prefix(&self) -> Prefix {
        Prefix { class: self.class_token, distilled: self.distilled, registers: self.reg_tokens }
    }

    fn norms(&self) -> (NormKind, f64) {
        (self.norm, self.norm_eps)
    }

    fn hidden(&self) -> i64 {
        (self.embed_dim as f64 * self.mlp_ratio) as i64
    }

    fn attention(&self, path: &Path<'_>) -> Attention {
        let shape = attention::Shape {
            dim: self.embed_dim,
            heads: self.num_heads,
            qkv_bias: self.qkv_bias,
            proj_bias: self.proj_bias,
            qk_norm: self.qk_norm,
            scale_norm: self.scale_attn_norm,
            norm: self.norms(),
        };
        Attention::new(path, shape)
    }

    fn feed_forward(&self, path: &Path<'_>) -> FeedForward {
        let widths = Widths { dim: self.embed_dim, hidden: self.hidden(), bias: self.proj_bias };
        // A packed gate always uses SiLU.
        let act = if self.mlp == Gating::Packed { Activation::Silu } else { self.act };
        let norm = self.scale_mlp_norm.then_some(self.norms());
        FeedForward::new(path, widths, act, self.mlp, norm)
    }

    fn normalize(&self, path: &Path<'_>, weight: f64) -> Norm {
        Norm::scaled(path, self.norm, self.embed_dim, self.norm_eps, weight)
    }

    fn layer_scale(&self, path: &Path<'_>) -> Option<Tensor> {
        self.init_values.map(|value| scale(path, "gamma", &[self.embed_dim], value))
    }

    fn branch(&self, path: &Path<'_>, names: [&str; 3], what: What) -> Branch {
        let [norm, layer, ls] = names;
        let post = self.block == Order::Post;
        // A normalization at the end of a branch starts with the scale of the branch.
        let weight = if post { self.init_values.unwrap_or(1.0) } else { 1.0 };
        let layer = path / layer;
        Branch {
            norm: self.normalize(&(path / norm), weight),
            layer: match what {
                What::Attention => Layer::Attention(self.attention(&layer)),
                What::FeedForward => Layer::FeedForward(self.feed_forward(&layer)),
            },
            scale: if post { None } else { self.layer_scale(&(path / ls)) },
            post,
        }
    }

    fn block(&self, path: &Path<'_>, drop: DropPath) -> Block {
        let kind = match self.block {
            Order::Pre | Order::Post => Kind::Serial(vec![
                vec![self.branch(path, ["norm1", "attn", "ls1"], What::Attention)],
                vec![self.branch(path, ["norm2", "mlp", "ls2"], What::FeedForward)],
            ]),
            Order::Things => {
                let two = |list: &str, layer: &str, what| {
                    let path = path / list;
                    let branch = |i: usize| self.branch(&(&path / i), ["norm", layer, "ls"], what);
                    vec![branch(0), branch(1)]
                };
                Kind::Serial(vec![
                    two("attns", "attn", What::Attention),
                    two("ffns", "mlp", What::FeedForward),
                ])
            }
            Order::Parallel => Kind::Parallel(Box::new(Parallel::new(path, self))),
        };
        Block { kind, drop }
    }

    pub(super) fn children<'a>(&'a self, net: &mut Children<'a>, build: Build) {
        let dim = self.embed_dim;
        let size = build.size.unwrap_or_else(|| self.img_size.pair());
        let positions = match (self.pos_embed.as_str(), self.no_embed_class) {
            ("learn", true) => Positions::Patches,
            ("learn", false) => Positions::All,
            _ => Positions::None,
        };
        net.at_root("patch_embed", move |p| {
            let embed_norm = self.embed_norm.map(|kind| (kind, self.embed_norm_eps));
            let patches = PatchEmbed::new(
                &(p / "patch_embed"),
                (build.n_in, dim),
                self.patch_size,
                size,
                !self.pre_norm,
                embed_norm,
            );
            let norm_pre = self.pre_norm.then_some(self.norms());
            Embedding::new(p, dim, patches, self.prefix(), positions, norm_pre)
        });
        let rate = build.drop_path.unwrap_or(self.drop_path_rate);
        for i in 0..self.depth {
            let drop = DropPath::linear(rate, i, self.depth);
            net.add(format!("blocks.{i}"), move |p| self.block(p, drop)).layer().block();
        }
        let averaged = matches!(self.global_pool, Pooling::Avg | Pooling::Max | Pooling::Avgmax);
        let fc_norm = self.fc_norm.unwrap_or(averaged);
        if self.final_norm && !fc_norm {
            net.add("norm", move |p| TokenNorm(self.normalize(p, 1.0)));
        }
        if self.distilled {
            if !build.whole {
                let two = |x: &Tensor| {
                    x.narrow(1, 0, 2).mean_dim([1i64].as_slice(), false, None::<tch::Kind>)
                };
                net.step("pool", two);
            }
            let drop = build.drop.unwrap_or(self.drop_rate);
            net.at_root("head", move |p| Distilled::new(p, dim, build.n_out, drop)).last_layer();
            return;
        }
        let skipped = if self.pool_include_prefix { 0 } else { self.prefix().len() };
        net.at_root("pool", move |p| {
            let shape = PoolShape { heads: self.num_heads, hidden: self.hidden(), act: self.act };
            let fc_norm = self.final_norm && fc_norm;
            TokenPool::new(p, dim, (self.global_pool, skipped), shape, self.norms(), fc_norm)
        })
        .last_layer();
        linear_classifier(net, "head", (dim, build.n_out), build.drop.unwrap_or(self.drop_rate));
    }
}

/// The kind of the layer of a branch.
#[derive(Debug, Clone, Copy)]
enum What {
    Attention,
    FeedForward,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a network holds a few dozen of them")]
enum Layer {
    Attention(Attention),
    FeedForward(FeedForward),
}

/// A layer with its normalization and its scale.
#[derive(Debug)]
struct Branch {
    norm: Norm,
    layer: Layer,
    scale: Option<Tensor>,
    post: bool,
}

impl Branch {
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let normed = if self.post { x.shallow_clone() } else { self.norm.last(x, train) };
        let y = match &self.layer {
            Layer::Attention(layer) => layer.forward(&normed, train),
            Layer::FeedForward(layer) => layer.forward(&normed, train),
        };
        let y = if self.post { self.norm.last(&y, train) } else { y };
        match &self.scale {
            Some(scale) => y * scale,
            None => y,
        }
    }
}

#[derive(Debug)]
enum Kind {
    /// Groups of branches in sequence; those of a group in parallel.
    Serial(Vec<Vec<Branch>>),
    Parallel(Box<Parallel>),
}

/// One block of a vision transformer.
#[derive(Debug)]
struct Block {
    kind: Kind,
    drop: DropPath,
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        match &self.kind {
            Kind::Parallel(both) => x + self.drop.apply(both.forward(x, train), train),
            Kind::Serial(groups) => groups.iter().fold(x.shallow_clone(), |x, group| {
                let branches = group.iter().map(|b| self.drop.apply(b.forward(&x, train), train));
                branches.fold(x.shallow_clone(), |sum, branch| sum + branch)
            }),
        }
    }
}

/// Attention and a feed-forward layer in parallel, with a common first layer.
#[derive(Debug)]
struct Parallel {
    heads: i64,
    hidden: i64,
    norm: Norm,
    in_proj: Linear,
    mlp_bias: Option<Tensor>,
    qk_norms: Option<(Norm, Norm)>,
    attn_out: Linear,
    mlp_out: Linear,
    scale: Option<Tensor>,
    act: Activation,
}

impl Parallel {
    fn new(path: &Path<'_>, config: &Config) -> Self {
        let (dim, hidden, heads) = (config.embed_dim, config.hidden(), config.num_heads);
        let (kind, eps) = config.norms();
        let norm = |name: &str, width| Norm::new(&(path / name), kind, width, eps);
        Self {
            heads,
            hidden,
            norm: norm("in_norm", dim),
            in_proj: linear(&(path / "in_proj"), dim, hidden + 3 * dim, config.qkv_bias),
            mlp_bias: (!config.qkv_bias).then(|| scale(path, "mlp_bias", &[hidden], 0.0)),
            qk_norms: config
                .qk_norm
                .then(|| (norm("q_norm", dim / heads), norm("k_norm", dim / heads))),
            attn_out: linear(&(path / "attn_out_proj"), dim, dim, config.proj_bias),
            mlp_out: linear(&(path / "mlp_out_proj"), hidden, dim, config.proj_bias),
            scale: config.layer_scale(&(path / "ls")),
            act: config.act,
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let all = self.in_proj.forward(&self.norm.last(x, train));
        let dim = x.size()[2];
        let wide = all.narrow(2, 0, self.hidden);
        let part = |i: i64| split_heads(&all.narrow(2, self.hidden + i * dim, dim), self.heads);
        let (q, k, v) = (part(0), part(1), part(2));
        let (q, k) = match &self.qk_norms {
            Some((of_q, of_k)) => (of_q.last(&q, train), of_k.last(&k, train)),
            None => (q, k),
        };
        let attended = self.attn_out.forward(&join_heads(&attend(&q, &k, &v, None)));
        let wide = match &self.mlp_bias {
            Some(bias) => wide + bias,
            None => wide.contiguous(),
        };
        let y = attended + self.mlp_out.forward(&self.act.apply(wide, train));
        match &self.scale {
            Some(scale) => y * scale,
            None => y,
        }
    }
}

/// The mean of two classifiers, of the class token and of the distillation token, with dropout before each.
#[derive(Debug)]
struct Distilled {
    head: Linear,
    head_dist: Linear,
    drop: f64,
}

impl Distilled {
    fn new(path: &Path<'_>, dim: i64, n_out: i64, drop: f64) -> Self {
        Self {
            head: linear(&(path / "head"), dim, n_out, true),
            head_dist: linear(&(path / "head_dist"), dim, n_out, true),
            drop,
        }
    }
}

impl ModuleT for Distilled {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let token = |i: i64| x.select(1, i).dropout(self.drop, train);
        let (class, distilled) = (token(0), token(1));
        (self.head.forward(&class) + self.head_dist.forward(&distilled)) * 0.5
    }
}
