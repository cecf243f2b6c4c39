//! Plans: the draws, and that one pass has the result of all its transforms.

use finetune::{
    Error,
    data::{CategoryBlock, DataBlock, ImageBlock, IndexSplitter},
    image::PadMode,
    sample::Split,
    seed::{Seed, Stream},
    transform::{
        self, BatchFn, BatchTransform, Brightness, Color, Contrast, Crop, CropPad, Dihedral, Flip,
        Hue, Matrix, Mode, Normalize, Plan, RandomErasing, RandomResizedCrop, RandomResizedCropGpu,
        Resize, Rotate, Saturation, Warp, Zoom, aug_transforms,
    },
};
use std::{path::PathBuf, sync::Arc};
use tch::{Device, Kind, Tensor};

type Tfms = Vec<Arc<dyn BatchTransform>>;

fn plan_at(tfms: &Tfms, n: usize, size: (u32, u32), split: Split, index: u64) -> Plan {
    let mut rng = Seed(7).rng(Stream::Batch { pass: 1, index });
    transform::plan(tfms, n, size, 3, split, &mut rng).unwrap()
}

/// Returns smooth images, so that an error of a millionth of a pixel has no effect.
fn pixels(n: usize, (w, h): (u32, u32)) -> Vec<u8> {
    let (w, h) = (w as usize, h as usize);
    let value = |i: usize| {
        let (c, x, y) = (i % 3, (i / 3 % w) as f64, (i / 3 / w % h) as f64);
        let k = (i / 3 / w / h) as f64;
        127.5 + 120.0 * (x / 9.0 + k).sin() * (y / 7.0 + c as f64).cos()
    };
    (0..n * w * h * 3).map(|i| value(i) as u8).collect()
}

fn kernel(plan: &Plan, pixels: &[u8]) -> Tensor {
    let (w, h) = plan.output_size();
    let shape = [plan.len() as i64, i64::from(h), i64::from(w), 3];
    let x = Tensor::from_slice(&plan.execute(pixels, false).unwrap()).view(shape);
    plan.tensor_steps(x.permute([0, 3, 1, 2])).unwrap()
}

fn batch(pixels: &[u8], n: usize, (w, h): (u32, u32)) -> Tensor {
    Tensor::from_slice(pixels).view([n as i64, i64::from(h), i64::from(w), 3])
}

fn far(a: &Tensor, b: &Tensor) -> f64 {
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

/// Executes the composed map in double precision, computed from the matrices and the part, with
/// libtorch's sampler.
fn sampled_once(
    plan: &Plan,
    pixels: &[u8],
    part: Option<Crop>,
    mode: i64,
    pad: i64,
    align: bool,
) -> Tensor {
    let double = (Kind::Double, Device::Cpu);
    let ((w, h), (ow, oh)) = (plan.input_size(), plan.output_size());
    let axis = |out: u32, all: u32, part: Option<(u32, u32)>| {
        let places = Tensor::arange(i64::from(out), double);
        let (places, all) = match part {
            // From the first to the last pixel of the part.
            Some((start, n)) => {
                let step = (f64::from(n) - 1.0) / (f64::from(out) - 1.0);
                (places * step + f64::from(start), f64::from(all))
            }
            None => (places, f64::from(out)),
        };
        if align { places * 2.0 / (all - 1.0) - 1.0 } else { (places * 2.0 + 1.0) / all - 1.0 }
    };
    let xs = axis(ow, w, part.map(|p| (p.left, p.width)))
        .view([1, -1])
        .expand([oh as i64, ow as i64], false);
    let ys = axis(oh, h, part.map(|p| (p.top, p.height)))
        .view([-1, 1])
        .expand([oh as i64, ow as i64], false);
    let points = Tensor::stack(&[xs.copy(), ys.copy(), xs.ones_like()], -1).view([-1, 3]);
    let through = |points: &Tensor, m: &Matrix| {
        let m = Tensor::from_slice(&m.0.concat()).view([3, 3]);
        let moved = points.matmul(&m.tr());
        let depth = moved.narrow(1, 2, 1);
        moved / depth
    };
    let grids: Vec<Tensor> = plan
        .images
        .iter()
        .map(|image| {
            let mut affine = image.affine;
            affine.0[0][1] *= f64::from(h) / f64::from(w);
            affine.0[1][0] *= f64::from(w) / f64::from(h);
            let places = through(&through(&points, &affine), &image.warp);
            places.narrow(1, 0, 2).view([i64::from(oh), i64::from(ow), 2])
        })
        .collect();
    let x = batch(pixels, plan.len(), (w, h)).to_kind(Kind::Double) / 255.0;
    x.permute([0, 3, 1, 2]).grid_sampler(&Tensor::stack(&grids, 0), mode, pad, align)
}

#[test]
fn one_pass_is_one_sampling_with_the_composed_map() {
    let mut compared = 0;
    for (pad, pad_mode) in [(0, PadMode::Zeros), (1, PadMode::Border), (2, PadMode::Reflection)] {
        for (align, size) in [(true, (60, 46)), (false, (46, 61))] {
            let n = 6;
            let pixels = pixels(n, size);
            let augment =
                aug_transforms().max_rotate(60.0).max_zoom(1.6).min_zoom(0.4).p_affine(0.9);
            let augment = augment.pad_mode(pad_mode).align_corners(align).max_lighting(0.0);
            // First at a size that the maps produce, then with a crop.
            let whole: Tfms = vec![Arc::new(augment.clone().size_hw(41, 37))];
            let crop: Tfms =
                vec![Arc::new(augment), Arc::new(RandomResizedCropGpu::hw(33, 47).min_scale(0.4))];
            for (tfms, cropped) in [(whole, false), (crop, true)] {
                let plan = plan_at(&tfms, n, size, Split::Train, u64::from(cropped));
                let part = plan.part();
                assert_eq!(part.is_some(), cropped);
                let ours = kernel(&plan, &pixels);
                let theirs = sampled_once(&plan, &pixels, part, 0, pad, align);
                let error = far(&ours, &theirs);
                assert!(error < 2e-5, "{pad_mode:?} {align} {cropped}: {error}");
                compared += 1;
                let tensor = plan.execute_tensor(&batch(&pixels, n, size)).unwrap();
                assert!(far(&tensor, &theirs) < 2e-5, "{pad_mode:?} {align} {cropped}: tensor");
            }
        }
    }
    assert_eq!(compared, 12);
}

#[test]
fn nearest_keeps_the_values_of_pixels() {
    let size = (40, 31);
    let pixels = pixels(4, size);
    let augment = aug_transforms().mode(Mode::Nearest).max_lighting(0.0).max_rotate(45.0);
    let plan = plan_at(&vec![Arc::new(augment)], 4, size, Split::Train, 0);
    let ours = kernel(&plan, &pixels);
    let theirs = sampled_once(&plan, &pixels, None, 1, 2, true);
    let differ = (&ours - &theirs).abs().gt(1e-6).to_kind(Kind::Float).mean(Kind::Float);
    assert!(differ.double_value(&[]) < 0.005);
}

#[test]
fn both_executors_agree_on_everything_at_once() {
    let (n, size) = (5, (92, 80));
    let pixels = pixels(n, size);
    let augment = aug_transforms()
        .size(30)
        .min_scale(0.6)
        .flip_vert(true)
        .xtra_tfms(Saturation::new(0.5).p(1.0))
        .xtra_tfms(Hue::new(0.3).p(0.5))
        .xtra_tfms(RandomErasing::new().p(1.0).max_count(3));
    let tfms: Tfms = vec![Arc::new(augment), Arc::new(Normalize::imagenet())];
    for split in [Split::Train, Split::Valid] {
        let plan = plan_at(&tfms, n, size, split, 3);
        let tensor = plan.execute_tensor(&batch(&pixels, n, size)).unwrap();
        let error = far(&kernel(&plan, &pixels), &tensor);
        assert!(error < 1e-4, "{split:?}: {error}");
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let (n, size) = (7, (100, 90));
    let pixels = pixels(n, size);
    let augment = aug_transforms().size(44).min_scale(0.7);
    let augment = augment.xtra_tfms(RandomErasing::new().p(1.0)).xtra_tfms(Hue::new(0.1));
    let tfms: Tfms = vec![Arc::new(augment), Arc::new(Normalize::imagenet())];
    for split in [Split::Train, Split::Valid] {
        let plan = plan_at(&tfms, n, size, split, 0);
        let one: Vec<u32> =
            plan.execute(&pixels, false).unwrap().into_iter().map(f32::to_bits).collect();
        for threads in [1, 2, 3, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let many = pool.install(|| plan.execute(&pixels, true)).unwrap();
            assert!(many.into_iter().map(f32::to_bits).eq(one.iter().copied()), "{threads}");
        }
    }
}

#[test]
fn a_plan_follows_from_its_address() {
    let augment = aug_transforms().size(44).min_scale(0.7).xtra_tfms(RandomErasing::new().p(1.0));
    let tfms: Tfms = vec![Arc::new(augment)];
    let plan = |index| format!("{:?}", plan_at(&tfms, 9, (100, 90), Split::Train, index));
    assert_eq!(plan(0), plan(0));
    assert_ne!(plan(0), plan(1));
    let elsewhere = std::thread::scope(|s| s.spawn(|| plan(5)).join().unwrap());
    assert_eq!(elsewhere, plan(5));
    // The plan of a batch is drawn as a whole, so that the draws of an image depend on the number of
    // images. Validation has no draws.
    let valid = plan_at(&tfms, 9, (100, 90), Split::Valid, 0);
    assert_eq!(
        format!("{valid:?}"),
        format!("{:?}", plan_at(&tfms, 9, (100, 90), Split::Valid, 8))
    );
}

/// Returns the maps that one transform draws for many images.
fn drawn(tfm: impl BatchTransform + 'static) -> Plan {
    plan_at(&vec![Arc::new(tfm)], 20_000, (64, 64), Split::Train, 0)
}

fn part(plan: &Plan, of: impl Fn(&transform::ImagePlan) -> bool) -> f64 {
    plan.images.iter().filter(|i| of(i)).count() as f64 / plan.len() as f64
}

fn near(what: &str, a: f64, b: f64) {
    assert!((a - b).abs() < 0.015, "{what}: {a} instead of {b}");
}

#[test]
fn geometry_is_drawn_as_documented() {
    let still = |i: &transform::ImagePlan| i.affine == Matrix::ONE;
    near("flipped", part(&drawn(Flip::new().p(0.3)), |i| i.affine == Matrix::flip()), 0.3);
    // One of eight ways is the identity.
    near("dihedral", part(&drawn(Dihedral::new()), still), 0.5 + 0.5 / 8.0);
    for k in 1..8 {
        let ways = part(&drawn(Dihedral::new().p(1.0)), |i| i.affine == Matrix::dihedral(k));
        near("way", ways, 0.125);
    }

    let rotated = drawn(Rotate::new(30.0).p(0.6));
    near("turned", part(&rotated, still), 0.4);
    let degrees = |i: &transform::ImagePlan| i.affine.0[0][1].atan2(i.affine.0[0][0]).to_degrees();
    assert!(rotated.images.iter().all(|i| degrees(i).abs() <= 30.0));
    near("beyond half", part(&rotated, |i| degrees(i) > 15.0), 0.6 / 4.0);
    near("below minus half", part(&rotated, |i| degrees(i) < -15.0), 0.6 / 4.0);

    let zoomed = drawn(Zoom::new(0.5, 2.0).p(0.8));
    near("zoomed", part(&zoomed, still), 0.2);
    let zoom = |i: &transform::ImagePlan| 1.0 / i.affine.0[0][0];
    assert!(zoomed.images.iter().all(|i| zoom(i) >= 0.5 - 1e-9 && zoom(i) <= 2.0 + 1e-9));
    near("zoomed out", part(&zoomed, |i| zoom(i) < 1.0 - 1e-12), 0.8 / 3.0);

    let warped = drawn(Warp::new(0.2).p(0.5));
    // x and y are left unchanged independently of each other.
    near("still", part(&warped, |i| i.warp == Matrix::ONE), 0.25);

    let all = drawn(Rotate::new(30.0).p(1.0).batch(true));
    assert!(all.images.iter().all(|i| *i == all.images[0] && i.affine != Matrix::ONE));
}

#[test]
fn colors_are_drawn_as_documented() {
    let logit = |i: &transform::ImagePlan| match i.colors[..] {
        [Color::Logit { scale, luma, add }] => (scale, luma, add),
        _ => panic!("{:?}", i.colors),
    };
    let lit = drawn(Brightness::new(0.4).p(0.7));
    near("lit", part(&lit, |i| logit(i).2 == 0.0), 0.3);
    let change = |i: &transform::ImagePlan| 1.0 / (1.0 + (-logit(i).2).exp());
    assert!(lit.images.iter().all(|i| (0.3..=0.7).contains(&change(i))));
    near("bright", part(&lit, |i| change(i) > 0.6), 0.7 / 4.0);

    for plan in [drawn(Contrast::new(0.4).p(0.7)), drawn(Saturation::new(0.4).p(0.7))] {
        let scale = |i: &transform::ImagePlan| logit(i).0;
        near("scaled", part(&plan, |i| scale(i) == 1.0), 0.3);
        assert!(plan.images.iter().all(|i| scale(i) >= 0.6 - 1e-9 && scale(i) <= 1.0 / 0.6 + 1e-9));
        near("less", part(&plan, |i| scale(i) < 1.0), 0.35);
    }
    let turned = drawn(Hue::new(0.1).p(0.7));
    let turn = |i: &transform::ImagePlan| match i.colors[..] {
        [Color::Hue(turn)] => turn,
        _ => panic!("{:?}", i.colors),
    };
    near("not turned", part(&turned, |i| turn(i) == 0.0), 0.3);
    assert!(turned.images.iter().all(|i| turn(i) == 0.0 || (0.9..=1.0 / 0.9).contains(&turn(i))));
    let one = drawn(Brightness::new(0.4).p(1.0).batch(true));
    assert!(one.images.iter().all(|i| *i == one.images[0]));
}

#[test]
fn parts_are_drawn_as_documented() {
    let mut rng = Seed(1).rng(Stream::Init);
    let crop = RandomResizedCrop::new(10).min_scale(0.25).ratio(0.5, 2.0);
    let (mut least, mut greatest) = (f64::INFINITY, 0.0_f64);
    for _ in 0..5_000 {
        let part = crop.part((300, 200), &mut rng);
        assert!(part.left + part.width <= 300 && part.top + part.height <= 200);
        let area = f64::from(part.width * part.height) / 60_000.0;
        let ratio = f64::from(part.width) / f64::from(part.height);
        assert!((0.24..=1.0).contains(&area) && (0.49..=2.02).contains(&ratio), "{part:?}");
        (least, greatest) = (least.min(area), greatest.max(area));
    }
    assert!(least < 0.27 && greatest > 0.9, "{least} to {greatest}");
    let erase = RandomErasing::new().p(0.4).sh(0.5);
    let erased = (0..5_000).filter(|_| !erase.areas((80, 60), &mut rng).is_empty()).count();
    near("erased", erased as f64 / 5_000.0, 0.4);
}

#[test]
fn extra_maps_of_the_standard_augmentations_are_part_of_the_same_pass() {
    let plain = aug_transforms().max_rotate(0.0).max_warp(0.0).max_zoom(1.0).do_flip(false);
    let augment = plain.size(32).min_scale(0.5).max_lighting(0.0);
    let turned = augment.clone().xtra_tfms(Rotate::new(30.0).p(1.0));
    let plan = plan_at(&vec![Arc::new(turned)], 4, (64, 48), Split::Train, 0);
    assert_eq!(plan.passes().count(), 1, "fastai turns the image before it crops");
    assert!(plan.part().is_some() && plan.images.iter().all(|i| i.affine != Matrix::ONE));
    // A closure is not a map: it gets the cropped images.
    let inverted = augment.xtra_tfms(BatchFn::new("inverted", |x| Ok(1.0 - x)).order(30));
    let plan = plan_at(&vec![Arc::new(inverted)], 4, (64, 48), Split::Train, 0);
    assert_eq!((plan.passes().count(), plan.output_size()), (1, (32, 32)));
}

#[test]
fn a_closure_ends_a_pass_and_starts_the_next() {
    let (n, size) = (3, (20, 16));
    let pixels = pixels(n, size);
    let negative = BatchFn::new("negative", |x| Ok(1.0 - x));
    let tfms: Tfms =
        vec![Arc::new(Normalize::imagenet()), Arc::new(negative), Arc::new(Flip::new().p(1.0))];
    let plan = plan_at(&tfms, n, size, Split::Train, 0);
    assert_eq!(plan.passes().count(), 2);
    let flipped =
        (batch(&pixels, n, size).to_kind(Kind::Float) / 255.0).permute([0, 3, 1, 2]).flip([3]);
    let of = |v: &[f32]| Tensor::from_slice(v).view([1, 3, 1, 1]);
    let imagenet = Normalize::imagenet();
    let expected = (1.0 - flipped - of(imagenet.mean())) / of(imagenet.std());
    assert!(far(&kernel(&plan, &pixels), &expected) < 1e-5);
    assert!(far(&plan.execute_tensor(&batch(&pixels, n, size)).unwrap(), &expected) < 1e-5);

    // Only in training: validation has one pass.
    let tfms: Tfms = vec![Arc::new(BatchFn::new("noise", |x| Ok(x * 0.5)).only(Split::Train))];
    assert_eq!(
        far(
            &kernel(&plan_at(&tfms, n, size, Split::Valid, 0), &pixels),
            &kernel(&Plan::new(n, size, 3), &pixels)
        ),
        0.0
    );

    // A step that changes the size is an error if pixels are moved after it.
    let half =
        BatchFn::new("half", |x| Ok(x.avg_pool2d(2, 2, 0, false, true, None::<i64>))).order(10);
    let tfms: Tfms = vec![Arc::new(half), Arc::new(Flip::new())];
    let plan = plan_at(&tfms, n, size, Split::Train, 0);
    let error = plan.execute_tensor(&batch(&pixels, n, size)).unwrap_err();
    assert!(error.to_string().contains("10x8 instead of"), "{error}");
}

#[test]
fn options_are_checked_before_any_work() {
    let size_0 = |block: DataBlock<CategoryBlock>| {
        let block = block
            .get_items(|_| Ok((0..10).map(|i| PathBuf::from(format!("{i}.jpg"))).collect()))
            .get_y(|path| Ok(if path.starts_with("3.jpg") { "a" } else { "b" }.to_owned()))
            .splitter(IndexSplitter::new(vec![9]));
        match block.dataloaders("nowhere") {
            Err(Error::Config { option, .. }) => option,
            other => panic!("{other:?}"),
        }
    };
    let block = || DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new());
    assert_eq!(size_0(block().item_tfms(Resize::new(0))), "Resize");
    assert_eq!(size_0(block().item_tfms(CropPad::hw(0, 3))), "CropPad");
    assert_eq!(size_0(block().batch_tfms(aug_transforms().size(0))), "size");
    assert_eq!(size_0(block().batch_tfms(aug_transforms().p_affine(1.5))), "p");
    assert_eq!(size_0(block().batch_tfms(aug_transforms().min_scale(0.5))), "min_scale");
    assert_eq!(size_0(block().batch_tfms(aug_transforms().max_lighting(1.0))), "max_lighting");
    let only_vertical = aug_transforms().do_flip(false).flip_vert(true);
    assert_eq!(size_0(block().batch_tfms(only_vertical)), "flip_vert");
    for (min, max) in [(1.0, 0.5), (1.0, f64::NAN), (f64::NAN, 1.1), (0.0, 1.1)] {
        let augment = aug_transforms().min_zoom(min).max_zoom(max);
        assert_eq!(size_0(block().batch_tfms(augment)), "min_zoom", "{min} {max}");
    }
    for (mean, std) in [(0.5, 0.0), (0.5, -1.0), (0.5, f32::INFINITY), (f32::NAN, 0.5)] {
        let normalize = Normalize::rgb([0.5, mean, 0.5], [0.5, std, 0.5]);
        assert_eq!(size_0(block().batch_tfms(normalize)), "Normalize", "{mean} {std}");
        let e = Normalize::new(vec![mean], vec![std]).unwrap_err();
        assert!(e.to_string().contains("must be finite"), "{e}");
    }
    assert_eq!(size_0(block().batch_tfms(RandomErasing::new().max_count(0))), "RandomErasing");
}

#[test]
fn a_batch_that_does_not_match_its_plan_is_an_error() {
    let two = Tensor::zeros([1, 2, 4, 4], (Kind::Float, Device::Cpu));
    let mut hue = Plan::new(1, (4, 4), 3);
    hue.color([Color::Hue(0.25)]);
    let e = hue.execute_tensor(&two).unwrap_err();
    assert!(matches!(e, Error::Config { option: "batch_tfms", .. }), "{e}");
    assert!(e.to_string().contains("needs 3 channels, but the images have 2"), "{e}");
    let mut normalized = Plan::new(1, (4, 4), 3);
    normalized.normalize(&[0.5; 3], &[0.5; 3]).unwrap();
    for (plan, x) in [(&normalized, &two), (&normalized, &Tensor::new()), (&hue, &Tensor::new())] {
        let e = plan.execute_tensor(x).unwrap_err();
        assert!(matches!(e, Error::Torch(_)), "{e}");
    }
}
