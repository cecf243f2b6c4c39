//! Measures the images per second of a batch's plan: 460 to 224 pixels with all transforms of `aug_transforms`,
//! on one thread and on two. `cargo bench --bench transform`.

use divan::{Bencher, counter::ItemsCount};
use finetune::{
    sample::Split,
    seed::{Seed, Stream},
    transform::{self, BatchTransform, Hue, Normalize, Plan, Saturation, aug_transforms},
};
use std::sync::Arc;

const N: usize = 64;
const SIDE: u32 = 460;

fn main() {
    divan::main();
}

/// Returns smooth images with some noise.
fn pixels() -> Vec<u8> {
    let side = SIDE as usize;
    let value = |i: usize| {
        let (x, y, c) = (i / 3 % side, i / 3 / side % side, i % 3);
        let noise = (i as u32).wrapping_mul(2_654_435_761) >> 27;
        ((x / 3 + y / 4 * (c + 1) + noise as usize) % 256) as u8
    };
    (0..N * side * side * 3).map(value).collect()
}

fn plan(tfms: &[Arc<dyn BatchTransform>], split: Split) -> Plan {
    let mut rng = Seed(42).rng(Stream::Batch { pass: 0, index: 0 });
    transform::plan(tfms, N, (SIDE, SIDE), 3, split, &mut rng).expect("the options are right")
}

fn run(bencher: Bencher<'_, '_>, threads: usize, plan: &Plan) {
    let pixels = pixels();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
    bencher
        .counter(ItemsCount::new(N))
        .bench(|| pool.install(|| plan.execute(&pixels, true).expect("the pixels fit")));
}

fn augment() -> Vec<Arc<dyn BatchTransform>> {
    let augment = aug_transforms().size(224).min_scale(0.75);
    vec![Arc::new(augment), Arc::new(Normalize::imagenet())]
}

#[divan::bench(args = [1, 2])]
fn training(bencher: Bencher<'_, '_>, threads: usize) {
    run(bencher, threads, &plan(&augment(), Split::Train));
}

#[divan::bench(args = [1, 2])]
fn validation(bencher: Bencher<'_, '_>, threads: usize) {
    run(bencher, threads, &plan(&augment(), Split::Valid));
}

#[divan::bench(args = [1, 2])]
fn geometry_alone(bencher: Bencher<'_, '_>, threads: usize) {
    let augment = aug_transforms().size(224).min_scale(0.75).max_lighting(0.0);
    run(bencher, threads, &plan(&[Arc::new(augment)], Split::Train));
}

#[divan::bench(args = [1, 2])]
fn all_colors(bencher: Bencher<'_, '_>, threads: usize) {
    let augment = aug_transforms().size(224).min_scale(0.75);
    let augment = augment.xtra_tfms(Saturation::new(0.2).p(1.0)).xtra_tfms(Hue::new(0.1).p(1.0));
    run(bencher, threads, &plan(&[Arc::new(augment)], Split::Train));
}

#[divan::bench(args = [1, 2])]
fn normalization_alone(bencher: Bencher<'_, '_>, threads: usize) {
    run(bencher, threads, &plan(&[Arc::new(Normalize::imagenet())], Split::Valid));
}
