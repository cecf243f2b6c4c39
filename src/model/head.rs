//! What comes after the body: pooling, normalization, dropout and linear layers.

use serde::{Deserialize, Serialize};
use tch::{
    Tensor,
    nn::{self, BatchNorm, Linear, ModuleT, Path},
};

/// The layers after the body: the arguments of fastai's
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
        }
    }
}

impl HeadOptions {
    /// fastai's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// The widths of the hidden layers. Default: one of 512.
    #[must_use]
    pub fn lin_ftrs(mut self, widths: Vec<i64>) -> Self {
        self.lin_ftrs = Some(widths);
        self
    }
    /// The probabilities of dropout: one for the last layer, of which the others have half, or one for
    /// each. A list that is too short drops the layers that follow, as in fastai. Default: 0.5.
    #[must_use]
    pub fn ps(mut self, ps: Vec<f64>) -> Self {
        self.ps = ps;
        self
    }
    /// Whether to pool at all. Default: true.
    #[must_use]
    pub fn pool(mut self, yes: bool) -> Self {
        self.pool = yes;
        self
    }
    /// Whether to join maximum and average pooling. Default: true.
    #[must_use]
    pub fn concat_pool(mut self, yes: bool) -> Self {
        self.concat_pool = yes;
        self
    }
    /// Whether a normalization comes first. Default: true.
    #[must_use]
    pub fn first_bn(mut self, yes: bool) -> Self {
        self.first_bn = yes;
        self
    }
    /// Whether a normalization comes last. Default: false.
    #[must_use]
    pub fn bn_final(mut self, yes: bool) -> Self {
        self.bn_final = yes;
        self
    }
    /// Whether the linear layer comes before normalization and dropout. Default: false.
    #[must_use]
    pub fn lin_first(mut self, yes: bool) -> Self {
        self.lin_first = yes;
        self
    }
    /// Squeezes the outputs between two values by a sigmoid. Default: not.
    #[must_use]
    pub fn y_range(mut self, low: f64, high: f64) -> Self {
        self.y_range = Some((low, high));
        self
    }
}

/// One layer of a head.
#[derive(Debug)]
enum Layer {
    ConcatPool,
    AvgPool,
    Flatten,
    Norm(BatchNorm),
    Dropout(f64),
    Linear(Linear),
    Relu,
    SigmoidRange(f64, f64),
}

/// The layers after a body, numbered as in fastai's `Sequential`.
#[derive(Debug)]
pub(super) struct Head(Vec<Layer>);

/// Adds layers one by one, each under its number.
struct Builder<'a> {
    path: &'a Path<'a>,
    layers: Vec<Layer>,
}

impl Builder<'_> {
    fn linear(&mut self, n_in: i64, n_out: i64, bias: bool) {
        let path = self.path / self.layers.len().to_string();
        let stdev = (2.0 / n_in as f64).sqrt();
        let config = nn::LinearConfig {
            ws_init: nn::Init::Randn { mean: 0.0, stdev },
            bs_init: Some(nn::Init::Const(0.0)),
            bias,
        };
        self.layers.push(Layer::Linear(nn::linear(path, n_in, n_out, config)));
    }

    fn norm(&mut self, n: i64, bias: f64, momentum: f64) {
        let path = self.path / self.layers.len().to_string();
        let config = nn::BatchNormConfig {
            ws_init: nn::Init::Const(1.0),
            bs_init: nn::Init::Const(bias),
            momentum,
            ..Default::default()
        };
        self.layers.push(Layer::Norm(nn::batch_norm1d(path, n, config)));
    }

    fn dropout(&mut self, p: f64) {
        if p != 0.0 {
            self.layers.push(Layer::Dropout(p));
        }
    }
}

impl Head {
    /// A head for `features` channels and `n_out` outputs.
    pub(super) fn new(path: &Path<'_>, features: i64, n_out: i64, o: &HeadOptions) -> Self {
        let features = if o.pool && o.concat_pool { features * 2 } else { features };
        let hidden = o.lin_ftrs.clone().unwrap_or_else(|| vec![512]);
        let widths: Vec<i64> =
            std::iter::once(features).chain(hidden).chain(std::iter::once(n_out)).collect();
        let mut ps = match o.ps.as_slice() {
            [p] => vec![p / 2.0; widths.len() - 2],
            all => all.to_vec(),
        };
        if let [p] = o.ps.as_slice() {
            ps.push(*p);
        }
        let mut b = Builder { path, layers: vec![] };
        if o.pool {
            b.layers.push(if o.concat_pool { Layer::ConcatPool } else { Layer::AvgPool });
            b.layers.push(Layer::Flatten);
        }
        let mut ps = ps.into_iter();
        if o.lin_first {
            b.dropout(ps.next().unwrap_or(0.0));
        }
        let last = widths.len() - 2;
        for (i, (pair, p)) in widths.windows(2).zip(ps).enumerate() {
            let (n_in, n_out) = (pair[0], pair[1]);
            let norm = i > 0 || o.first_bn;
            if o.lin_first {
                b.linear(n_in, n_out, !norm);
                if i < last {
                    b.layers.push(Layer::Relu);
                }
            }
            if norm {
                b.norm(if o.lin_first { n_out } else { n_in }, 1e-3, 0.1);
            }
            b.dropout(p);
            if !o.lin_first {
                b.linear(n_in, n_out, !norm);
                if i < last {
                    b.layers.push(Layer::Relu);
                }
            }
        }
        if o.lin_first {
            b.linear(widths[last], n_out, true);
        }
        if o.bn_final {
            b.norm(n_out, 0.0, 0.01);
        }
        if let Some((low, high)) = o.y_range {
            b.layers.push(Layer::SigmoidRange(low, high));
        }
        Self(b.layers)
    }
}

impl ModuleT for Head {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, layer| match layer {
            Layer::ConcatPool => {
                let max = x.adaptive_max_pool2d([1, 1]).0;
                Tensor::cat(&[max, x.adaptive_avg_pool2d([1, 1])], 1)
            }
            Layer::AvgPool => x.adaptive_avg_pool2d([1, 1]),
            Layer::Flatten => x.flatten(1, -1),
            Layer::Norm(norm) => norm.forward_t(&x, train),
            Layer::Dropout(p) => x.dropout(*p, train),
            Layer::Linear(linear) => linear.forward_t(&x, train),
            Layer::Relu => x.relu(),
            Layer::SigmoidRange(low, high) => x.sigmoid() * (high - low) + *low,
        })
    }
}
