//! One step of the decoder: doubles the size and joins the body's feature map of that size.

use super::{
    attention::SelfAttention,
    conv_layer::{ConvLayer, ConvNormKind, Draws, Layer, fastai_norm},
    options::UnetOptions,
    shuffle::PixelShuffleIcnr,
};
use crate::model::{batch_norm::BatchNorm, layers::Activation};
use tch::{
    Tensor,
    nn::{ModuleT, Path},
};

/// One step of a decoder: upsampling, concatenation with the body's feature map of that size, two
/// convolutions. fastai's `UnetBlock`.
#[derive(Debug)]
pub struct UnetBlock {
    shuf: PixelShuffleIcnr,
    bn: BatchNorm,
    conv1: ConvLayer,
    conv2: ConvLayer,
    attention: Option<SelfAttention>,
    act: Activation,
    c_out: i64,
}

impl UnetBlock {
    /// Creates a block for `up` input channels and `skip` channels of the body. `last` is true for the last
    /// block of a decoder, which halves its channels. `blur` and `self_attention` apply to this block; of
    /// `options`, those for convolutions are used.
    ///
    /// # Panics
    /// If a number of channels is not positive, like the layers of `tch`.
    #[must_use]
    pub fn new(
        path: &Path<'_>,
        (up, skip): (i64, i64),
        last: bool,
        blur: bool,
        self_attention: bool,
        options: &UnetOptions,
    ) -> Self {
        let (norm, act, init) = (options.norm, options.act, options.init);
        let shuf = PixelShuffleIcnr::with(&(path / "shuf"), up, up / 2, blur, norm, Some(act));
        let bn = fastai_norm(&(path / "bn"), skip, 1.0);
        let joined = up / 2 + skip;
        let c_out = if last { joined / 2 } else { joined };
        let conv = |name: &str, c_in: i64| {
            let layer = Layer::new(c_in, c_out, 3, Draws::Chosen(init)).norm(norm).act(Some(act));
            layer.build(&(path / name))
        };
        let (conv1, conv2) = (conv("conv1", joined), conv("conv2", c_out));
        let place = if norm == ConvNormKind::Batch { 3 } else { 2 };
        let attention =
            self_attention.then(|| SelfAttention::new(&(path / "conv2" / place), c_out));
        Self { shuf, bn, conv1, conv2, attention, act, c_out }
    }

    /// Returns the number of output channels.
    #[must_use]
    pub fn channels(&self) -> i64 {
        self.c_out
    }

    /// Returns the output for `x`, `[N, up, H, W]`, and the body's feature map `skip`, which determines the
    /// output size.
    pub fn forward(&self, x: &Tensor, skip: &Tensor, train: bool) -> Tensor {
        let up = resized(self.shuf.forward_t(x, train), skip);
        let joined = Tensor::cat(&[up, self.bn.forward_t(skip, train)], 1);
        let x = self.conv1.forward_t(&self.act.apply(joined, train), train);
        let x = self.conv2.forward_t(&x, train);
        match &self.attention {
            Some(attention) => attention.forward_t(&x, train),
            None => x,
        }
    }
}

/// Resizes `x` to the height and width of `like`, by the nearest pixel.
pub(super) fn resized(x: Tensor, like: &Tensor) -> Tensor {
    let size = |t: &Tensor| t.size()[2..].to_vec();
    let to = size(like);
    if size(&x) == to { x } else { x.upsample_nearest2d(&to[..], None, None) }
}
