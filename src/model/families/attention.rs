//! Attention between tokens.
//!
//! Vaswani et al., [Attention Is All You Need](https://arxiv.org/abs/1706.03762).

use super::{
    super::layers::{Activation, begins},
    feed_forward::{FeedForward, Gating, Widths},
    linear::{NARROW, linear},
    norm::{Norm, NormKind},
};
use tch::{
    Tensor,
    nn::{Linear, Module as _, Path},
};

/// Computes attention with libtorch's fused kernel on `[N, heads, tokens, features]`; `mask` is added to the
/// scores.
pub(super) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Tensor {
    let mask =
        mask.map(|m| if m.kind() == q.kind() { m.shallow_clone() } else { m.to_kind(q.kind()) });
    Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, false, None, false)
}

/// Reshapes `[N, T, heads × features]` to `[N, heads, T, features]`.
pub(super) fn split_heads(x: &Tensor, heads: i64) -> Tensor {
    let size = x.size();
    x.reshape([size[0], size[1], heads, -1]).transpose(1, 2)
}

/// Reshapes `[N, heads, T, features]` to `[N, T, heads × features]`.
pub(super) fn join_heads(x: &Tensor) -> Tensor {
    let size = x.size();
    x.transpose(1, 2).reshape([size[0], size[2], -1])
}

/// Splits `[N, T, 3 × heads × features]` into queries, keys and values.
pub(super) fn split_qkv(qkv: &Tensor, heads: i64) -> [Tensor; 3] {
    let size = qkv.size();
    let all = qkv.reshape([size[0], size[1], 3, heads, -1]).permute([2, 0, 3, 1, 4]);
    [0, 1, 2].map(|i| all.select(0, i))
}

/// The options of an [`Attention`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// The number of features of a token.
    pub(super) dim: i64,
    /// The number of heads, among which the features are split.
    pub(super) heads: i64,
    /// If true, queries, keys and values have biases.
    pub(super) qkv_bias: bool,
    /// If true, the last layer has a bias.
    pub(super) proj_bias: bool,
    /// If true, queries and keys are normalized.
    pub(super) qk_norm: bool,
    /// If true, the result is normalized before the last layer.
    pub(super) scale_norm: bool,
    /// The normalization of queries, keys and result.
    pub(super) norm: (NormKind, f64),
}

/// Attention with one layer `qkv` for queries, keys and values.
#[derive(Debug)]
pub(super) struct Attention {
    heads: i64,
    qkv: Linear,
    qk_norms: Option<(Norm, Norm)>,
    norm: Option<Norm>,
    proj: Linear,
}

impl Attention {
    pub(super) fn new(path: &Path<'_>, shape: Shape) -> Self {
        let Shape { dim, heads, norm: (kind, eps), .. } = shape;
        let norm = |name: &str, width| Norm::new(&(path / name), kind, width, eps);
        let qkv = linear(&(path / "qkv"), dim, 3 * dim, shape.qkv_bias);
        let qk_norms =
            shape.qk_norm.then(|| (norm("q_norm", dim / heads), norm("k_norm", dim / heads)));
        Self {
            heads,
            qkv,
            qk_norms,
            norm: shape.scale_norm.then(|| norm("norm", dim)),
            proj: linear(&(path / "proj"), dim, dim, shape.proj_bias),
        }
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let [q, k, v] = split_qkv(&self.qkv.forward(x), self.heads);
        let (q, k) = match &self.qk_norms {
            Some((of_q, of_k)) => (of_q.last(&q, train), of_k.last(&k, train)),
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

/// Pools tokens by the attention of a learned query, with a feed-forward layer, as in SigLIP.
///
/// Zhai et al., [Scaling Vision Transformers](https://arxiv.org/abs/2106.04560).
#[derive(Debug)]
pub(super) struct AttentionPool {
    heads: i64,
    latent: Tensor,
    q: Linear,
    kv: Linear,
    proj: Linear,
    norm: Norm,
    mlp: FeedForward,
}

impl AttentionPool {
    pub(super) fn new(
        path: &Path<'_>,
        (dim, heads): (i64, i64),
        hidden: i64,
        act: Activation,
        (kind, eps): (NormKind, f64),
    ) -> Self {
        Self {
            heads,
            latent: path.var("latent", &[1, 1, dim], begins(NARROW)),
            q: linear(&(path / "q"), dim, dim, true),
            kv: linear(&(path / "kv"), dim, 2 * dim, true),
            proj: linear(&(path / "proj"), dim, dim, true),
            norm: Norm::new(&(path / "norm"), kind, dim, eps),
            mlp: FeedForward::new(
                &(path / "mlp"),
                Widths { dim, hidden, bias: true },
                act,
                Gating::None,
                None,
            ),
        }
    }

    /// Maps `[N, T, C]` to `[N, C]`.
    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let n = x.size()[0];
        let latent = self.latent.expand([n, -1, -1], false);
        let q = split_heads(&self.q.forward(&latent), self.heads);
        let size = x.size();
        let kv = self.kv.forward(x).reshape([n, size[1], 2, self.heads, -1]);
        let kv = kv.permute([2, 0, 3, 1, 4]);
        let y = join_heads(&attend(&q, &kv.select(0, 0), &kv.select(0, 1), None));
        let y = self.proj.forward(&y);
        let y = &y + self.mlp.forward(&self.norm.last(&y, train), train);
        y.select(1, 0)
    }
}
