//! A decoder after a body, for one output per pixel: fastai's U-Net and its layers.
//!
//! Ronneberger et al., [U-Net](https://arxiv.org/abs/1505.04597), in the form of fastai's
//! [`DynamicUnet`](https://docs.fast.ai/vision.models.unet.html).

mod attention;
mod block;
mod conv_layer;
mod decoder;
mod icnr;
mod options;
mod shuffle;

pub use {
    attention::SelfAttention, block::UnetBlock, conv_layer::ConvNormKind, icnr::icnr,
    options::UnetOptions, shuffle::PixelShuffleIcnr,
};

pub(super) use decoder::{Decoder, Unet};
