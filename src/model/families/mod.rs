//! Families of networks. Each family is implemented once, and the options of its members are data.

mod attention;
mod build;
mod classifier;
mod constant;
mod conv;
mod convnext;
mod densenet;
mod drop_path;
mod efficientnet;
mod eva;
mod feed_forward;
mod linear;
mod norm;
mod patch;
mod regnet;
mod resnet;
mod resnet_v2;
mod rotary;
mod swin;
mod tiny_vit;
mod tokens;
mod vgg;
mod vit;

pub(super) use {
    build::{Build, Layout},
    efficientnet::BlockKind,
};

use crate::model::body::Children;
use serde::Deserialize;

/// A family and the options of one member.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "family", content = "args", rename_all = "snake_case")]
pub(super) enum Family {
    /// ConvNeXt.
    Convnext(convnext::Config),
    /// Vision transformers.
    Vit(Box<vit::Config>),
    /// Vision transformers of timm's `Eva`.
    Eva(Box<eva::Config>),
    /// Swin.
    Swin(swin::Config),
    /// EfficientNet and MobileNet.
    Efficientnet(efficientnet::Config),
    /// RegNet.
    Regnet(regnet::Config),
    /// ResNet.
    Resnet(resnet::Config),
    /// ResNet V2.
    #[serde(rename = "resnetv2")]
    ResnetV2(resnet_v2::Config),
    /// TinyViT.
    TinyVit(tiny_vit::Config),
    /// VGG.
    Vgg(vgg::Config),
    /// DenseNet.
    Densenet(densenet::Config),
}

impl Family {
    /// Appends the children of the whole network.
    pub(super) fn children<'a>(&'a self, net: &mut Children<'a>, build: Build) {
        match self {
            Self::Convnext(config) => config.children(net, build),
            Self::Vit(config) => config.children(net, build),
            Self::Eva(config) => config.children(net, build),
            Self::Swin(config) => config.children(net, build),
            Self::Efficientnet(config) => config.children(net, build),
            Self::Regnet(config) => config.children(net, build),
            Self::Resnet(config) => config.children(net, build),
            Self::ResnetV2(config) => config.children(net, build),
            Self::TinyVit(config) => config.children(net, build),
            Self::Vgg(config) => config.children(net, build),
            Self::Densenet(config) => config.children(net, build),
        }
    }

    /// Returns the family with the shapes of another layout.
    pub(super) fn laid_out(self, layout: Layout) -> Self {
        match self {
            Self::Convnext(config) => Self::Convnext(config.laid_out(layout)),
            other => other,
        }
    }

    /// Returns the number of children at the end that are not part of the body, as a negative number.
    pub(super) fn cut(&self) -> i64 {
        match self {
            Self::Efficientnet(config) => config.body_end(),
            Self::Resnet(_) | Self::Vgg(_) => -2,
            _ => -1,
        }
    }

    /// Returns true if the body ends in a vector for each image, not in a feature map.
    pub(super) fn pools(&self) -> bool {
        matches!(self, Self::Vit(_) | Self::Eva(_))
    }

    /// Returns the image size that the variables depend on; `None` if they do not.
    pub(super) fn image_size(&self) -> Option<[i64; 2]> {
        match self {
            Self::Vit(config) => Some(config.img_size.pair()),
            Self::Eva(config) => Some(config.img_size.pair()),
            Self::Swin(config) => Some(config.img_size.pair()),
            _ => None,
        }
    }

    /// Returns the side of a patch in pixels; `None` if the variables do not depend on the image size.
    pub(super) fn patch(&self) -> Option<i64> {
        match self {
            Self::Vit(config) => Some(config.patch_size),
            Self::Eva(config) => Some(config.patch_size),
            Self::Swin(config) => Some(config.patch_size),
            _ => None,
        }
    }

    /// Returns the height and width of the window to which a variable belongs, for images of a given size;
    /// `None` if it belongs to no window.
    pub(super) fn window(&self, variable: &str, size: [i64; 2]) -> Option<[i64; 2]> {
        match self {
            Self::Swin(config) => config.window(variable, size),
            _ => None,
        }
    }

    /// Returns true if the network has stochastic depth.
    pub(super) fn has_drop_path(&self) -> bool {
        !matches!(self, Self::Vgg(_) | Self::Densenet(_))
    }

    /// Returns prefixes of variables after the body that are not inside a child.
    pub(super) fn beyond(&self, layout: Layout) -> &'static [&'static str] {
        match (self, layout) {
            (Self::Vit(_), Layout::Timm) => &["head_dist."],
            (Self::Efficientnet(config), Layout::Timm) if config.pools_first() => {
                &["conv_head.", "norm_head."]
            }
            (Self::Convnext(_), Layout::Torchvision) => &["classifier."],
            _ => &[],
        }
    }

    /// Returns the kinds of the blocks of each stage; empty for families without such blocks.
    pub(super) fn block_kinds(&self) -> Vec<Vec<BlockKind>> {
        match self {
            Self::Efficientnet(config) => config.kinds(),
            _ => vec![],
        }
    }

    /// Returns true if the network is one of torchvision's MobileNetV2.
    pub(super) fn is_mobilenet_v2(&self) -> bool {
        matches!(self, Self::Efficientnet(config) if config.is_mobilenet_v2())
    }

    /// Returns true if the options are consistent, as far as their types do not ensure it.
    #[cfg(test)]
    pub(super) fn is_valid(&self) -> bool {
        match self {
            Self::Efficientnet(config) => config.is_readable(),
            _ => true,
        }
    }
}
