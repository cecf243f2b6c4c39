//! The feed-forward layer of a transformer block.

use super::{
    linear::linear,
    norm::{Norm, NormKind},
};
use crate::model::layers::Activation;
use serde::Deserialize;
use tch::{
    Tensor,
    nn::{Linear, Module as _, Path},
};

/// The computation of the hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Gating {
    /// A linear layer and its activation.
    #[serde(rename = "mlp")]
    None,
    /// Two linear layers: `fc1_g`, activated, is multiplied by `fc1_x`.
    #[serde(rename = "swiglu")]
    Split,
    /// The halves of one linear layer: the first, activated, is multiplied by the second.
    #[serde(rename = "glu")]
    Packed,
}

/// Two linear layers with an activation between them, optionally gated or normalized.
///
/// Shazeer, [GLU Variants Improve Transformer](https://arxiv.org/abs/2002.05202).
#[derive(Debug)]
pub(super) struct FeedForward {
    gate: Option<Linear>,
    fc1: Linear,
    norm: Option<Norm>,
    fc2: Linear,
    act: Activation,
    packed: bool,
}

/// The widths and options of a [`FeedForward`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Widths {
    /// The number of features of a token.
    pub(super) dim: i64,
    /// The number of features of `fc1`; twice the inputs of `fc2` if packed.
    pub(super) hidden: i64,
    /// If true, the linear layers have biases.
    pub(super) bias: bool,
}

impl FeedForward {
    pub(super) fn new(
        path: &Path<'_>,
        widths: Widths,
        act: Activation,
        gating: Gating,
        norm: Option<(NormKind, f64)>,
    ) -> Self {
        let Widths { dim, hidden, bias } = widths;
        let wide = |name: &str| linear(&(path / name), dim, hidden, bias);
        let (gate, fc1) = match gating {
            Gating::Split => (Some(wide("fc1_g")), wide("fc1_x")),
            Gating::None | Gating::Packed => (None, wide("fc1")),
        };
        let packed = gating == Gating::Packed;
        let inner = if packed { hidden / 2 } else { hidden };
        Self {
            gate,
            fc1,
            norm: norm.map(|(kind, eps)| Norm::new(&(path / "norm"), kind, inner, eps)),
            fc2: linear(&(path / "fc2"), inner, dim, bias),
            act,
            packed,
        }
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let hidden = self.fc1.forward(x);
        let hidden = match &self.gate {
            Some(gate) => self.act.apply(gate.forward(x), train) * hidden,
            None if self.packed => {
                let halves = hidden.chunk(2, -1);
                self.act.apply(halves[0].contiguous(), train) * &halves[1]
            }
            None => self.act.apply(hidden, train),
        };
        let hidden = match &self.norm {
            Some(norm) => norm.last(&hidden, train),
            None => hidden,
        };
        self.fc2.forward(&hidden)
    }
}
