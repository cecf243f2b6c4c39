//! TrivialAugment and RandAugment: each operation compared with torchvision, and both executors compared
//! with each other.

use finetune::{
    Error,
    image::{Image, PadMode},
    sample::{Point, Split},
    seed::{Seed, Stream},
    transform::{
        self, AugmentOp, BatchSpec, BatchTransform, Color, Mode, Normalize, Plan, RandAugment,
        TrivialAugment, aug_transforms,
    },
};
use std::{collections::BTreeMap, sync::Arc};
use tch::{Kind, Tensor};

const SIZE: (u32, u32) = (32, 24);

/// The image of `tests/ops/write.py`.
fn picture() -> Vec<u8> {
    let value = |i: usize| 20 + (37 * i + 11 * (i * i % 97)) % 200;
    (0..32 * 24 * 3).map(|i| value(i) as u8).collect()
}

fn planned(tfms: &[Arc<dyn BatchTransform>], n: usize, channels: u8, index: u64) -> Plan {
    let mut rng = Seed(5).rng(Stream::Batch { pass: 0, index });
    transform::plan(tfms, n, SIZE, channels, Split::Train, &mut rng).unwrap()
}

/// Executes a plan with the kernel. Returns `[N, H, W, C]`.
fn kernel(plan: &Plan, pixels: &[u8]) -> Tensor {
    let ((w, h), c) = (plan.output_size(), plan.channels());
    let shape = [plan.len() as i64, i64::from(h), i64::from(w), i64::from(c)];
    assert_eq!(plan.passes().count(), 1, "one resampling");
    Tensor::from_slice(&plan.execute(pixels, true).unwrap()).view(shape)
}

/// Executes a plan with libtorch's operations. Returns `[N, H, W, C]`.
fn tensor(plan: &Plan, pixels: &[u8]) -> Tensor {
    let ((w, h), c) = (plan.input_size(), plan.channels());
    let shape = [plan.len() as i64, i64::from(h), i64::from(w), i64::from(c)];
    let x = Tensor::from_slice(pixels).view(shape);
    plan.execute_tensor(&x).unwrap().permute([0, 2, 3, 1])
}

fn far(a: &Tensor, b: &Tensor) -> f64 {
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

fn name(op: AugmentOp) -> String {
    format!("{op:?}")
}

/// The values in `tests/ops/ops.json` are torchvision's, written by `tests/ops/write.py`.
#[test]
fn operations_are_those_of_torchvision() {
    let known: BTreeMap<String, Vec<f32>> =
        serde_json::from_str(include_str!("../ops/ops.json")).unwrap();
    let (n, picture) = (8, picture());
    let mut seen = vec![];
    for op in AugmentOp::ALL {
        let tfm = RandAugment::new().ops([op]).num_ops(1).magnitude(20);
        let tfm = tfm.pad_mode(PadMode::Zeros).align_corners(false);
        let plan = planned(&[Arc::new(tfm)], n, 3, 3);
        let all = picture.repeat(n);
        for out in [kernel(&plan, &all), tensor(&plan, &all)] {
            let name = name(op);
            for i in 0..n {
                let values =
                    Vec::<f32>::try_from(out.get(i as i64).contiguous().view([-1])).unwrap();
                let values: Vec<f32> = values.into_iter().step_by(37).collect();
                let near = |name: &String| {
                    let known = known.get(name)?;
                    assert_eq!(known.len(), values.len());
                    let apart = known.iter().zip(&values).map(|(a, b)| (a - b).abs());
                    Some(apart.fold(0.0, f32::max))
                };
                // The sign is random.
                let signs = [name.clone(), format!("-{name}")];
                let apart: Vec<f32> = signs.iter().filter_map(near).collect();
                let best = (0..apart.len()).min_by(|a, b| apart[*a].total_cmp(&apart[*b])).unwrap();
                assert!(apart[best] < 1e-4, "{name}: {apart:?}");
                seen.push(signs[best].clone());
            }
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, known.into_keys().collect::<Vec<_>>(), "each operation with each sign");
}

/// The kernel, on bytes and on floats, and libtorch's operations agree on batches with all operations.
#[test]
fn both_executors_agree() {
    let (n, picture) = (64, picture());
    let augment = aug_transforms().size(20).min_scale(0.7).max_warp(0.0);
    let rand = RandAugment::new().num_ops(3).magnitude(17).mode(Mode::Bilinear);
    let roads: [(Vec<Arc<dyn BatchTransform>>, u8); 3] = [
        (vec![Arc::new(TrivialAugment::new()), Arc::new(Normalize::imagenet())], 3),
        (vec![Arc::new(augment.xtra_tfms(rand.clone())), Arc::new(Normalize::imagenet())], 3),
        (vec![Arc::new(rand.num_ops(2))], 1),
    ];
    for (tfms, channels) in roads {
        let plan = planned(&tfms, n, channels, 1);
        let each = picture.len() / 3 * usize::from(channels);
        let all = picture[..each].repeat(n);
        let (a, b) = (kernel(&plan, &all), tensor(&plan, &all));
        // A value between two levels may round either way.
        let apart = (&a - &b).abs();
        let beyond = apart.gt(2e-4).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        assert!(beyond < 2e-3, "{beyond} of all values, {}", far(&a, &b));
        let floats: Vec<f32> = all.iter().map(|v| f32::from(*v) * (1.0 / 255.0)).collect();
        let c = Tensor::from_slice(&plan.execute_floats(&floats, false).unwrap());
        assert!(far(&a, &c.view(&a.size()[..])) < 2e-2);
    }
}

#[test]
fn trivial_augment_draws_one_operation_in_the_wide_ranges() {
    let colors = |ops: &[AugmentOp]| {
        let tfm = TrivialAugment::new().ops(ops);
        let plan = planned(&[Arc::new(tfm)], 400, 3, 0);
        plan.images.into_iter().map(|image| image.colors).collect::<Vec<_>>()
    };
    let mut bits: Vec<u8> = colors(&[AugmentOp::Posterize])
        .iter()
        .map(|c| match c[..] {
            [Color::Posterize(bits)] => bits,
            _ => panic!("{c:?}"),
        })
        .collect();
    bits.sort_unstable();
    bits.dedup();
    assert_eq!(bits, [2, 3, 4, 5, 6, 7, 8]);
    let factors = colors(&[AugmentOp::Contrast]);
    let factor = |c: &Vec<Color>| match c[..] {
        [Color::FromMean(factor)] => factor,
        _ => panic!("{c:?}"),
    };
    let (low, high) = (
        factors.iter().map(factor).fold(f64::INFINITY, f64::min),
        factors.iter().map(factor).fold(0.0, f64::max),
    );
    assert!((low - 0.01).abs() < 1e-12 && (high - 1.99).abs() < 1e-12, "{low} {high}");

    let plan = planned(&[Arc::new(TrivialAugment::new())], 2000, 3, 0);
    let moved = |image: &transform::ImagePlan| image.warp != transform::Matrix::ONE;
    assert!(plan.images.iter().all(|i| usize::from(moved(i)) + i.colors.len() <= 1));
    // 5 of 14 operations move pixels, in 30 of 31 strengths; shifts by less than a pixel do not move
    // them.
    let share = plan.images.iter().filter(|i| moved(i)).count() as f64 / 2000.0;
    assert!((0.31..0.38).contains(&share), "{share}");
    // Validation is not augmented.
    let tfms: Vec<Arc<dyn BatchTransform>> = vec![Arc::new(TrivialAugment::new())];
    let mut rng = Seed(5).rng(Stream::Batch { pass: 0, index: 0 });
    let plan = transform::plan(&tfms, 9, SIZE, 3, Split::Valid, &mut rng).unwrap();
    assert!(plan.images.iter().all(|i| !moved(i) && i.colors.is_empty()));
}

/// A single bright pixel, a point on it and its mask move to the same position.
#[test]
fn targets_move_with_the_image() {
    let ops = [
        AugmentOp::ShearX,
        AugmentOp::ShearY,
        AugmentOp::TranslateX,
        AugmentOp::TranslateY,
        AugmentOp::Rotate,
    ];
    let tfm = RandAugment::new().ops(ops).magnitude(10).pad_mode(PadMode::Zeros);
    let plan = planned(&[Arc::new(tfm.align_corners(false))], 40, 1, 2);
    let (w, h) = (SIZE.0 as usize, SIZE.1 as usize);
    let mut one = vec![0_u8; w * h];
    for (x, y) in [(15, 11), (16, 11), (15, 12), (16, 12)] {
        one[y * w + x] = 200;
    }
    let out = kernel(&plan, &one.repeat(plan.len()));
    let mask = Image::new(SIZE.0, SIZE.1, 1, one).unwrap();
    for i in 0..plan.len() {
        // The center of the bright pixels.
        let center = |values: &[f64]| {
            let sum: f64 = values.iter().sum();
            let x: f64 = values.iter().enumerate().map(|(k, v)| v * ((k % w) as f64 + 0.5)).sum();
            let y: f64 = values.iter().enumerate().map(|(k, v)| v * ((k / w) as f64 + 0.5)).sum();
            (x / sum, y / sum)
        };
        let image =
            Vec::<f64>::try_from(out.get(i as i64).to_kind(Kind::Double).contiguous().view([-1]));
        let image = center(&image.unwrap());
        let moved = plan.for_masks().execute(i, &mask).unwrap();
        let codes: Vec<f64> = moved.pixels().iter().map(|c| f64::from(*c)).collect();
        let codes = center(&codes);
        let mut points = [Point::new(16.0, 12.0)];
        plan.move_points(i, &mut points);
        let point = (f64::from(points[0].x), f64::from(points[0].y));
        let apart = |a: (f64, f64), b: (f64, f64)| (a.0 - b.0).abs().max((a.1 - b.1).abs());
        assert!(apart(image, point) < 0.1, "{i}: {image:?} {point:?}");
        assert!(apart(codes, point) < 0.8, "{i}: {codes:?} {point:?}");
    }
}

#[test]
fn they_are_data_and_their_options_are_checked() {
    let rand = RandAugment::new().ops([AugmentOp::Rotate, AugmentOp::Equalize]).magnitude(4);
    for spec in [rand.spec().unwrap(), TrivialAugment::new().spec().unwrap()] {
        let text = serde_json::to_string(&spec).unwrap();
        let back: BatchSpec = serde_json::from_str(&text).unwrap();
        assert_eq!(back, spec);
        assert_eq!(format!("{:?}", back.build()), format!("{:?}", spec.build()));
    }
    let whole = aug_transforms().size(20).xtra_tfms(rand).spec().unwrap();
    let text = serde_json::to_string(&whole).unwrap();
    assert_eq!(serde_json::from_str::<BatchSpec>(&text).unwrap(), whole);
    let refused = |tfm: &dyn BatchTransform, option: &str| {
        let e = tfm.check().unwrap_err();
        assert!(matches!(&e, Error::Config { option: o, .. } if *o == option), "{e}");
    };
    refused(&RandAugment::new().num_ops(0), "num_ops");
    refused(&RandAugment::new().num_ops(1 << 40), "num_ops");
    refused(&RandAugment::new().num_magnitude_bins(usize::MAX), "num_magnitude_bins");
    refused(&TrivialAugment::new().num_magnitude_bins(usize::MAX), "num_magnitude_bins");
    refused(&RandAugment::new().magnitude(31), "magnitude");
    refused(&RandAugment::new().num_magnitude_bins(1), "num_magnitude_bins");
    refused(&TrivialAugment::new().ops([]), "ops");
}
