//! Upsampling by pixel shuffle.

use super::conv_layer::{ConvLayer, ConvNormKind, Draws, Layer};
use crate::model::layers::Activation;
use tch::{
    Tensor,
    nn::{ModuleT, Path},
};

/// Doubles height and width: a 1×1 convolution whose channels become pixels, fastai's `PixelShuffle_ICNR`.
/// Its filters are initialized by `icnr`.
#[derive(Debug)]
pub struct PixelShuffleIcnr {
    conv: ConvLayer,
    scale: i64,
    blur: bool,
}

impl PixelShuffleIcnr {
    /// Creates the layer from `c_in` to `c_out` channels, with a ReLU. `blur` averages each 2×2 pixels of
    /// the result. The scale is always 2: with others, fastai's initialization fails.
    ///
    /// # Panics
    /// If a number of channels is not positive, like the layers of `tch`.
    #[must_use]
    pub fn new(path: &Path<'_>, c_in: i64, c_out: i64, blur: bool, norm: ConvNormKind) -> Self {
        Self::with(path, c_in, c_out, blur, norm, Some(Activation::Relu))
    }

    /// As [`new`](Self::new), with another activation, or none.
    ///
    /// # Panics
    /// If a number of channels is not positive, like the layers of `tch`.
    #[must_use]
    pub fn with(
        path: &Path<'_>,
        c_in: i64,
        c_out: i64,
        blur: bool,
        norm: ConvNormKind,
        act: Option<Activation>,
    ) -> Self {
        let scale = 2;
        let draws = Draws::Icnr { scale };
        let conv = Layer::new(c_in, c_out * scale * scale, 1, draws).norm(norm).act(act);
        Self { conv: conv.build(&(path / 0)), scale, blur }
    }
}

impl ModuleT for PixelShuffleIcnr {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let x = self.conv.forward_t(x, train).pixel_shuffle(self.scale);
        if !self.blur {
            return x;
        }
        x.replication_pad2d([1, 0, 1, 0]).avg_pool2d([2, 2], [1, 1], [0, 0], false, true, None)
    }
}
