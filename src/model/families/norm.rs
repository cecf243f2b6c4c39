//! Normalizations, with channels in the last or in the second dimension.

use crate::model::{
    batch_norm::{BatchNorm, batch_norm2d},
    layers::begins,
};
use serde::Deserialize;
use tch::{
    Kind, Tensor,
    nn::{BatchNormConfig, Init, ModuleT, Path},
};

/// The kind of a normalization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum NormKind {
    /// Mean and standard deviation over the channels, with a bias.
    Layer,
    /// Root mean square over the channels.
    Rms,
    /// Standard deviation over the channels.
    Simple,
    /// Batch statistics.
    Batch,
    /// Mean and standard deviation of each of 32 groups of channels.
    Group,
}

/// The number of groups of [`NormKind::Group`].
const GROUPS: i64 = 32;

/// A normalization with its parameters `weight` and `bias`.
#[derive(Debug)]
pub(super) enum Norm {
    /// Over a batch.
    Batch(BatchNorm),
    /// Over each image or token separately.
    Own {
        /// The kind of the normalization.
        kind: NormKind,
        /// The value added to variances.
        eps: f64,
        /// The scale.
        weight: Tensor,
        /// The bias.
        bias: Option<Tensor>,
    },
}

impl Norm {
    pub(super) fn new(path: &Path<'_>, kind: NormKind, channels: i64, eps: f64) -> Self {
        Self::scaled(path, kind, channels, eps, 1.0)
    }

    /// Creates a normalization with the initial weight `weight`.
    pub(super) fn scaled(
        path: &Path<'_>,
        kind: NormKind,
        channels: i64,
        eps: f64,
        weight: f64,
    ) -> Self {
        if kind == NormKind::Batch {
            let config = BatchNormConfig {
                eps,
                ws_init: Init::Const(weight),
                bs_init: Init::Const(0.0),
                ..Default::default()
            };
            return Self::Batch(batch_norm2d(path, channels, config));
        }
        let with_bias = matches!(kind, NormKind::Layer | NormKind::Group);
        let weight = path.var("weight", &[channels], begins(Init::Const(weight)));
        let bias = with_bias.then(|| path.var("bias", &[channels], begins(Init::Const(0.0))));
        Self::Own { kind, eps, weight, bias }
    }

    /// Creates a layer normalization.
    pub(super) fn layer(path: &Path<'_>, channels: i64, eps: f64) -> Self {
        Self::new(path, NormKind::Layer, channels, eps)
    }

    /// Normalizes `[…, C]`.
    pub(super) fn last(&self, x: &Tensor, train: bool) -> Tensor {
        match self {
            Self::Batch(norm) => norm.forward_t(x, train),
            Self::Own { kind, eps, weight, bias } => match kind {
                NormKind::Layer => {
                    x.layer_norm(weight.size(), Some(weight), bias.as_ref(), *eps, true)
                }
                NormKind::Rms => {
                    let mean = x.square().mean_dim([-1i64].as_slice(), true, None::<Kind>);
                    x * (mean + *eps).rsqrt() * weight
                }
                NormKind::Simple => {
                    let variance = x.var_dim([-1i64].as_slice(), true, true);
                    x * (variance + *eps).rsqrt() * weight
                }
                NormKind::Batch | NormKind::Group => self.second(x, train),
            },
        }
    }

    /// Normalizes `[N, C, H, W]`.
    pub(super) fn second(&self, x: &Tensor, train: bool) -> Tensor {
        match self {
            Self::Batch(norm) => norm.forward_t(x, train),
            Self::Own { kind: NormKind::Group, eps, weight, bias } => {
                x.group_norm(GROUPS, Some(weight), bias.as_ref(), *eps, true)
            }
            Self::Own { .. } => self.last(&x.permute([0, 2, 3, 1]), train).permute([0, 3, 1, 2]),
        }
    }
}
