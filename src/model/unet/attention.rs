//! Self-attention between all pixels.

use crate::model::layers::begins;
use tch::{
    Kind, Tensor,
    nn::{Init, ModuleT, Path},
};

/// The minimum length by which a vector is divided, as in PyTorch.
const LEAST: f64 = 1e-12;

/// A 1×1 convolution over flattened pixels whose largest singular value is 1.
///
/// Miyato et al., [Spectral Normalization](https://arxiv.org/abs/1802.05957), with the names of PyTorch's
/// `spectral_norm`.
#[derive(Debug)]
struct SpectralConv {
    weight: Tensor,
    u: Tensor,
    v: Tensor,
}

fn normalized(t: &Tensor) -> Tensor {
    t / t.norm().clamp_min(LEAST)
}

impl SpectralConv {
    fn new(path: &Path<'_>, c_in: i64, c_out: i64) -> Self {
        let stdev = (2.0 / c_in as f64).sqrt();
        let init = begins(Init::Randn { mean: 0.0, stdev });
        let weight = path.var("weight_orig", &[c_out, c_in, 1], init);
        let direction = |name: &str, n: i64| {
            let mut t = path.zeros_no_train(name, &[n]);
            t.copy_(&normalized(&t.randn_like()));
            t
        };
        let (u, v) = (direction("weight_u", c_out), direction("weight_v", c_in));
        Self { weight, u, v }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let matrix = self.weight.flatten(1, -1);
        if train {
            // One step of the power iteration, as in PyTorch's hook.
            tch::no_grad(|| {
                let (mut u, mut v) = (self.u.shallow_clone(), self.v.shallow_clone());
                v.copy_(&normalized(&matrix.tr().mv(&u)));
                u.copy_(&normalized(&matrix.mv(&v)));
            });
        }
        // Copies: the next training step overwrites the vectors, but the gradient needs these values.
        let (u, v) = (self.u.copy(), self.v.copy());
        let sigma = u.dot(&matrix.mv(&v));
        let weight = &self.weight / sigma;
        x.conv1d::<Tensor>(&weight, None, 1, 0, 1, 1)
    }
}

/// Adds to each pixel a weighted sum over all pixels, times `gamma`, which starts at 0: fastai's
/// `SelfAttention`. Its memory grows with the square of the number of pixels.
///
/// Zhang et al., [Self-Attention GAN](https://arxiv.org/abs/1805.08318).
#[derive(Debug)]
pub struct SelfAttention {
    gamma: Tensor,
    query: SpectralConv,
    key: SpectralConv,
    value: SpectralConv,
}

impl SelfAttention {
    /// Creates the layer for `channels` channels; queries and keys have an eighth of them.
    ///
    /// # Panics
    /// As functions of `tch`, if `channels` is not positive.
    #[must_use]
    pub fn new(path: &Path<'_>, channels: i64) -> Self {
        let gamma = path.zeros("gamma", &[1]);
        let conv = |name: &str, c_out: i64| SpectralConv::new(&(path / name / 0), channels, c_out);
        let narrow = (channels / 8).max(1);
        let (query, key) = (conv("query", narrow), conv("key", narrow));
        Self { gamma, query, key, value: conv("value", channels) }
    }
}

impl ModuleT for SelfAttention {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let shape = x.size();
        let flat = x.flatten(2, -1);
        let [f, g, h] = [&self.query, &self.key, &self.value].map(|c| c.forward(&flat, train));
        let beta = f.transpose(1, 2).bmm(&g).softmax(1, Kind::Float);
        let out = &self.gamma * h.bmm(&beta.to_kind(h.kind())) + &flat;
        out.view(&shape[..]).contiguous()
    }
}
