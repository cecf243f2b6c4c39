//! The layers after the body: pooling, normalization, dropout and linear layers.

use super::{
    batch_norm::{BatchNorm, batch_norm1d},
    layers::{Activation, begins},
};
use crate::{
    error::{Error, Result},
    sys::caught,
};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use tch::{
    Tensor,
    nn::{self, Init, Linear, ModuleT, Path},
};

/// Options of the layers after the body: the arguments of fastai's
/// [`create_head`](https://docs.fast.ai/vision.learner.html#create_head).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeadOptions {
    lin_ftrs: Option<Vec<i64>>,
    ps: Vec<f64>,
    pool: bool,
    concat_pool: bool,
    first_bn: bool,
    bn_final: bool,
    lin_first: bool,
    y_range: Option<(f64, f64)>,
    act: Activation,
    init: HeadInit,
    /// If true, the last layer has biases after a normalization too.
    last_bias: bool,
}

/// The initialization of the linear layers of a head. Biases start at zero, except for `Default`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HeadInit {
    /// Normal, scaled by the number of inputs: He et al., <https://arxiv.org/abs/1502.01852>.
    KaimingNormal,
    /// Uniform, scaled by the number of inputs.
    KaimingUniform,
    /// Normal, scaled by the numbers of inputs and outputs: Glorot and Bengio, 2010.
    XavierNormal,
    /// Uniform, scaled by the numbers of inputs and outputs.
    XavierUniform,
    /// PyTorch's default, including biases: fastai's `init=None`.
    Default,
}

impl Default for HeadOptions {
    fn default() -> Self {
        Self {
            lin_ftrs: None,
            ps: vec![0.5],
            pool: true,
            concat_pool: true,
            first_bn: true,
            bn_final: false,
            lin_first: false,
            y_range: None,
            act: Activation::Relu,
            init: HeadInit::KaimingNormal,
            last_bias: false,
        }
    }
}

/// A head that was built from options.
#[derive(Debug)]
pub(super) struct OwnHead {
    pub(super) options: HeadOptions,
    /// Handles to all variables that are not the head's.
    pub(super) of_body: Vec<Tensor>,
}

impl HeadOptions {
    /// Returns fastai's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Sets the widths of the hidden layers. Default: one layer of width 512.
    #[must_use]
    pub fn lin_ftrs(mut self, widths: Vec<i64>) -> Self {
        self.lin_ftrs = Some(widths);
        self
    }
    /// Sets the dropout probabilities: one for the last layer, half of which is used for the others, or one
    /// per layer. If the list is too short, the remaining layers are left out, as in fastai. Default: 0.5.
    #[must_use]
    pub fn ps(mut self, ps: Vec<f64>) -> Self {
        self.ps = ps;
        self
    }
    /// If true, the head starts with pooling. Default: true.
    #[must_use]
    pub fn pool(mut self, yes: bool) -> Self {
        self.pool = yes;
        self
    }
    /// If true, maximum and average pooling are concatenated. Default: true.
    #[must_use]
    pub fn concat_pool(mut self, yes: bool) -> Self {
        self.concat_pool = yes;
        self
    }
    /// If true, a normalization comes first. Default: true.
    #[must_use]
    pub fn first_bn(mut self, yes: bool) -> Self {
        self.first_bn = yes;
        self
    }
    /// If true, a normalization comes last. Default: false.
    #[must_use]
    pub fn bn_final(mut self, yes: bool) -> Self {
        self.bn_final = yes;
        self
    }
    /// If true, the linear layer comes before normalization and dropout. Default: false.
    #[must_use]
    pub fn lin_first(mut self, yes: bool) -> Self {
        self.lin_first = yes;
        self
    }
    /// Limits the outputs to a range with a sigmoid. Default: no limit.
    #[must_use]
    pub fn y_range(mut self, low: f64, high: f64) -> Self {
        self.y_range = Some((low, high));
        self
    }
    /// Sets the activation after each hidden linear layer. Default: ReLU.
    #[must_use]
    pub fn act(mut self, act: Activation) -> Self {
        self.act = act;
        self
    }
    /// Sets the initialization of the linear layers. Default: Kaiming normal.
    #[must_use]
    pub fn init(mut self, init: HeadInit) -> Self {
        self.init = init;
        self
    }

    /// Returns the layers for `features` channels and `n_out` outputs.
    ///
    /// ```
    /// use finetune::model::{HeadLayer, HeadOptions};
    ///
    /// let layers = HeadOptions::new().ps(vec![0.2]).layers(512, 37)?;
    /// assert_eq!(layers.len(), 9);
    /// assert_eq!(layers[3], HeadLayer::Dropout(0.1));
    /// assert_eq!(layers[8], HeadLayer::Linear { n_in: 512, n_out: 37, bias: false });
    /// # Ok::<(), finetune::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] for a width that is not positive, a probability that is not between 0 and 1, an
    /// empty list of probabilities, or an empty range.
    pub fn layers(&self, features: i64, n_out: i64) -> Result<Vec<HeadLayer>> {
        let pooled = match self.pool && self.concat_pool {
            true => features.checked_mul(2).ok_or_else(|| {
                Error::config("features", format!("{features} channels are too many"))
            })?,
            false => features,
        };
        let hidden = self.lin_ftrs.clone().unwrap_or_else(|| vec![512]);
        let widths: Vec<i64> =
            std::iter::once(pooled).chain(hidden).chain(std::iter::once(n_out)).collect();
        self.check(&widths)?;
        let mut ps = match self.ps.as_slice() {
            [p] => [vec![p / 2.0; widths.len() - 2], vec![*p]].concat(),
            all => all.to_vec(),
        }
        .into_iter();
        let mut layers = vec![];
        if self.pool {
            layers.push(if self.concat_pool { HeadLayer::ConcatPool } else { HeadLayer::AvgPool });
            layers.push(HeadLayer::Flatten);
        }
        if self.lin_first {
            layers.extend(ps.next().map(HeadLayer::Dropout));
        }
        let last = widths.len() - 2;
        for (i, (pair, p)) in widths.windows(2).zip(ps).enumerate() {
            self.push_linear(&mut layers, (pair[0], pair[1]), i > 0 || self.first_bn, p, i < last);
        }
        if self.lin_first {
            layers.push(HeadLayer::Linear { n_in: widths[last], n_out, bias: true });
        }
        if self.bn_final {
            layers.push(HeadLayer::BatchNorm { features: n_out, bias: 0.0, momentum: 0.01 });
        }
        layers.extend(self.y_range.map(|(low, high)| HeadLayer::SigmoidRange { low, high }));
        Ok(layers)
    }

    /// Returns options with the same pooling, followed by normalization, the dropout of the last layer, and a single
    /// linear layer with biases, without hidden layers or a range.
    /// [`Probe::install`](crate::learner::Probe::install) creates such a head.
    ///
    /// ```
    /// use finetune::model::{HeadLayer, HeadOptions};
    ///
    /// let layers = HeadOptions::new().linear().layers(512, 37)?;
    /// assert_eq!(layers[..2], [HeadLayer::ConcatPool, HeadLayer::Flatten]);
    /// assert_eq!(layers[3], HeadLayer::Dropout(0.5));
    /// assert_eq!(layers[4], HeadLayer::Linear { n_in: 1024, n_out: 37, bias: true });
    /// # Ok::<(), finetune::Error>(())
    /// ```
    #[must_use]
    pub fn linear(&self) -> Self {
        let Self { pool, concat_pool, act, init, .. } = *self;
        Self {
            lin_ftrs: Some(vec![]),
            ps: self.ps.last().copied().into_iter().collect(),
            pool,
            concat_pool,
            first_bn: true,
            bn_final: false,
            lin_first: false,
            y_range: None,
            act,
            init,
            last_bias: true,
        }
    }

    /// Applies the pooling of these options to the output of a body. Returns `[N, features]`.
    pub(super) fn pooled(&self, x: &Tensor) -> Tensor {
        match (self.pool, self.concat_pool) {
            (false, _) => x.shallow_clone(),
            (true, true) => adaptive_concat_pool2d(x, 1).flatten(1, -1),
            (true, false) => x.adaptive_avg_pool2d([1, 1]).flatten(1, -1),
        }
    }

    /// Returns true if the outputs are limited to a range.
    pub(super) fn has_range(&self) -> bool {
        self.y_range.is_some()
    }

    /// Returns the number of hidden layers.
    pub(super) fn hidden(&self) -> usize {
        self.lin_ftrs.as_ref().map_or(1, Vec::len)
    }

    /// Adds a linear layer with its normalization, dropout and activation: fastai's `LinBnDrop`.
    fn push_linear(
        &self,
        layers: &mut Vec<HeadLayer>,
        (n_in, n_out): (i64, i64),
        norm: bool,
        p: f64,
        act: bool,
    ) {
        let features = if self.lin_first { n_out } else { n_in };
        let norms = norm.then_some(HeadLayer::BatchNorm { features, bias: 1e-3, momentum: 0.1 });
        let norms = norms.into_iter().chain((p != 0.0).then_some(HeadLayer::Dropout(p)));
        let linear = [HeadLayer::Linear { n_in, n_out, bias: !norm || self.last_bias }];
        let linear = linear.into_iter().chain(act.then_some(HeadLayer::Act(self.act)));
        if self.lin_first {
            layers.extend(linear.chain(norms));
        } else {
            layers.extend(norms.chain(linear));
        }
    }

    fn check(&self, widths: &[i64]) -> Result<()> {
        if let Some(width) = widths.iter().find(|n| **n <= 0) {
            return Err(Error::config(
                "lin_ftrs",
                format!("the width of a layer is {width}; it must be positive"),
            ));
        }
        if let Some(p) = self.ps.iter().find(|p| !(0.0..=1.0).contains(*p)) {
            return Err(Error::config("ps", format!("{p} is not a probability")));
        }
        if self.ps.is_empty() {
            return Err(Error::config("ps", "is empty; set one probability, or one per layer"));
        }
        match self.y_range {
            Some((low, high)) if low.partial_cmp(&high) != Some(Ordering::Less) => {
                Err(Error::config("y_range", format!("{low} is not below {high}")))
            }
            _ => Ok(()),
        }
    }

    /// Builds the head for `features` channels and `n_out` outputs. The variables are at `path` and are
    /// drawn from libtorch's generator. Layers have the numbers of fastai's `Sequential`.
    ///
    /// # Errors
    /// As [`layers`](Self::layers); errors of libtorch, for example for lack of memory.
    pub fn build(&self, path: &Path<'_>, features: i64, n_out: i64) -> Result<Head> {
        let layers = self.layers(features, n_out)?.into_iter().enumerate();
        caught(|| Ok(Head(layers.map(|(i, layer)| self.built(layer, &(path / i))).collect())))
    }

    fn built(&self, layer: HeadLayer, path: &Path<'_>) -> Built {
        match layer {
            HeadLayer::BatchNorm { features, bias, momentum } => {
                let config = nn::BatchNormConfig {
                    ws_init: Init::Const(1.0),
                    bs_init: Init::Const(bias),
                    momentum,
                    ..Default::default()
                };
                Built::Norm(batch_norm1d(path, features, config))
            }
            HeadLayer::Linear { n_in, n_out, bias } => {
                let (ws_init, bs_init) = self.init.draws(n_in as f64, n_out as f64);
                let config = nn::LinearConfig { ws_init: begins(ws_init), bs_init, bias };
                Built::Linear(nn::linear(path, n_in, n_out, config))
            }
            plain => Built::Plain(plain),
        }
    }
}

impl HeadInit {
    /// Returns the initialization of weights and biases; `None` for PyTorch's default biases.
    pub(super) fn draws(self, n_in: f64, n_out: f64) -> (Init, Option<Init>) {
        let normal = |variance: f64| Init::Randn { mean: 0.0, stdev: variance.sqrt() };
        let uniform = |variance: f64| {
            let bound = (3.0 * variance).sqrt();
            Init::Uniform { lo: -bound, up: bound }
        };
        let zero = Some(Init::Const(0.0));
        match self {
            Self::KaimingNormal => (normal(2.0 / n_in), zero),
            Self::KaimingUniform => (uniform(2.0 / n_in), zero),
            Self::XavierNormal => (normal(2.0 / (n_in + n_out)), zero),
            Self::XavierUniform => (uniform(2.0 / (n_in + n_out)), zero),
            Self::Default => (uniform(1.0 / (3.0 * n_in)), None),
        }
    }
}

/// One layer of a head.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum HeadLayer {
    /// The maximum of each channel, then the mean of each: [`adaptive_concat_pool2d`].
    ConcatPool,
    /// The mean of each channel.
    AvgPool,
    /// Flattens all dimensions except the first.
    Flatten,
    /// A batch normalization; weights start at 1.
    BatchNorm {
        /// The number of features.
        features: i64,
        /// The initial biases: 0.001, as in fastai, except 0 for the last layer.
        bias: f64,
        /// The weight of a batch in the running statistics.
        momentum: f64,
    },
    /// Dropout with this probability.
    Dropout(f64),
    /// A linear layer.
    Linear {
        /// The number of inputs.
        n_in: i64,
        /// The number of outputs.
        n_out: i64,
        /// If true, it has biases. False after a normalization.
        bias: bool,
    },
    /// An activation.
    Act(Activation),
    /// Limits the outputs to a range with a sigmoid.
    SigmoidRange {
        /// The lower limit.
        low: f64,
        /// The upper limit.
        high: f64,
    },
}

/// A layer with its variables.
#[derive(Debug)]
enum Built {
    Norm(BatchNorm),
    Linear(Linear),
    Plain(HeadLayer),
}

/// The layers after a body, numbered as in fastai's `Sequential`; see [`HeadOptions::build`].
#[derive(Debug)]
pub struct Head(Vec<Built>);

impl ModuleT for Head {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, layer| match layer {
            Built::Norm(norm) => norm.forward_t(&x, train),
            Built::Linear(linear) => linear.forward_t(&x, train),
            Built::Plain(layer) => layer.apply(x, train),
        })
    }
}

impl HeadLayer {
    fn apply(self, x: Tensor, train: bool) -> Tensor {
        match self {
            Self::ConcatPool => adaptive_concat_pool2d(&x, 1),
            Self::AvgPool => x.adaptive_avg_pool2d([1, 1]),
            Self::Flatten => x.flatten(1, -1),
            Self::Dropout(p) => x.dropout(p, train),
            Self::Act(act) => act.apply(x, train),
            Self::SigmoidRange { low, high } => x.sigmoid() * (high - low) + low,
            Self::BatchNorm { .. } | Self::Linear { .. } => x,
        }
    }
}

/// Concatenates the maxima of `size` × `size` regions of each channel and their means: maps `[N, C, H, W]`
/// to `[N, 2 * C, size, size]`. fastai's
/// [`AdaptiveConcatPool2d`](https://docs.fast.ai/layers.html#adaptiveconcatpool2d).
///
/// # Panics
/// As functions of `tch`: if `x` does not have four dimensions, or `size` is not positive.
pub fn adaptive_concat_pool2d(x: &Tensor, size: i64) -> Tensor {
    let max = x.adaptive_max_pool2d([size; 2]).0;
    Tensor::cat(&[max, x.adaptive_avg_pool2d([size; 2])], 1)
}
