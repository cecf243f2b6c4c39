//! SqueezeNet, with torchvision's names and shapes.
//!
//! Iandola et al., [SqueezeNet](https://arxiv.org/abs/1602.07360).

use super::{
    body::Children,
    layers::{Conv, ConvInit, avg_pool_flat, max_pool, normal, relu},
};
use tch::{
    Tensor,
    nn::{self, Conv2D, Module as _, ModuleT, Path},
};

fn conv(c_in: i64, c_out: i64, size: i64) -> Conv {
    Conv::new(c_in, c_out, size).bias().init(ConvInit::UniformFanIn)
}

/// A narrow convolution, followed by two parallel ones of different size.
#[derive(Debug)]
struct Fire {
    squeeze: Conv2D,
    expand1x1: Conv2D,
    expand3x3: Conv2D,
}

impl Fire {
    /// Creates the block; each of the parallel convolutions has `expanded` channels.
    fn new(path: &Path<'_>, c_in: i64, squeezed: i64, expanded: i64) -> Self {
        Self {
            squeeze: conv(c_in, squeezed, 1).build(&(path / "squeeze")),
            expand1x1: conv(squeezed, expanded, 1).build(&(path / "expand1x1")),
            expand3x3: conv(squeezed, expanded, 3).build(&(path / "expand3x3")),
        }
    }
}

impl ModuleT for Fire {
    fn forward_t(&self, x: &Tensor, _: bool) -> Tensor {
        let x = self.squeeze.forward(x).relu_();
        let sides = [self.expand1x1.forward(&x), self.expand3x3.forward(&x)];
        Tensor::cat(&sides, 1).relu_()
    }
}

/// Appends the children of SqueezeNet 1.0, or of 1.1, which pools earlier and costs less than half.
pub(super) fn children(net: &mut Children<'_>, n_in: i64, newer: bool, n_out: i64) {
    let (width, size) = if newer { (64, 3) } else { (96, 7) };
    net.add("features.0", move |p| conv(n_in, width, size).stride(2).padding(0).first().build(p))
        .add("features.1", |_| relu())
        .add("features.2", |_| max_pool(3, 2, 0, true));
    let fires = [
        (width, 16, 64),
        (128, 16, 64),
        (128, 32, 128),
        (256, 32, 128),
        (256, 48, 192),
        (384, 48, 192),
        (384, 64, 256),
        (512, 64, 256),
    ];
    let pooled_after = if newer { [2, 4] } else { [3, 7] };
    let mut i = 3;
    for (n, (c_in, squeezed, expanded)) in (1..).zip(fires) {
        net.add(format!("features.{i}"), move |p| Fire::new(p, c_in, squeezed, expanded));
        i += 1;
        if pooled_after.contains(&n) {
            net.add(format!("features.{i}"), |_| max_pool(3, 2, 0, true));
            i += 1;
        }
    }
    net.add("classifier", move |p| {
        let config = nn::ConvConfig {
            ws_init: normal(0.01),
            bs_init: nn::Init::Const(0.0),
            ..Default::default()
        };
        nn::seq_t()
            .add_fn_t(|x, train| x.dropout(0.5, train))
            .add(nn::conv2d(p / "1", 512, n_out, 1, config))
            .add(relu())
            .add(avg_pool_flat(1))
    });
}
