//! RegNet X, Y and Z, with timm's names and shapes.
//!
//! Radosavovic et al., [Designing Network Design Spaces](https://arxiv.org/abs/2003.13678).

use super::{
    build::Build,
    classifier::pooled_classifier,
    conv::{BatchNormOptions, Conv, ConvNormAct, Squeeze},
    drop_path::DropPath,
};
use crate::model::{body::Children, layers::Activation};
use serde::Deserialize;
use tch::{
    Tensor,
    nn::{ModuleT, Path},
};

/// The shortcut of a block that changes the shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shortcut {
    /// A 1×1 convolution.
    Conv1x1,
    /// No shortcut.
    None,
}

/// The options of the family.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::model) struct Config {
    stem: i64,
    /// The number of blocks, width, width inside a block and width of a group, of each stage.
    stages: Vec<(usize, i64, i64, i64)>,
    /// The ratio of the channels of squeeze-and-excitation to those of the block's input; 0 for none.
    se_ratio: f64,
    downsample: Shortcut,
    linear_out: bool,
    /// The number of channels of a last convolution; 0 for none.
    #[serde(rename = "final")]
    last: i64,
    act: Activation,
    drop_rate: f64,
    drop_path_rate: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stem: 32,
            stages: vec![],
            se_ratio: 0.0,
            downsample: Shortcut::Conv1x1,
            linear_out: false,
            last: 0,
            act: Activation::Relu,
            drop_rate: 0.0,
            drop_path_rate: 0.0,
        }
    }
}

impl Config {
    pub(super) fn children<'a>(&'a self, net: &mut Children<'a>, build: Build) {
        let (options, act) = (BatchNormOptions::default(), self.act);
        net.add("stem", move |p| {
            let conv = Conv::new(build.n_in, self.stem, 3).stride(2).first();
            ConvNormAct::new(p, conv, options, Some(act))
        });
        let rate = build.drop_path.unwrap_or(self.drop_path_rate);
        let (total, mut done) = (self.stages.iter().map(|s| s.0).sum(), 0);
        let mut c_in = self.stem;
        for (i, &(depth, width, middle, group)) in (1..).zip(&self.stages) {
            for j in 0..depth {
                let shape =
                    Shape { c_in, c_out: width, middle, group, stride: 1 + i64::from(j == 0) };
                let drop = DropPath::linear(rate, done + j, total);
                let block = move |p: &Path<'_>| Block::new(p, self, shape, drop);
                net.add(format!("s{i}.b{}", j + 1), block).layer().block();
                c_in = width;
            }
            done += depth;
        }
        let mut features = c_in;
        if self.last > 0 {
            let conv = Conv::new(c_in, self.last, 1);
            net.add("final_conv", move |p| ConvNormAct::new(p, conv, options, Some(act)))
                .last_layer();
            features = self.last;
        } else if self.linear_out {
            net.step("final_conv", move |x| act.apply(x.shallow_clone(), true));
        }
        let drop = build.drop.unwrap_or(self.drop_rate);
        pooled_classifier(net, "head", "fc", (features, build.n_out), drop);
    }
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    c_in: i64,
    c_out: i64,
    middle: i64,
    group: i64,
    stride: i64,
}

/// Three convolutions, with squeeze-and-excitation before the last, and a residual connection.
#[derive(Debug)]
struct Block {
    conv1: ConvNormAct,
    conv2: ConvNormAct,
    se: Option<Squeeze>,
    conv3: ConvNormAct,
    downsample: Option<ConvNormAct>,
    /// If true, the input is added.
    residual: bool,
    act: Option<Activation>,
    drop: DropPath,
}

impl Block {
    fn new(path: &Path<'_>, config: &Config, shape: Shape, drop: DropPath) -> Self {
        let Shape { c_in, c_out, middle, group, stride } = shape;
        let (options, act) = (BatchNormOptions::default(), Some(config.act));
        let layer = |name: &str, conv, act| ConvNormAct::new(&(path / name), conv, options, act);
        let groups = middle / group;
        let se = (config.se_ratio > 0.0).then(|| {
            let squeezed = (c_in as f64 * config.se_ratio).round_ties_even() as i64;
            let names = ["fc1", "fc2"];
            let channels = (middle, squeezed);
            Squeeze::new(&(path / "se"), names, channels, config.act, Activation::Sigmoid)
        });
        let changes = c_in != c_out || stride != 1;
        let shortcut = changes && config.downsample == Shortcut::Conv1x1;
        Self {
            conv1: layer("conv1", Conv::new(c_in, middle, 1), act),
            conv2: layer("conv2", Conv::new(middle, middle, 3).stride(stride).groups(groups), act),
            se,
            conv3: layer("conv3", Conv::new(middle, c_out, 1), None),
            downsample: shortcut
                .then(|| layer("downsample", Conv::new(c_in, c_out, 1).stride(stride), None)),
            residual: !changes || shortcut,
            act: act.filter(|_| !config.linear_out),
            drop,
        }
    }
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let y = self.conv2.forward(&self.conv1.forward(x, train), train);
        let y = match &self.se {
            Some(se) => se.forward(&y, train),
            None => y,
        };
        let y = self.conv3.forward(&y, train);
        let y = match &self.downsample {
            _ if !self.residual => y,
            Some(layer) => self.drop.apply(y, train) + layer.forward(x, train),
            None => self.drop.apply(y, train) + x,
        };
        match self.act {
            Some(act) => act.apply(y, train),
            None => y,
        }
    }
}
