//! Options of a decoder.

use super::conv_layer::ConvNormKind;
use crate::{
    error::{Error, Result},
    model::{head::HeadInit, layers::Activation},
};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Options of the decoder of a U-Net: the arguments of fastai's
/// [`DynamicUnet`](https://docs.fast.ai/vision.models.unet.html#dynamicunet).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnetOptions {
    pub(super) size: (u32, u32),
    pub(super) blur: bool,
    pub(super) blur_final: bool,
    pub(super) self_attention: bool,
    pub(super) y_range: Option<(f64, f64)>,
    pub(super) last_cross: bool,
    pub(super) bottle: bool,
    pub(super) norm: ConvNormKind,
    pub(super) act: Activation,
    pub(super) init: HeadInit,
}

impl Default for UnetOptions {
    fn default() -> Self {
        Self {
            size: (224, 224),
            blur: false,
            blur_final: true,
            self_attention: false,
            y_range: None,
            last_cross: true,
            bottle: false,
            norm: ConvNormKind::None,
            act: Activation::Relu,
            init: HeadInit::KaimingNormal,
        }
    }
}

impl UnetOptions {
    /// Returns fastai's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Sets the height and width of the images, in pixels, for which the decoder is built. It has a step
    /// wherever the body changes the width. Images of other sizes can be used afterwards. Default: 224×224;
    /// [`unet_learner`](crate::learner::unet_learner) sets the size of its images.
    #[must_use]
    pub fn size_hw(mut self, height: u32, width: u32) -> Self {
        self.size = (height, width);
        self
    }
    /// If true, each upsampling blurs, against checkerboard patterns. Default: false.
    #[must_use]
    pub fn blur(mut self, yes: bool) -> Self {
        self.blur = yes;
        self
    }
    /// If true, the last block blurs too if `blur` is set. Default: true.
    #[must_use]
    pub fn blur_final(mut self, yes: bool) -> Self {
        self.blur_final = yes;
        self
    }
    /// If true, the third block from the end has self-attention. Default: false.
    #[must_use]
    pub fn self_attention(mut self, yes: bool) -> Self {
        self.self_attention = yes;
        self
    }
    /// Limits the outputs to a range with a sigmoid, for values per pixel. Default: no limit.
    #[must_use]
    pub fn y_range(mut self, low: f64, high: f64) -> Self {
        self.y_range = Some((low, high));
        self
    }
    /// If true, the image itself is joined to the features before the last layers. Default: true.
    #[must_use]
    pub fn last_cross(mut self, yes: bool) -> Self {
        self.last_cross = yes;
        self
    }
    /// If true, the layers after that have half of the channels. fastai's own option fails in the first
    /// forward pass; here the last convolution has a matching number of inputs. Default: false.
    #[must_use]
    pub fn bottle(mut self, yes: bool) -> Self {
        self.bottle = yes;
        self
    }
    /// Sets the normalization of the decoder's convolutions. Default: none, as in fastai.
    #[must_use]
    pub fn norm(mut self, norm: ConvNormKind) -> Self {
        self.norm = norm;
        self
    }
    /// Sets the activation after each convolution of the decoder. Default: ReLU.
    #[must_use]
    pub fn act(mut self, act: Activation) -> Self {
        self.act = act;
        self
    }
    /// Sets the initialization of the middle convolutions and those of the blocks. Pixel shuffles and the
    /// last layer have their own, as in fastai. Default: Kaiming normal.
    #[must_use]
    pub fn init(mut self, init: HeadInit) -> Self {
        self.init = init;
        self
    }

    /// Returns true if the images have at most 4 million pixels. For untrusted files: the body is run with
    /// one image.
    pub(crate) fn is_moderate(&self) -> bool {
        u64::from(self.size.0) * u64::from(self.size.1) <= 1 << 22
    }

    pub(crate) fn check(&self) -> Result<()> {
        let (height, width) = self.size;
        if height == 0 || width == 0 {
            let why = format!("is {height}x{width}; both sides must be 1 or more");
            return Err(Error::config("size_hw", why));
        }
        match self.y_range {
            Some((low, high)) if low.partial_cmp(&high) != Some(Ordering::Less) => {
                Err(Error::config("y_range", format!("{low} must be below {high}")))
            }
            _ => Ok(()),
        }
    }
}
