//! VGG with and without batch normalization, and AlexNet, with torchvision's names and shapes.
//!
//! Simonyan and Zisserman, [Very Deep Convolutional Networks](https://arxiv.org/abs/1409.1556);
//! Krizhevsky, [One weird trick](https://arxiv.org/abs/1404.5997).

use super::{
    body::Children,
    layers::{self, Conv, ConvInit, avg_pool_flat, linear_default, max_pool, norm, normal, relu},
};
use tch::nn::{self, Path, SequentialT};

/// Appends the feature layers of a VGG network: blocks with these numbers of convolutions, each followed by
/// pooling.
pub(super) fn features(net: &mut Children<'_>, n_in: i64, blocks: [usize; 5], normalized: bool) {
    let mut c_in = n_in;
    let mut numbers = 0..;
    let mut next = || format!("features.{}", numbers.next().unwrap_or(0));
    for (n, width) in blocks.into_iter().zip([64, 128, 256, 512, 512]) {
        for _ in 0..n {
            let conv = Conv::new(c_in, width, 3).bias();
            let name = next();
            let conv = if name == "features.0" { conv.first() } else { conv };
            net.add(name, move |p| conv.build(p)).layer();
            if normalized {
                net.add(next(), move |p| norm(p, width));
            }
            net.add(next(), |_| relu());
            c_in = width;
        }
        net.add(next(), |_| max_pool(2, 2, 0, false));
    }
}

/// Appends the children of a VGG network.
pub(super) fn children(
    net: &mut Children<'_>,
    n_in: i64,
    blocks: [usize; 5],
    normalized: bool,
    n_out: i64,
) {
    features(net, n_in, blocks, normalized);
    net.add("avgpool", |_| avg_pool_flat(7)).last_layer().add("classifier", move |p| {
        let linear =
            |i: usize, n_in, n_out| layers::linear(&(p / i), n_in, n_out, normal(0.01), Some(0.0));
        nn::seq_t()
            .add(linear(0, 512 * 49, 4096))
            .add(relu())
            .add_fn_t(|x, train| x.dropout(0.5, train))
            .add(linear(3, 4096, 4096))
            .add(relu())
            .add_fn_t(|x, train| x.dropout(0.5, train))
            .add(linear(6, 4096, n_out))
    });
}

/// Appends the children of AlexNet.
pub(super) fn alexnet(net: &mut Children<'_>, n_in: i64, n_out: i64) {
    let conv = |c_in, c_out, size| Conv::new(c_in, c_out, size).bias().init(ConvInit::Default);
    let pool = || max_pool(3, 2, 0, false);
    net.add("features.0", move |p| conv(n_in, 64, 11).stride(4).padding(2).build(p))
        .add("features.1", |_| relu())
        .add("features.2", move |_| pool())
        .add("features.3", move |p| conv(64, 192, 5).build(p))
        .add("features.4", |_| relu())
        .add("features.5", move |_| pool())
        .add("features.6", move |p| conv(192, 384, 3).build(p))
        .add("features.7", |_| relu())
        .add("features.8", move |p| conv(384, 256, 3).build(p))
        .add("features.9", |_| relu())
        .add("features.10", move |p| conv(256, 256, 3).build(p))
        .add("features.11", |_| relu())
        .add("features.12", move |_| pool())
        .add("avgpool", |_| avg_pool_flat(6))
        .add("classifier", move |p| alexnet_classifier(p, n_out));
}

fn alexnet_classifier(path: &Path<'_>, n_out: i64) -> SequentialT {
    let linear = |i: usize, n_in, n_out| {
        layers::linear(&(path / i), n_in, n_out, linear_default(n_in), None)
    };
    nn::seq_t()
        .add_fn_t(|x, train| x.dropout(0.5, train))
        .add(linear(1, 256 * 36, 4096))
        .add(relu())
        .add_fn_t(|x, train| x.dropout(0.5, train))
        .add(linear(4, 4096, 4096))
        .add(relu())
        .add(linear(6, 4096, n_out))
}
