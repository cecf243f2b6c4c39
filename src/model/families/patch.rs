//! Patches of an image as tokens, and the image size that a network is built for.

use super::norm::{Norm, NormKind};
use crate::model::layers::begins;
use serde::Deserialize;
use tch::{
    Tensor,
    nn::{self, Conv2D, ConvConfig, Init, Module as _, Path},
};

/// A height and a width; a single number means both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Extent {
    /// A square.
    Square(i64),
    /// Height and width.
    Both([i64; 2]),
}

impl Extent {
    pub(super) fn pair(self) -> [i64; 2] {
        match self {
            Self::Square(n) => [n; 2],
            Self::Both(pair) => pair,
        }
    }
}

/// A convolution whose stride is its kernel size, and an optional normalization: `proj` and `norm`.
#[derive(Debug)]
pub(super) struct PatchEmbed {
    proj: Conv2D,
    norm: Option<Norm>,
    /// The number of patches along the height and the width.
    grid: [i64; 2],
    size: [i64; 2],
}

impl PatchEmbed {
    pub(super) fn new(
        path: &Path<'_>,
        (n_in, dim): (i64, i64),
        patch: i64,
        size: [i64; 2],
        bias: bool,
        norm: Option<(NormKind, f64)>,
    ) -> Self {
        let fan_in = (n_in * patch * patch) as f64;
        let uniform = Init::Uniform { lo: -fan_in.sqrt().recip(), up: fan_in.sqrt().recip() };
        let config = ConvConfig {
            stride: patch,
            bias,
            ws_init: begins(uniform),
            bs_init: begins(uniform),
            ..Default::default()
        };
        Self {
            proj: nn::conv2d(path / "proj", n_in, dim, patch, config),
            norm: norm.map(|(kind, eps)| Norm::new(&(path / "norm"), kind, dim, eps)),
            grid: size.map(|n| n / patch),
            size,
        }
    }

    pub(super) fn grid(&self) -> [i64; 2] {
        self.grid
    }

    /// Maps `[N, C, H, W]` to `[N, H / patch, W / patch, dim]`.
    ///
    /// # Panics
    /// If the images do not have the size that the network was built for; models convert panics of their
    /// layers to errors.
    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let [height, width] = self.size;
        let given = x.size();
        assert!(
            given.len() == 4 && given[2..] == self.size,
            "the network is built for images of {height}×{width} pixels, but the input is {given:?}: \
             resize the images, or set `Arch::image_size`"
        );
        let tokens = self.proj.forward(x).permute([0, 2, 3, 1]);
        match &self.norm {
            Some(norm) => norm.last(&tokens, train),
            None => tokens,
        }
    }
}
