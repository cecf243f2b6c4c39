//! The whole decoder, with the layer numbers of fastai's `DynamicUnet`.

use super::{
    block::{UnetBlock, resized},
    conv_layer::{ConvLayer, ConvNormKind, Draws, Layer, fastai_norm},
    options::UnetOptions,
    shuffle::PixelShuffleIcnr,
};
use crate::{
    error::{Error, Result},
    model::{batch_norm::BatchNorm, body::Body, layers::Activation},
    sys::caught,
};
use std::collections::BTreeSet;
use tch::{
    Kind, Tensor,
    nn::{ModuleT, Path},
};

/// A body with a decoder.
#[derive(Debug)]
pub(crate) struct Unet {
    pub(crate) encoder: Body,
    pub(crate) decoder: Decoder,
    /// The names of the decoder's variables. Some bodies have names that start like them.
    pub(crate) own: BTreeSet<String>,
}

impl Unet {
    pub(crate) fn forward_with(
        &self,
        x: &Tensor,
        train: bool,
        visit: &mut dyn FnMut(&str, &Tensor),
    ) -> Tensor {
        let mut skips = Vec::with_capacity(self.decoder.skips.len());
        let mut at = 0;
        let features = self.encoder.forward_with(x, train, &mut |name, out| {
            if self.decoder.skips.contains(&at) {
                skips.extend(self.encoder.feature_map(at, out));
            }
            at += 1;
            visit(name, out);
        });
        let last = at.saturating_sub(1);
        let features = self.encoder.feature_map(last, &features).unwrap_or(features);
        self.decoder.forward_with(x, features, &skips, train, visit)
    }
}

/// A residual block that keeps the size.
#[derive(Debug)]
struct ResBlock {
    convs: [ConvLayer; 2],
    shortcut: Option<ConvLayer>,
    act: Activation,
}

impl ResBlock {
    fn new(path: &Path<'_>, c_in: i64, c_out: i64, options: &UnetOptions) -> Self {
        let draws = Draws::Chosen(options.init);
        let (norm, act) = (options.norm, options.act);
        let convpath = path / "convpath";
        let first = Layer::new(c_in, c_out, 3, draws).norm(norm).act(Some(act));
        let second = Layer::new(c_out, c_out, 3, draws).norm(norm).act(None).zeroed();
        let convs = [first.build(&(&convpath / 0)), second.build(&(&convpath / 1))];
        // fastai normalizes the shortcut regardless of the option.
        let shortcut = (c_in != c_out).then(|| {
            let layer = Layer::new(c_in, c_out, 1, draws).norm(ConvNormKind::Batch).act(None);
            layer.build(&(path / "idpath" / 0))
        });
        Self { convs, shortcut, act }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let y = self.convs.iter().fold(x.shallow_clone(), |y, conv| conv.forward_t(&y, train));
        let y = match &self.shortcut {
            Some(conv) => y + conv.forward_t(x, train),
            None => y + x,
        };
        self.act.apply(y, train)
    }
}

/// The layers after the body.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The children of the body whose outputs are joined, in the order of the body.
    skips: Vec<usize>,
    norm: BatchNorm,
    middle: [ConvLayer; 2],
    /// From the smallest feature map to the largest.
    blocks: Vec<UnetBlock>,
    /// The number of the first layer after the blocks.
    after_blocks: usize,
    shuffle: Option<PixelShuffleIcnr>,
    cross: Option<ResBlock>,
    last: ConvLayer,
    y_range: Option<(f64, f64)>,
}

/// The feature map of one child of a body.
#[derive(Debug, Clone, Copy)]
struct FeatureMap {
    /// The index of the child.
    child: usize,
    channels: i64,
    /// Height and width.
    size: [i64; 2],
}

/// Returns the feature maps of the body for one image of (height, width), in the order of its children. The
/// last one is the output of the body.
fn feature_maps(encoder: &Body, n_in: i64, (height, width): (u32, u32)) -> Result<Vec<FeatureMap>> {
    let _guard = tch::no_grad_guard();
    let (h, w) = (i64::from(height), i64::from(width));
    let x = Tensor::zeros([1, n_in, h, w], (Kind::Float, tch::Device::Cpu));
    let (mut maps, mut children) = (vec![], 0);
    let run = caught(|| {
        Ok(encoder.forward_with(&x, false, &mut |_, out| {
            let size = encoder.feature_map(children, out).map(|map| map.size());
            if let Some(&[_, channels, height, width]) = size.as_deref() {
                maps.push(FeatureMap { child: children, channels, size: [height, width] });
            }
            children += 1;
        }))
    });
    let out = run.map_err(|e| {
        let why = format!(
            "the body does not accept images of {width}x{height} pixels and {n_in} channels: {e}; it may need \
             larger images"
        );
        Error::config("unet_learner", why)
    })?;
    if maps.last().is_none_or(|map| map.child + 1 != children) {
        let why = format!(
            "the body returns {:?} for an image, which is not a feature map, so there are no feature maps of \
             decreasing size for a decoder: use a network whose body ends in a feature map, such as a ResNet, \
             a ConvNeXt or a Swin",
            out.size()
        );
        return Err(Error::unsupported("unet_learner", why));
    }
    Ok(maps)
}

impl Decoder {
    /// Creates a decoder for the given body, with variables at `path`. Layers have fastai's numbers.
    pub(crate) fn new(
        path: &Path<'_>,
        encoder: &Body,
        (n_in, n_out): (i64, i64),
        options: &UnetOptions,
    ) -> Result<Self> {
        options.check()?;
        let maps = feature_maps(encoder, n_in, options.size)?;
        // As in fastai, only widths are compared.
        let changes = maps.windows(2).filter(|two| two[0].size[1] != two[1].size[1]);
        let joined: Vec<FeatureMap> = changes.map(|two| two[0]).collect();
        let (height, width) = options.size;
        let (Some(first), Some(last), false) = (maps.first(), maps.last(), joined.is_empty())
        else {
            let why = format!(
                "all feature maps of the body have the same width for images of {width}x{height} pixels, but a \
                 decoder needs feature maps of decreasing size: use another network or larger images"
            );
            return Err(Error::unsupported("unet_learner", why));
        };
        let (norm, act) = (options.norm, options.act);
        let features = last.channels;
        let chosen = Draws::Chosen(options.init);
        let first_norm = fastai_norm(&(path / 1), features, 1.0);
        let middle = |i: usize, c_in: i64, c_out: i64| {
            let layer = Layer::new(c_in, c_out, 3, chosen).norm(norm).act(Some(act));
            layer.build(&(path / 3 / i))
        };
        let middle = [middle(0, features, 2 * features), middle(1, 2 * features, features)];
        let mut number = 4;
        let mut channels = features;
        let mut blocks = vec![];
        for (i, skip) in joined.iter().rev().enumerate() {
            let last = i + 1 == joined.len();
            let blur = options.blur && (!last || options.blur_final);
            let attention = options.self_attention && i + 3 == joined.len();
            let sides = (channels, skip.channels);
            let block = UnetBlock::new(&(path / number), sides, last, blur, attention, options);
            channels = block.channels();
            blocks.push(block);
            number += 1;
        }
        let after_blocks = number;
        let halved = first.size != [i64::from(height), i64::from(width)];
        let shuffle = halved.then(|| {
            let path = path / number;
            PixelShuffleIcnr::with(&path, channels, channels, false, norm, Some(act))
        });
        // The resizing layer after it has no variables, and neither has the layer that joins.
        number += usize::from(halved) + 1;
        let cross = options.last_cross.then(|| {
            let joined = channels + n_in;
            channels = if options.bottle { joined / 2 } else { joined };
            ResBlock::new(&(path / (number + 1)), joined, channels, options)
        });
        number += if options.last_cross { 2 } else { 0 };
        let last = Layer::new(channels, n_out, 1, Draws::Untouched).norm(norm).act(None);
        let last = last.build(&(path / number));
        let y_range = options.y_range;
        let skips = joined.iter().map(|map| map.child).collect();
        Ok(Self {
            skips,
            norm: first_norm,
            middle,
            blocks,
            after_blocks,
            shuffle,
            cross,
            last,
            y_range,
        })
    }

    fn forward_with(
        &self,
        x: &Tensor,
        features: Tensor,
        skips: &[Tensor],
        train: bool,
        visit: &mut dyn FnMut(&str, &Tensor),
    ) -> Tensor {
        let mut y = self.norm.forward_t(&features, train).relu_();
        drop(features);
        for conv in &self.middle {
            y = conv.forward_t(&y, train);
        }
        visit("layers.3", &y);
        for (i, (block, skip)) in self.blocks.iter().zip(skips.iter().rev()).enumerate() {
            y = block.forward(&y, skip, train);
            visit(&format!("layers.{}", 4 + i), &y);
        }
        let mut number = self.after_blocks;
        if let Some(shuffle) = &self.shuffle {
            y = shuffle.forward_t(&y, train);
            visit(&format!("layers.{number}"), &y);
            number += 1;
        }
        y = resized(y, x);
        number += 1;
        if let Some(cross) = &self.cross {
            y = cross.forward(&Tensor::cat(&[&y, x], 1), train);
            visit(&format!("layers.{}", number + 1), &y);
            number += 2;
        }
        y = self.last.forward_t(&y, train);
        if let Some((low, high)) = self.y_range {
            y = y.sigmoid() * (high - low) + low;
        }
        visit(&format!("layers.{number}"), &y);
        y
    }
}
