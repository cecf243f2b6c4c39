//! VGG with timm's names and shapes: the hidden layers of the classifier are convolutions.
//!
//! Simonyan and Zisserman, [Very Deep Convolutional Networks](https://arxiv.org/abs/1409.1556).

use super::{
    build::Build,
    classifier::pooled_classifier,
    conv::{Conv, Conv2d},
};
use crate::model::{body::Children, vgg};
use serde::Deserialize;
use tch::{
    Tensor,
    nn::{ModuleT, Path},
};

/// The options of the family.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::model) struct Config {
    /// The number of convolutions of each block.
    blocks: [usize; 5],
    /// If true, each convolution is followed by a normalization.
    norm: bool,
    drop_rate: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { blocks: [1, 1, 2, 2, 2], norm: false, drop_rate: 0.0 }
    }
}

/// The number of channels of the hidden layers.
const HIDDEN: i64 = 4096;

impl Config {
    pub(super) fn children<'a>(&'a self, net: &mut Children<'a>, build: Build) {
        vgg::features(net, build.n_in, self.blocks, self.norm);
        let drop = build.drop.unwrap_or(self.drop_rate);
        net.add("pre_logits", move |p| Hidden::new(p, drop)).last_layer();
        pooled_classifier(net, "head", "fc", (HIDDEN, build.n_out), drop);
    }
}

/// Two hidden layers, on at least 7×7 pixels.
#[derive(Debug)]
struct Hidden {
    fc1: Conv2d,
    fc2: Conv2d,
    drop: f64,
}

impl Hidden {
    fn new(path: &Path<'_>, drop: f64) -> Self {
        let mut fc1 = Conv::new(512, HIDDEN, 7).bias(true);
        fc1.padded = false;
        Self {
            fc1: fc1.build(&(path / "fc1")),
            fc2: Conv::new(HIDDEN, HIDDEN, 1).bias(true).build(&(path / "fc2")),
            drop,
        }
    }
}

impl ModuleT for Hidden {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let size = x.size();
        let (height, width) = (size[2], size[3]);
        let x = if height < 7 || width < 7 {
            x.adaptive_avg_pool2d([height.max(7), width.max(7)])
        } else {
            x.shallow_clone()
        };
        let x = self.fc1.forward(&x).relu().dropout(self.drop, train);
        self.fc2.forward(&x).relu()
    }
}
