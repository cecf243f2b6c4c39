//! fastai's `ConvLayer`: a convolution, its normalization and its activation, named `0`, `1` and `2`.

use super::icnr::draw;
use crate::model::{
    batch_norm::BatchNorm,
    head::HeadInit,
    layers::{Activation, begins, norm_with},
};
use serde::{Deserialize, Serialize};
use tch::{
    Tensor,
    nn::{self, Init, ModuleT, Path},
};

/// The normalization of the convolutions of a decoder: fastai's `NormType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConvNormKind {
    /// No normalization. The convolutions have biases. The default of a U-Net, as in fastai.
    #[default]
    None,
    /// A batch normalization after each convolution, including the last one, as in fastai.
    Batch,
    /// Weight normalization: each filter is a direction times a length. Salimans and Kingma, [Weight
    /// Normalization](https://arxiv.org/abs/1602.07868).
    Weight,
}

/// The initialization of the weights of one convolution.
#[derive(Debug, Clone, Copy)]
pub(super) enum Draws {
    /// fastai's `init` argument; biases 0.
    Chosen(HeadInit),
    /// The initialization where `init` has no effect: PyTorch's default without an activation, He's uniform
    /// with one; biases normal with a standard deviation of 0.01.
    Untouched,
    /// Repeated filters, see [`icnr`](super::icnr::icnr); biases 0.
    Icnr { scale: i64 },
}

/// Options of a convolution with stride 1 that keeps the size of its input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer {
    pub(super) c_in: i64,
    pub(super) c_out: i64,
    pub(super) size: i64,
    pub(super) norm: ConvNormKind,
    /// The initial weight of its batch normalization.
    pub(super) norm_weight: f64,
    pub(super) act: Option<Activation>,
    pub(super) draws: Draws,
}

/// The initial bias of fastai's batch normalization layers.
pub(super) const NORM_BIAS: f64 = 1e-3;

/// Creates a batch normalization as in fastai: weights 1, biases 0.001.
pub(super) fn fastai_norm(path: &Path<'_>, channels: i64, weight: f64) -> BatchNorm {
    let config = nn::BatchNormConfig { bs_init: Init::Const(NORM_BIAS), ..Default::default() };
    norm_with(path, channels, config, weight)
}

/// The weights of a convolution in their stored form.
#[derive(Debug)]
enum Weight {
    Plain(Tensor),
    /// Lengths, `[O, 1, 1, 1]`, and directions.
    Split {
        length: Tensor,
        direction: Tensor,
    },
}

/// A convolution, its normalization and its activation.
#[derive(Debug)]
pub(super) struct ConvLayer {
    weight: Weight,
    bias: Option<Tensor>,
    norm: Option<BatchNorm>,
    act: Option<Activation>,
    padding: i64,
}

impl Layer {
    pub(super) fn new(c_in: i64, c_out: i64, size: i64, draws: Draws) -> Self {
        let (norm, act) = (ConvNormKind::None, Some(Activation::Relu));
        Self { c_in, c_out, size, norm, norm_weight: 1.0, act, draws }
    }

    pub(super) fn norm(self, norm: ConvNormKind) -> Self {
        Self { norm, ..self }
    }

    pub(super) fn act(self, act: Option<Activation>) -> Self {
        Self { act, ..self }
    }

    /// Sets the normalization weight to zero, so that the whole layer starts at zero.
    pub(super) fn zeroed(self) -> Self {
        Self { norm_weight: 0.0, ..self }
    }

    fn weight_init(&self) -> Init {
        let fan_in = (self.c_in * self.size * self.size) as f64;
        let fan_out = (self.c_out * self.size * self.size) as f64;
        let uniform = |bound: f64| Init::Uniform { lo: -bound, up: bound };
        // With weight normalization, fastai's `init` has no effect: the weights were drawn before it is applied.
        let unreached = self.norm == ConvNormKind::Weight;
        match self.draws {
            Draws::Chosen(init) if init != HeadInit::Default && !unreached => {
                init.draws(fan_in, fan_out).0
            }
            Draws::Icnr { .. } => Init::Randn { mean: 0.0, stdev: (2.0 / fan_in).sqrt() },
            _ if self.act.is_some() => uniform((6.0 / fan_in).sqrt()),
            _ => uniform(fan_in.sqrt().recip()),
        }
    }

    pub(super) fn build(self, path: &Path<'_>) -> ConvLayer {
        let shape = [self.c_out, self.c_in, self.size, self.size];
        let conv = path / 0;
        let drawn = |name: &str| {
            let init = begins(self.weight_init());
            let Draws::Icnr { scale } = self.draws else { return conv.var(name, &shape, init) };
            let mut weight = conv.zeros(name, &shape);
            if !matches!(init, Init::Const(_)) {
                tch::no_grad(|| weight.copy_(&draw(&shape, scale)));
            }
            weight
        };
        let bias = || {
            let init = match self.draws {
                Draws::Untouched | Draws::Chosen(HeadInit::Default) => {
                    Init::Randn { mean: 0.0, stdev: 0.01 }
                }
                Draws::Chosen(_) | Draws::Icnr { .. } => Init::Const(0.0),
            };
            conv.var("bias", &[self.c_out], begins(init))
        };
        let (weight, bias) = match self.norm {
            ConvNormKind::None => {
                let weight = drawn("weight");
                (Weight::Plain(weight), Some(bias()))
            }
            ConvNormKind::Batch => (Weight::Plain(drawn("weight")), None),
            ConvNormKind::Weight => {
                // PyTorch's order of these parameters.
                let bias = bias();
                let mut length = conv.zeros("weight_g", &[self.c_out, 1, 1, 1]);
                let direction = drawn("weight_v");
                tch::no_grad(|| length.copy_(&lengths(&direction)));
                (Weight::Split { length, direction }, Some(bias))
            }
        };
        let norm = (self.norm == ConvNormKind::Batch)
            .then(|| fastai_norm(&(path / 1), self.c_out, self.norm_weight));
        ConvLayer { weight, bias, norm, act: self.act, padding: self.size / 2 }
    }
}

/// Returns the length of each filter, `[O, 1, 1, 1]`.
fn lengths(filters: &Tensor) -> Tensor {
    let dims: &[i64] = &[1, 2, 3];
    filters.square().sum_dim_intlist(dims, true, None).sqrt()
}

impl ModuleT for ConvLayer {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let weight = match &self.weight {
            Weight::Plain(weight) => weight.shallow_clone(),
            Weight::Split { length, direction } => direction * (length / lengths(direction)),
        };
        let x = x.conv2d(&weight, self.bias.as_ref(), [1], [self.padding], [1], 1);
        let x = match &self.norm {
            Some(norm) => norm.forward_t(&x, train),
            None => x,
        };
        match self.act {
            Some(act) => act.apply(x, train),
            None => x,
        }
    }
}
