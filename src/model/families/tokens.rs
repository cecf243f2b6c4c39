//! The layers before and after the blocks of a vision transformer: tokens with their positions, and
//! pooling.

use super::{
    super::layers::{Activation, begins},
    attention::AttentionPool,
    linear::NARROW,
    norm::{Norm, NormKind},
    patch::PatchEmbed,
};
use serde::Deserialize;
use tch::{
    Kind, Tensor,
    nn::{Init, ModuleT, Path},
};

/// The pooling of the tokens of an image to one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pooling {
    /// The class token.
    Token,
    /// The mean of the patches.
    Avg,
    /// The maximum of the patches.
    Max,
    /// Half the sum of mean and maximum.
    Avgmax,
    /// Attention by a learned query.
    Map,
}

/// The tokens before the patches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefix {
    /// If true, there is a class token.
    pub(super) class: bool,
    /// If true, there is a distillation token.
    pub(super) distilled: bool,
    /// The number of register tokens: Darcet et al., <https://arxiv.org/abs/2309.16588>.
    pub(super) registers: i64,
}

impl Prefix {
    pub(super) fn len(self) -> i64 {
        i64::from(self.class) + i64::from(self.distilled) + self.registers
    }
}

/// The tokens to which position embeddings are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Positions {
    /// No tokens.
    None,
    /// The patches.
    Patches,
    /// The patches and the tokens before them.
    All,
}

/// Patches and the tokens before them, with learned positions: `patch_embed`, `cls_token`, `dist_token`,
/// `reg_token`, `pos_embed`, `norm_pre`.
#[derive(Debug)]
pub(super) struct Embedding {
    patches: PatchEmbed,
    prefix: Vec<Tensor>,
    pos_embed: Option<Tensor>,
    before_concat: bool,
    norm: Option<Norm>,
}

impl Embedding {
    pub(super) fn new(
        path: &Path<'_>,
        dim: i64,
        patches: PatchEmbed,
        prefix: Prefix,
        positions: Positions,
        norm: Option<(NormKind, f64)>,
    ) -> Self {
        let tiny = Init::Randn { mean: 0.0, stdev: 1e-6 };
        let mut tokens = vec![];
        for (there, name, n) in [
            (prefix.class, "cls_token", 1),
            (prefix.distilled, "dist_token", 1),
            (prefix.registers > 0, "reg_token", prefix.registers),
        ] {
            if there {
                tokens.push(path.var(name, &[1, n, dim], begins(tiny)));
            }
        }
        let [height, width] = patches.grid();
        let length = match positions {
            Positions::None => None,
            Positions::Patches => Some(height * width),
            Positions::All => Some(height * width + prefix.len()),
        };
        Self {
            patches,
            prefix: tokens,
            pos_embed: length.map(|n| path.var("pos_embed", &[1, n, dim], begins(NARROW))),
            before_concat: positions == Positions::Patches,
            norm: norm.map(|(kind, eps)| Norm::new(&(path / "norm_pre"), kind, dim, eps)),
        }
    }
}

impl ModuleT for Embedding {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let n = x.size()[0];
        let mut x = self.patches.forward(x, train).flatten(1, 2);
        if let Some(positions) = self.pos_embed.as_ref().filter(|_| self.before_concat) {
            x = x.g_add(positions);
        }
        if !self.prefix.is_empty() {
            let mut all: Vec<Tensor> = self
                .prefix
                .iter()
                .map(|t| t.expand([n, -1, -1], false).to_kind(x.kind()))
                .collect();
            all.push(x);
            x = Tensor::cat(&all, 1);
        }
        if let Some(positions) = self.pos_embed.as_ref().filter(|_| !self.before_concat) {
            x = x.g_add(positions);
        }
        match &self.norm {
            Some(norm) => norm.last(&x, train),
            None => x,
        }
    }
}

/// A normalization of tokens, as a child of a network.
#[derive(Debug)]
pub(super) struct TokenNorm(pub(super) Norm);

impl ModuleT for TokenNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.0.last(x, train)
    }
}

/// Pools tokens to one vector and normalizes it: `attn_pool`, `fc_norm`.
#[derive(Debug)]
pub(super) struct TokenPool {
    pooling: Pooling,
    /// The number of tokens before the patches that are not pooled.
    skipped: i64,
    attention: Option<AttentionPool>,
    norm: Option<Norm>,
}

/// The options of a [`TokenPool`] with attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct PoolShape {
    /// The number of heads.
    pub(super) heads: i64,
    /// The number of features of the hidden layer.
    pub(super) hidden: i64,
    /// The activation of the hidden layer.
    pub(super) act: Activation,
}

impl TokenPool {
    pub(super) fn new(
        path: &Path<'_>,
        dim: i64,
        (pooling, skipped): (Pooling, i64),
        shape: PoolShape,
        norm: (NormKind, f64),
        fc_norm: bool,
    ) -> Self {
        let PoolShape { heads, hidden, act } = shape;
        let attention = (pooling == Pooling::Map)
            .then(|| AttentionPool::new(&(path / "attn_pool"), (dim, heads), hidden, act, norm));
        let norm = fc_norm.then(|| Norm::new(&(path / "fc_norm"), norm.0, dim, norm.1));
        Self { pooling, skipped, attention, norm }
    }
}

impl ModuleT for TokenPool {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let patches = || x.narrow(1, self.skipped, x.size()[1] - self.skipped);
        let mean = |x: &Tensor| x.mean_dim([1i64].as_slice(), false, None::<Kind>);
        let largest = |x: &Tensor| x.amax([1i64].as_slice(), false);
        let pooled = match (self.pooling, &self.attention) {
            (_, Some(attention)) => attention.forward(&patches(), train),
            (Pooling::Avg | Pooling::Map, None) => mean(&patches()),
            (Pooling::Max, None) => largest(&patches()),
            (Pooling::Avgmax, None) => (largest(&patches()) + mean(&patches())) * 0.5,
            (Pooling::Token, None) => x.select(1, 0),
        };
        match &self.norm {
            Some(norm) => norm.last(&pooled, train),
            None => pooled,
        }
    }
}
