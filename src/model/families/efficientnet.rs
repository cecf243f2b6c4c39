//! Networks of inverted residuals, with timm's names and shapes: EfficientNet of both versions and Lite,
//! and MobileNet V2, V3 and V4.
//!
//! Tan and Le, [EfficientNet](https://arxiv.org/abs/1905.11946) and
//! [EfficientNetV2](https://arxiv.org/abs/2104.00298); Sandler et al.,
//! [MobileNetV2](https://arxiv.org/abs/1801.04381); Howard et al.,
//! [MobileNetV3](https://arxiv.org/abs/1905.02244); Qin et al.,
//! [MobileNetV4](https://arxiv.org/abs/2404.10518).

use super::{
    attention::attend,
    build::Build,
    classifier::linear_classifier,
    conv::{BatchNormOptions, Conv, Conv2d, ConvNormAct, NormAct, Squeeze},
    drop_path::DropPath,
    linear::scale,
};
use crate::model::{body::Children, layers::Activation};
use serde::Deserialize;
use tch::{
    Tensor,
    nn::{ModuleT, Path},
};

/// The options of the family.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::model) struct Config {
    /// The number of channels of the first convolution.
    stem: i64,
    /// The blocks of each stage in timm's notation, for example `ir_r2_k3_s2_m96_c24_se4`, where `m` and
    /// `c` are the widths inside and after a block.
    blocks: Vec<Vec<String>>,
    /// The number of channels of the last convolution; 0 for none.
    head: i64,
    /// If true, the last convolution comes after pooling.
    pool_first: bool,
    head_norm: bool,
    head_bias: bool,
    act: Activation,
    gate: Activation,
    /// The activation inside squeeze-and-excitation, if not the block's.
    se_act: Option<Activation>,
    same: bool,
    bn_eps: f64,
    bn_momentum: f64,
    ls_init_value: f64,
    drop_rate: f64,
    drop_path_rate: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stem: 32,
            blocks: vec![],
            head: 1280,
            pool_first: false,
            head_norm: false,
            head_bias: true,
            act: Activation::Relu,
            gate: Activation::Sigmoid,
            se_act: None,
            same: false,
            bn_eps: 1e-5,
            bn_momentum: 0.1,
            ls_init_value: 1e-5,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
        }
    }
}

/// The kind of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `cn`: one convolution.
    Conv,
    /// `ds`: a depthwise and a pointwise convolution; `dsa` with an activation at the end.
    Separable { act: bool },
    /// `ir`: expands, applies a depthwise convolution, projects.
    Inverted,
    /// `er`: expands with a full convolution, projects.
    Edge,
    /// `uir`: with optional depthwise convolutions before, between and after.
    Universal,
    /// `mqa`: attention with one key and value for all heads.
    MultiQuery,
    /// `mha`: attention.
    MultiHead,
}

/// The kinds of blocks that torchvision also has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum BlockKind {
    /// One convolution.
    Conv,
    /// A depthwise and a pointwise convolution.
    Separable,
    /// Expands, applies a depthwise convolution, projects.
    Inverted,
    /// Expands with a full convolution, projects.
    Edge,
}

/// A block in timm's notation.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockSpec {
    kind: Kind,
    repeats: usize,
    size: i64,
    /// `a` and `p`: kernel sizes of the depthwise convolutions before and after.
    before: i64,
    after: i64,
    stride: i64,
    middle: i64,
    c_out: i64,
    squeezed: Option<i64>,
    group: Option<i64>,
    heads: i64,
    key: i64,
    kv_stride: i64,
    skip: Option<bool>,
    scaled: bool,
    act: Option<Activation>,
}

impl BlockSpec {
    /// Parses the notation; `None` if it is invalid.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('_');
        let kind = match parts.next()? {
            "cn" => Kind::Conv,
            "ds" => Kind::Separable { act: false },
            "dsa" => Kind::Separable { act: true },
            "ir" => Kind::Inverted,
            "er" => Kind::Edge,
            "uir" => Kind::Universal,
            "mqa" => Kind::MultiQuery,
            "mha" => Kind::MultiHead,
            _ => return None,
        };
        let mut spec = Self {
            kind,
            repeats: 1,
            size: 3,
            before: 0,
            after: if kind == Kind::Universal { 0 } else { 1 },
            stride: 1,
            middle: 0,
            c_out: 0,
            squeezed: None,
            group: None,
            heads: 1,
            key: 0,
            kv_stride: 1,
            skip: None,
            scaled: false,
            act: None,
        };
        for part in parts {
            match part {
                "skip" => spec.skip = Some(true),
                "noskip" => spec.skip = Some(false),
                "ls" => spec.scaled = true,
                "nre" => spec.act = Some(Activation::Relu),
                "nr6" => spec.act = Some(Activation::Relu6),
                "nhs" => spec.act = Some(Activation::HardSwish),
                "nsw" => spec.act = Some(Activation::Silu),
                "nmi" => spec.act = Some(Activation::Mish),
                _ => {
                    let digits = part.find(|c: char| c.is_ascii_digit())?;
                    let (key, value) = part.split_at(digits);
                    let value: i64 = value.parse().ok()?;
                    match key {
                        "r" => spec.repeats = usize::try_from(value).ok()?,
                        "k" => spec.size = value,
                        "a" => spec.before = value,
                        "p" => spec.after = value,
                        "s" => spec.stride = value,
                        "m" => spec.middle = value,
                        "c" => spec.c_out = value,
                        "se" => spec.squeezed = Some(value),
                        "gs" => spec.group = Some(value),
                        "h" => spec.heads = value,
                        "d" => spec.key = value,
                        "v" => spec.kv_stride = value,
                        _ => return None,
                    }
                }
            }
        }
        (spec.c_out > 0).then_some(spec)
    }
}

impl Config {
    /// Returns the individual blocks of each stage.
    pub(super) fn stages(&self) -> Vec<Vec<BlockSpec>> {
        let stage = |texts: &Vec<String>| {
            let specs = texts.iter().filter_map(|text| BlockSpec::parse(text));
            specs.flat_map(|spec| std::iter::repeat_n(spec, spec.repeats)).collect()
        };
        self.blocks.iter().map(stage).collect()
    }

    /// Returns the kinds of the blocks of each stage.
    pub(super) fn kinds(&self) -> Vec<Vec<BlockKind>> {
        let kind = |spec: BlockSpec| match spec.kind {
            Kind::Conv => BlockKind::Conv,
            Kind::Separable { .. } => BlockKind::Separable,
            Kind::Edge => BlockKind::Edge,
            _ => BlockKind::Inverted,
        };
        self.stages().into_iter().map(|s| s.into_iter().map(kind).collect()).collect()
    }

    /// Returns true if the network is one of torchvision's MobileNetV2.
    pub(super) fn is_mobilenet_v2(&self) -> bool {
        self.act == Activation::Relu6
    }

    /// Returns true if the last convolution comes after pooling, and so after the body.
    pub(super) fn pools_first(&self) -> bool {
        self.pool_first
    }

    /// Returns true if all block texts are valid notation.
    #[cfg(test)]
    pub(super) fn is_readable(&self) -> bool {
        self.blocks.iter().flatten().all(|text| BlockSpec::parse(text).is_some())
    }

    fn norm(&self) -> BatchNormOptions {
        BatchNormOptions { eps: self.bn_eps, momentum: self.bn_momentum, weight: 1.0 }
    }

    fn conv(&self, c_in: i64, c_out: i64, size: i64) -> Conv {
        Conv::new(c_in, c_out, size).same(self.same)
    }

    /// Builds a convolution with its normalization, with the names `names`.
    fn layer(
        &self,
        path: &Path<'_>,
        names: [&str; 2],
        conv: Conv,
        act: Option<Activation>,
    ) -> ConvNormAct {
        ConvNormAct::named(path, names, conv, self.norm(), act)
    }

    fn squeeze(&self, path: &Path<'_>, spec: &BlockSpec, channels: i64) -> Option<Part> {
        let squeezed = spec.squeezed?;
        let act = self.se_act.or(spec.act).unwrap_or(self.act);
        let names = ["conv_reduce", "conv_expand"];
        Some(Part::Squeeze(Squeeze::new(
            &(path / "se"),
            names,
            (channels, squeezed),
            act,
            self.gate,
        )))
    }

    fn block(&self, path: &Path<'_>, c_in: i64, spec: &BlockSpec, drop: DropPath) -> Block {
        let act = Some(spec.act.unwrap_or(self.act));
        let BlockSpec { size, stride, middle, c_out, .. } = *spec;
        let depthwise = |channels: i64, size: i64, stride: i64| {
            let groups = channels / spec.group.unwrap_or(1);
            self.conv(channels, channels, size).stride(stride).groups(groups)
        };
        let layer = |names, conv, act| Some(Part::Conv(self.layer(path, names, conv, act)));
        let sub = |name: &str, conv, act| {
            Some(Part::Conv(ConvNormAct::new(&(path / name), conv, self.norm(), act)))
        };
        let parts = match spec.kind {
            Kind::Conv => {
                vec![layer(["conv", "bn1"], self.conv(c_in, c_out, size).stride(stride), act)]
            }
            Kind::Separable { act: last } => vec![
                layer(["conv_dw", "bn1"], depthwise(c_in, size, stride), act),
                self.squeeze(path, spec, c_in),
                layer(["conv_pw", "bn2"], self.conv(c_in, c_out, spec.after), act.filter(|_| last)),
            ],
            Kind::Inverted => vec![
                layer(["conv_pw", "bn1"], self.conv(c_in, middle, 1), act),
                layer(["conv_dw", "bn2"], depthwise(middle, size, stride), act),
                self.squeeze(path, spec, middle),
                layer(["conv_pwl", "bn3"], self.conv(middle, c_out, 1), None),
            ],
            Kind::Edge => vec![
                layer(["conv_exp", "bn1"], self.conv(c_in, middle, size).stride(stride), act),
                self.squeeze(path, spec, middle),
                layer(["conv_pwl", "bn2"], self.conv(middle, c_out, 1), None),
            ],
            Kind::Universal => {
                // The stride is applied in the middle convolution, otherwise in the first, otherwise in the
                // last.
                let (before, between, after) = (spec.before, size, spec.after);
                let strides = if between > 0 {
                    [1, stride, 1]
                } else if before > 0 {
                    [stride, 1, 1]
                } else {
                    [1, 1, stride]
                };
                vec![
                    (before > 0)
                        .then(|| sub("dw_start", depthwise(c_in, before, strides[0]), None))
                        .flatten(),
                    sub("pw_exp", self.conv(c_in, middle, 1), act),
                    (between > 0)
                        .then(|| sub("dw_mid", depthwise(middle, between, strides[1]), act))
                        .flatten(),
                    self.squeeze(path, spec, middle),
                    sub("pw_proj", self.conv(middle, c_out, 1), None),
                    (after > 0)
                        .then(|| sub("dw_end", depthwise(c_out, after, strides[2]), None))
                        .flatten(),
                ]
            }
            Kind::MultiQuery | Kind::MultiHead => vec![
                Some(Part::Norm(NormAct::new(&(path / "norm"), c_in, self.norm(), None))),
                Some(Part::Attention(Attention::new(&(path / "attn"), self, c_in, spec))),
            ],
        };
        let fits = stride == 1 && c_in == c_out;
        let by_default = !matches!(spec.kind, Kind::Conv);
        let gamma = spec
            .scaled
            .then(|| scale(&(path / "layer_scale"), "gamma", &[c_out], self.ls_init_value));
        Block {
            parts: parts.into_iter().flatten().collect(),
            gamma,
            skip: fits && spec.skip.unwrap_or(by_default),
            drop,
        }
    }

    pub(super) fn children<'a>(&'a self, net: &mut Children<'a>, build: Build) {
        let stem = self.stem;
        net.at_root("conv_stem", move |p| {
            let conv = self.conv(build.n_in, stem, 3).stride(2).first();
            self.layer(p, ["conv_stem", "bn1"], conv, Some(self.act))
        });
        let stages = self.stages();
        let total: usize = stages.iter().map(Vec::len).sum();
        let rate = build.drop_path.unwrap_or(self.drop_path_rate);
        let (mut c_in, mut done) = (stem, 0);
        for (i, stage) in stages.into_iter().enumerate() {
            for (j, spec) in stage.into_iter().enumerate() {
                let drop = DropPath::new(rate * done as f64 / total as f64);
                let before = c_in;
                let block = move |p: &Path<'_>| self.block(p, before, &spec, drop);
                net.add(format!("blocks.{i}.{j}"), block).layer().block();
                (c_in, done) = (spec.c_out, done + 1);
            }
        }
        let drop = build.drop.unwrap_or(self.drop_rate);
        if self.pool_first {
            net.step("global_pool", |x| x.adaptive_avg_pool2d([1, 1])).last_layer();
            net.at_root("conv_head", move |p| {
                let conv = self.conv(c_in, self.head, 1);
                if self.head_norm {
                    let names = ["conv_head", "norm_head"];
                    return Part::Conv(self.layer(p, names, conv, Some(self.act)));
                }
                let conv = conv.bias(self.head_bias).build(&(p / "conv_head"));
                Part::ConvAct(conv, self.act)
            });
            net.step("flatten", |x| x.flatten(1, -1));
            linear_classifier(net, "classifier", (self.head, build.n_out), drop);
            return;
        }
        let features = if self.head > 0 { self.head } else { c_in };
        if self.head > 0 {
            net.at_root("conv_head", move |p| {
                let conv = self.conv(c_in, self.head, 1);
                self.layer(p, ["conv_head", "bn2"], conv, Some(self.act))
            });
        }
        net.step("global_pool", |x| x.adaptive_avg_pool2d([1, 1]).flatten(1, -1));
        linear_classifier(net, "classifier", (features, build.n_out), drop);
    }

    /// Returns the number of channels of the last feature map, and the number of children after it.
    pub(super) fn body_end(&self) -> i64 {
        if self.pool_first { -4 } else { -2 }
    }
}

/// A part of a block.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a network holds a few dozen of them")]
enum Part {
    Conv(ConvNormAct),
    ConvAct(Conv2d, Activation),
    Norm(NormAct),
    Squeeze(Squeeze),
    Attention(Attention),
}

impl ModuleT for Part {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        match self {
            Self::Conv(layer) => layer.forward(x, train),
            Self::ConvAct(conv, act) => act.apply(conv.forward(x), train),
            Self::Norm(norm) => norm.forward(x, train),
            Self::Squeeze(layer) => layer.forward(x, train),
            Self::Attention(layer) => layer.forward(x, train),
        }
    }
}

/// Sequential parts, optionally scaled, optionally with a residual connection.
#[derive(Debug)]
struct Block {
    parts: Vec<Part>,
    gamma: Option<Tensor>,
    skip: bool,
    drop: DropPath,
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let y = self.parts.iter().fold(x.shallow_clone(), |x, part| part.forward_t(&x, train));
        let y = match &self.gamma {
            Some(gamma) => y * gamma.view([1, -1, 1, 1]),
            None => y,
        };
        if self.skip { self.drop.apply(y, train) + x } else { y }
    }
}

/// Attention between the pixels of a feature map.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a network holds a few dozen of them")]
enum Attention {
    /// One key and value for all heads, from a smaller map.
    MultiQuery {
        heads: i64,
        query: Conv2d,
        key: Vec<Part>,
        value: Vec<Part>,
        key_proj: Conv2d,
        value_proj: Conv2d,
        output: Conv2d,
    },
    /// A key and value per head.
    MultiHead { heads: i64, qkv: Conv2d, proj: Conv2d },
}

impl Attention {
    fn new(path: &Path<'_>, config: &Config, dim: i64, spec: &BlockSpec) -> Self {
        let BlockSpec { heads, key, kv_stride, size, c_out, .. } = *spec;
        let plain = |path: &Path<'_>, c_in, c_out| Conv::new(c_in, c_out, 1).build(path);
        if spec.kind == Kind::MultiHead {
            let qkv = plain(&(path / "qkv"), dim, 3 * dim);
            return Self::MultiHead { heads, qkv, proj: plain(&(path / "proj"), dim, c_out) };
        }
        let smaller = |name: &str| {
            let path = path / name;
            let conv = config.conv(dim, dim, size).stride(kv_stride).groups(dim);
            let layer = || Part::Conv(config.layer(&path, ["down_conv", "norm"], conv, None));
            (kv_stride > 1).then(layer).into_iter().collect()
        };
        Self::MultiQuery {
            heads,
            query: plain(&(path / "query" / "proj"), dim, heads * key),
            key: smaller("key"),
            key_proj: plain(&(path / "key" / "proj"), dim, key),
            value: smaller("value"),
            value_proj: plain(&(path / "value" / "proj"), dim, key),
            output: plain(&(path / "output" / "proj"), heads * key, c_out),
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let size = x.size();
        let (n, height, width) = (size[0], size[2], size[3]);
        match self {
            Self::MultiQuery { heads, query, key, value, key_proj, value_proj, output } => {
                let q = query.forward(x).reshape([n, *heads, -1, height * width]).transpose(2, 3);
                let one = |parts: &[Part], proj: &Conv2d| {
                    let x = parts.iter().fold(x.shallow_clone(), |x, p| p.forward_t(&x, train));
                    let tokens = proj.forward(&x).flatten(2, -1).transpose(1, 2).unsqueeze(1);
                    tokens.expand([-1, *heads, -1, -1], false)
                };
                let y = attend(&q.contiguous(), &one(key, key_proj), &one(value, value_proj), None);
                let y = y.transpose(2, 3).reshape([n, -1, height, width]);
                output.forward(&y)
            }
            Self::MultiHead { heads, qkv, proj } => {
                let all = qkv.forward(x).reshape([n, 3, *heads, -1, height * width]);
                let part = |i| all.select(1, i).transpose(2, 3).contiguous();
                let y = attend(&part(0), &part(1), &part(2), None);
                proj.forward(&y.transpose(2, 3).reshape([n, -1, height, width]))
            }
        }
    }
}
