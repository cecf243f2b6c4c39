//! The architectures of this crate, and the weights that torchvision publishes for them.
//!
//! The cut of a body and its split into groups are those of fastai's
//! [`model_meta`](https://docs.fast.ai/vision.learner.html), and its default for the architectures that are
//! not in it: the last pooling layer, and one group. The default weights are fastai's choice too:
//! torchvision's newest for those in `model_meta`, the first for the others.

use super::{
    Arch, Weights, body::Children, densenet, efficientnet, mobilenet, networks, resnet, squeezenet,
    vgg, xresnet,
};
use crate::error::{Error, Result};

/// An architecture of this crate.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    /// Appends the children for numbers of inputs and outputs, including torchvision's classifier.
    pub(super) children: fn(&mut Children<'_>, i64, i64),
    /// The number of children that a body keeps or, if negative, that it removes at the end.
    pub(super) cut: i64,
    /// The first child of each group of the body except the first group.
    pub(super) splits: &'static [usize],
    /// The number of channels of the last feature map.
    pub(super) features: i64,
    /// The published weights, the default first.
    pub(super) weights: &'static [Weights],
}

const fn v1(file: &'static str) -> Weights {
    Weights::torchvision("IMAGENET1K_V1", file, 224.0 / 256.0)
}

const fn v2(file: &'static str) -> Weights {
    Weights::torchvision("IMAGENET1K_V2", file, 224.0 / 232.0)
}

/// Weights of the convolutions only: the values of the classifier in the file are not finite.
const VGG16_FEATURES: Weights = Weights {
    name: "IMAGENET1K_FEATURES",
    mean: [0.48235, 0.45882, 0.40784],
    std: [1.0 / 255.0; 3],
    classes: 0,
    ..v1("vgg16_features-amdegroot-88682ab5.pth")
};

/// Weights trained by Google on values from -1 to 1, published by timm.
const fn timm_tf(file: &'static str) -> Weights {
    Weights::google("in1k", file)
}

const fn basic(blocks: [usize; 4]) -> resnet::Shape {
    resnet::Shape { blocks, bottleneck: false, groups: 1, group_width: 64 }
}

const fn bottleneck(blocks: [usize; 4], groups: i64, group_width: i64) -> resnet::Shape {
    resnet::Shape { blocks, bottleneck: true, groups, group_width }
}

const fn dense(growth: i64, blocks: [usize; 4], stem: i64) -> densenet::Shape {
    densenet::Shape { growth, blocks, stem, drop: 0.0 }
}

const fn xres(blocks: [usize; 4], expansion: i64) -> xresnet::Shape {
    xresnet::Shape { blocks, expansion }
}

/// Declares the constructor of each architecture, with its documentation, and the table of them.
macro_rules! zoo {
    ($($(#[$doc:meta])* $name:ident: $children:expr, cut $cut:literal, splits $splits:expr,
        features $features:literal, weights $weights:expr;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name() -> Arch {
                static ENTRY: Entry = Entry {
                    name: stringify!($name),
                    children: $children,
                    cut: $cut,
                    splits: &$splits,
                    features: $features,
                    weights: &$weights,
                };
                Arch::shipped(&ENTRY)
            }
        )*

        /// Returns every architecture of this crate, by family and size.
        #[must_use]
        pub fn all() -> Vec<Arch> {
            vec![$($name()),*]
        }
    };
}

zoo! {
    /// ResNet-18 ([He et al.](https://arxiv.org/abs/1512.03385)): 11.2 million parameters in the body,
    /// 512 features.
    resnet18: |net, n, out| resnet::children(net, n, basic([2, 2, 2, 2]), out),
        cut -2, splits [6], features 512, weights [v1("resnet18-f37072fd.pth")];
    /// ResNet-34 ([He et al.](https://arxiv.org/abs/1512.03385)): 21.3 million parameters in the body,
    /// 512 features.
    resnet34: |net, n, out| resnet::children(net, n, basic([3, 4, 6, 3]), out),
        cut -2, splits [6], features 512, weights [v1("resnet34-b627a593.pth")];
    /// ResNet-50 ([He et al.](https://arxiv.org/abs/1512.03385)): 23.5 million parameters in the body,
    /// 2048 features.
    resnet50: |net, n, out| resnet::children(net, n, bottleneck([3, 4, 6, 3], 1, 64), out),
        cut -2, splits [6], features 2048,
        weights [v2("resnet50-11ad3fa6.pth"), v1("resnet50-0676ba61.pth")];
    /// ResNet-101 ([He et al.](https://arxiv.org/abs/1512.03385)): 42.5 million parameters in the body,
    /// 2048 features.
    resnet101: |net, n, out| resnet::children(net, n, bottleneck([3, 4, 23, 3], 1, 64), out),
        cut -2, splits [6], features 2048,
        weights [v2("resnet101-cd907fc2.pth"), v1("resnet101-63fe2227.pth")];
    /// ResNet-152 ([He et al.](https://arxiv.org/abs/1512.03385)): 58.1 million parameters in the body,
    /// 2048 features.
    resnet152: |net, n, out| resnet::children(net, n, bottleneck([3, 8, 36, 3], 1, 64), out),
        cut -2, splits [6], features 2048,
        weights [v2("resnet152-f82ba261.pth"), v1("resnet152-394f9c45.pth")];
    /// ResNet-50 with twice the width inside its blocks
    /// ([Zagoruyko and Komodakis](https://arxiv.org/abs/1605.07146)): 66.8 million parameters in the
    /// body, 2048 features.
    wide_resnet50_2: |net, n, out| resnet::children(net, n, bottleneck([3, 4, 6, 3], 1, 128), out),
        cut -2, splits [], features 2048,
        weights [v1("wide_resnet50_2-95faca4d.pth"), v2("wide_resnet50_2-9ba9bcbe.pth")];
    /// ResNet-101 with twice the width inside its blocks
    /// ([Zagoruyko and Komodakis](https://arxiv.org/abs/1605.07146)): 124.8 million parameters in the
    /// body, 2048 features.
    wide_resnet101_2: |net, n, out| resnet::children(net, n, bottleneck([3, 4, 23, 3], 1, 128), out),
        cut -2, splits [], features 2048,
        weights [v1("wide_resnet101_2-32ee1156.pth"), v2("wide_resnet101_2-d733dc28.pth")];
    /// ResNeXt-50 with 32 groups 4 wide ([Xie et al.](https://arxiv.org/abs/1611.05431)): 23.0 million
    /// parameters in the body, 2048 features.
    resnext50_32x4d: |net, n, out| resnet::children(net, n, bottleneck([3, 4, 6, 3], 32, 4), out),
        cut -2, splits [], features 2048,
        weights [v1("resnext50_32x4d-7cdf4587.pth"), v2("resnext50_32x4d-1a0047aa.pth")];
    /// ResNeXt-101 with 32 groups 8 wide ([Xie et al.](https://arxiv.org/abs/1611.05431)): 86.7 million
    /// parameters in the body, 2048 features.
    resnext101_32x8d: |net, n, out| resnet::children(net, n, bottleneck([3, 4, 23, 3], 32, 8), out),
        cut -2, splits [], features 2048,
        weights [v1("resnext101_32x8d-8ba56ff5.pth"), v2("resnext101_32x8d-110c445d.pth")];
    /// ResNeXt-101 with 64 groups 4 wide ([Xie et al.](https://arxiv.org/abs/1611.05431)): 81.4 million
    /// parameters in the body, 2048 features.
    resnext101_64x4d: |net, n, out| resnet::children(net, n, bottleneck([3, 4, 23, 3], 64, 4), out),
        cut -2, splits [], features 2048, weights [v1("resnext101_64x4d-173b62eb.pth")];
    /// fastai's xresnet-18 ([He et al.](https://arxiv.org/abs/1812.01187)): 11.2 million parameters in
    /// the body, 512 features. No weights are published: train it from
    /// scratch.
    xresnet18: |net, n, out| xresnet::children(net, n, xres([2, 2, 2, 2], 1), out),
        cut -4, splits [3], features 512, weights [];
    /// fastai's xresnet-34 ([He et al.](https://arxiv.org/abs/1812.01187)): 21.3 million parameters in
    /// the body, 512 features. No weights are published.
    xresnet34: |net, n, out| xresnet::children(net, n, xres([3, 4, 6, 3], 1), out),
        cut -4, splits [3], features 512, weights [];
    /// fastai's xresnet-50 ([He et al.](https://arxiv.org/abs/1812.01187)): 23.5 million parameters in
    /// the body, 2048 features. No weights are published with a hash in the file name.
    xresnet50: |net, n, out| xresnet::children(net, n, xres([3, 4, 6, 3], 4), out),
        cut -4, splits [3], features 2048, weights [];
    /// VGG-11 with batch normalization ([Simonyan and Zisserman](https://arxiv.org/abs/1409.1556)):
    /// 9.2 million parameters in the body, 512 features.
    vgg11_bn: |net, n, out| vgg::children(net, n, [1, 1, 2, 2, 2], true, out),
        cut -2, splits [22], features 512, weights [v1("vgg11_bn-6002323d.pth")];
    /// VGG-13 with batch normalization ([Simonyan and Zisserman](https://arxiv.org/abs/1409.1556)):
    /// 9.4 million parameters in the body, 512 features.
    vgg13_bn: |net, n, out| vgg::children(net, n, [2, 2, 2, 2, 2], true, out),
        cut -2, splits [22], features 512, weights [v1("vgg13_bn-abd245e5.pth")];
    /// VGG-16 with batch normalization ([Simonyan and Zisserman](https://arxiv.org/abs/1409.1556)):
    /// 14.7 million parameters in the body, 512 features.
    vgg16_bn: |net, n, out| vgg::children(net, n, [2, 2, 3, 3, 3], true, out),
        cut -2, splits [22], features 512, weights [v1("vgg16_bn-6c64b313.pth")];
    /// VGG-19 with batch normalization ([Simonyan and Zisserman](https://arxiv.org/abs/1409.1556)):
    /// 20.0 million parameters in the body, 512 features.
    vgg19_bn: |net, n, out| vgg::children(net, n, [2, 2, 4, 4, 4], true, out),
        cut -2, splits [22], features 512, weights [v1("vgg19_bn-c79401a0.pth")];
    /// VGG-11 ([Simonyan and Zisserman](https://arxiv.org/abs/1409.1556)): 9.2 million parameters in the
    /// body, 512 features.
    vgg11: |net, n, out| vgg::children(net, n, [1, 1, 2, 2, 2], false, out),
        cut -2, splits [], features 512, weights [v1("vgg11-8a719046.pth")];
    /// VGG-13 ([Simonyan and Zisserman](https://arxiv.org/abs/1409.1556)): 9.4 million parameters in the
    /// body, 512 features.
    vgg13: |net, n, out| vgg::children(net, n, [2, 2, 2, 2, 2], false, out),
        cut -2, splits [], features 512, weights [v1("vgg13-19584684.pth")];
    /// VGG-16 ([Simonyan and Zisserman](https://arxiv.org/abs/1409.1556)): 14.7 million parameters in the
    /// body, 512 features.
    vgg16: |net, n, out| vgg::children(net, n, [2, 2, 3, 3, 3], false, out),
        cut -2, splits [], features 512, weights [v1("vgg16-397923af.pth"), VGG16_FEATURES];
    /// VGG-19 ([Simonyan and Zisserman](https://arxiv.org/abs/1409.1556)): 20.0 million parameters in the
    /// body, 512 features.
    vgg19: |net, n, out| vgg::children(net, n, [2, 2, 4, 4, 4], false, out),
        cut -2, splits [], features 512, weights [v1("vgg19-dcbb9e9d.pth")];
    /// DenseNet-121 ([Huang et al.](https://arxiv.org/abs/1608.06993)): 7.0 million parameters in the
    /// body, 1024 features.
    densenet121: |net, n, out| densenet::children(net, n, dense(32, [6, 12, 24, 16], 64), out),
        cut -1, splits [7], features 1024, weights [v1("densenet121-a639ec97.pth")];
    /// DenseNet-161 ([Huang et al.](https://arxiv.org/abs/1608.06993)): 26.5 million parameters in the
    /// body, 2208 features.
    densenet161: |net, n, out| densenet::children(net, n, dense(48, [6, 12, 36, 24], 96), out),
        cut -1, splits [7], features 2208, weights [v1("densenet161-8d451a50.pth")];
    /// DenseNet-169 ([Huang et al.](https://arxiv.org/abs/1608.06993)): 12.5 million parameters in the
    /// body, 1664 features.
    densenet169: |net, n, out| densenet::children(net, n, dense(32, [6, 12, 32, 32], 64), out),
        cut -1, splits [7], features 1664, weights [v1("densenet169-b2777c0a.pth")];
    /// DenseNet-201 ([Huang et al.](https://arxiv.org/abs/1608.06993)): 18.1 million parameters in the
    /// body, 1920 features.
    densenet201: |net, n, out| densenet::children(net, n, dense(32, [6, 12, 48, 32], 64), out),
        cut -1, splits [7], features 1920, weights [v1("densenet201-c1103571.pth")];
    /// SqueezeNet 1.0 ([Iandola et al.](https://arxiv.org/abs/1602.07360)): 0.7 million parameters in
    /// the body, 512 features.
    squeezenet1_0: |net, n, out| squeezenet::children(net, n, false, out),
        cut -1, splits [5], features 512, weights [v1("squeezenet1_0-b66bff10.pth")];
    /// SqueezeNet 1.1 ([Iandola et al.](https://arxiv.org/abs/1602.07360)), which costs less than half
    /// of 1.0: 0.7 million parameters in the body, 512 features.
    squeezenet1_1: |net, n, out| squeezenet::children(net, n, true, out),
        cut -1, splits [5], features 512, weights [v1("squeezenet1_1-b8a52dc0.pth")];
    /// AlexNet ([Krizhevsky](https://arxiv.org/abs/1404.5997)): 2.5 million parameters in the body,
    /// 256 features. It needs images of at least 64 pixels.
    alexnet: |net, n, out| vgg::alexnet(net, n, out),
        cut -2, splits [6], features 256, weights [v1("alexnet-owt-7be5be79.pth")];
    /// MobileNet v3 small ([Howard et al.](https://arxiv.org/abs/1905.02244)): 0.9 million parameters in
    /// the body, 576 features.
    mobilenet_v3_small: |net, n, out| mobilenet::children(net, n, mobilenet::SMALL, 1024, out),
        cut -2, splits [], features 576, weights [v1("mobilenet_v3_small-047dcff4.pth")];
    /// MobileNet v3 large ([Howard et al.](https://arxiv.org/abs/1905.02244)): 3.0 million parameters in
    /// the body, 960 features.
    mobilenet_v3_large: |net, n, out| mobilenet::children(net, n, mobilenet::LARGE, 1280, out),
        cut -2, splits [], features 960,
        weights [v1("mobilenet_v3_large-8738ca79.pth"), v2("mobilenet_v3_large-5c1a4163.pth")];
    /// EfficientNet b0 ([Tan and Le](https://arxiv.org/abs/1905.11946)): 4.0 million parameters in the
    /// body, 1280 features.
    efficientnet_b0: |net, n, out| efficientnet::children(net, n, efficientnet::Kind::Full, out),
        cut -2, splits [], features 1280, weights [v1("efficientnet_b0_rwightman-7f5810bc.pth")];
    /// EfficientNet-Lite0, timm's `tf_efficientnet_lite0`: 3.4 million parameters in the body, 1280 features.
    /// Its weights expect values from -1 to 1, and come from timm.
    efficientnet_lite0: |net, n, out| efficientnet::children(net, n, efficientnet::Kind::Lite, out),
        cut -2, splits [], features 1280, weights [timm_tf("tf_efficientnet_lite0-0aa007d2.pth")];
}

/// Returns the architecture called `name`: a function of this module, a name of torchvision, or one of
/// timm, with or without its tag, such as `vit_small_patch14_dinov2.lvd142m`.
///
/// Variables have the names of the network's publisher, so that its weights can be loaded. A plain name
/// that both libraries have is torchvision's; the prefix `timm/` selects timm's. [`list`](super::list)
/// returns all names.
///
/// ```
/// use finetune::model::by_name;
///
/// let arch = by_name("convnext_tiny.in12k_ft_in1k")?;
/// assert_eq!((arch.features()?, arch.weights().unwrap().crop_pct), (768, 0.95));
/// let error = by_name("convnext_tinny").unwrap_err().to_string();
/// assert!(error.contains("convnext_tiny"), "{error}");
/// # Ok::<(), finetune::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`] with the nearest names if there is no such network.
pub fn by_name(name: &str) -> Result<Arch> {
    let all = all();
    let own = name.strip_prefix("torchvision/").unwrap_or(name);
    if let Some(arch) = all.iter().find(|a| a.name() == own) {
        return Ok(arch.clone());
    }
    if let Some((network, weights)) = networks::find(name) {
        return Ok(Arch::of_table(name, network, weights));
    }
    let plain = name.strip_prefix("timm/").unwrap_or(own);
    let known: Vec<String> = networks::list("*").into_iter().map(|n| n.name).collect();
    // A name without a tag is compared with names without tags.
    let untagged = |n: &String| n.split('.').next().unwrap_or(n).to_owned();
    let short: Vec<String> = known.iter().map(untagged).collect();
    let candidates = if plain.contains('.') { &known } else { &short };
    let nearest = networks::nearest(plain, candidates.iter().map(String::as_str), 3);
    // A name may be from a file.
    let shown: String = name.chars().take(100).collect();
    let why = format!(
        "there is no network `{shown}`; the nearest names are {}. `finetune::model::list` returns all",
        nearest.join(", ")
    );
    Err(Error::config("arch", why))
}
