//! Masks, points and boxes as users use them: blocks, loaders, learners, predictions, figures, and the
//! errors of invalid input.

use finetune::{
    Error, Result,
    data::{
        BBoxBlock, BBoxLblBlock, DataBlock, DataLoaders, ImageBlock, ImageSource, IndexSplitter,
        MaskBlock, PointBlock,
    },
    format::{read_safetensors, write_safetensors},
    image::Image,
    interpret::SegmentationInterpretation,
    learner::{Learner, Predictions, Predictor, Tiles, unet_learner, vision_learner},
    loss::{Combined, CrossEntropy, Dice, Loss, PointMse},
    metric::{
        ForegroundAccuracy, Metric, dice_multi, foreground_acc, iou_of_class, point_distance,
    },
    model::{ArchSpec, HeadOptions, Model, UnetOptions, by_name, resnet18},
    sample::{Batch, Point, Sample, Split, Target, Task},
    seed::{Seed, Stream},
    transform::{self, BatchTransform, Method, Resize, aug_transforms},
};
use ndarray::Array2;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use tch::{Device, Kind, Tensor, nn};

/// Returns an image of `side` pixels with a bright square and the mask of that square.
pub(crate) fn square(side: u32, left: u32, top: u32, wide: u32) -> (Image, Image) {
    let inside =
        |x: u32, y: u32| (left..left + wide).contains(&x) && (top..top + wide).contains(&y);
    let places = || (0..side).flat_map(move |y| (0..side).map(move |x| (x, y)));
    let pixels = places().flat_map(|(x, y)| {
        if inside(x, y) { [230, 200, 40] } else { [(x * 3) as u8, 60, (y * 3) as u8] }
    });
    let codes = places().map(|(x, y)| u8::from(inside(x, y)));
    let image = Image::new(side, side, 3, pixels.collect()).unwrap();
    (image, Image::new(side, side, 1, codes.collect()).unwrap())
}

/// Returns twelve squares at different positions.
fn squares() -> Vec<(Image, Image)> {
    (0..12).map(|i| square(48, 4 + i * 2, 30 - i * 2, 12 + i % 4)).collect()
}

/// Returns a block for the squares without transforms.
fn mask_block() -> DataBlock<MaskBlock, usize> {
    let all = Arc::new(squares());
    let (images, masks) = (all.clone(), all);
    DataBlock::rows(ImageBlock::rgb(), MaskBlock::new(["ground", "square"]))
        .get_x(move |&i: &usize| Ok(images[i].0.clone()))
        .get_y(move |&i| Ok(masks[i].1.clone().into()))
        .splitter(IndexSplitter::new([2, 5, 8, 11]))
        .bs(4)
        .num_workers(0)
        .device(Device::Cpu)
}

fn mask_loaders(augment: bool, workers: usize) -> Result<DataLoaders> {
    let block = mask_block().item_tfms(Resize::new(40)).num_workers(workers);
    let block = if augment { block.batch_tfms(aug_transforms().size(32)) } else { block };
    block.dataloaders_from((0..12).collect())
}

/// The mask marks the bright pixels of an image after any transform.
#[test]
fn a_mask_moves_with_its_image() -> Result<()> {
    let dls = mask_loaders(true, 2)?;
    let again = mask_loaders(true, 0)?;
    for (batch, other) in dls.train().batches(3).zip(again.train().batches(3)) {
        let (batch, other) = (batch?, other?);
        let y = batch.y.unwrap();
        assert_eq!((y.size(), y.kind()), (vec![4, 32, 32], Kind::Int64));
        assert_eq!(y, other.y.unwrap(), "the same for any number of workers");
        // Green is 200 of 255 in the square and 60 elsewhere; lighting keeps this order.
        let bright = batch.x.select(1, 1).gt(0.5);
        let same = bright.eq_tensor(&y.gt(0)).to_kind(Kind::Float).mean(Kind::Float);
        let same = same.double_value(&[]);
        assert!(same > 0.93, "{same} of the pixels agree");
    }
    Ok(())
}

/// Both executors move masks in the same way.
#[test]
fn masks_are_the_same_on_workers_and_on_a_device() -> Result<()> {
    let (image, mask) = square(48, 9, 15, 20);
    let tfms: Vec<Arc<dyn BatchTransform>> =
        vec![Arc::new(aug_transforms().size(40).min_scale(0.6).flip_vert(true))];
    let mut rng = Seed(3).rng(Stream::Batch { pass: 0, index: 0 });
    let size = (image.width(), image.height());
    let plan = transform::plan(&tfms, 6, size, 3, Split::Train, &mut rng)?;
    let masks = plan.for_masks();
    let bytes = Tensor::from_slice(mask.pixels()).view([1, 48, 48]).repeat([6, 1, 1]);
    let by_device = masks.execute_tensor(&bytes)?;
    for i in 0..6 {
        let by_worker = masks.execute(i as usize, &mask)?;
        let by_worker = Tensor::from_slice(by_worker.pixels()).view([40, 40]);
        let differ = by_worker.ne_tensor(&by_device.get(i)).to_kind(Kind::Float);
        assert!(differ.mean(Kind::Float).double_value(&[]) < 0.005);
    }
    Ok(())
}

/// Returns the text of the error.
pub(crate) fn text_of<T>(done: Result<T>) -> String {
    done.err().expect("an error").to_string()
}

#[test]
fn a_check_finds_masks_that_do_not_fit() -> Result<()> {
    let (image, mask) = square(40, 1, 1, 3);
    let masks = [mask, Image::new(40, 20, 1, vec![0; 800])?, Image::new(40, 40, 1, vec![7; 1600])?];
    let dls = DataBlock::rows(ImageBlock::rgb(), MaskBlock::new(["ground", "square"]))
        .get_x(move |_: &usize| Ok(image.clone()))
        .get_y(move |&i| Ok(masks[i].clone().into()))
        .splitter(IndexSplitter::new([2]))
        .bs(1)
        .num_workers(0)
        .device(Device::Cpu)
        .dataloaders_from(vec![0, 1, 2])?;
    let found = dls.check()?.undecodable;
    let items: Vec<usize> = found.iter().map(|f| f.item).collect();
    assert_eq!(items, [1, 2]);
    assert!(found[0].what.contains("40x20") && found[1].what.contains("is 7"), "{found:?}");
    Ok(())
}

#[test]
fn errors_of_points_and_boxes_name_the_item() -> Result<()> {
    let (image, _) = square(8, 1, 1, 3);
    let points = |label: Vec<Point>| {
        let image = image.clone();
        DataBlock::rows(ImageBlock::rgb(), PointBlock::new(1))
            .get_x(move |_: &usize| Ok(image.clone()))
            .get_y(move |_| Ok(label.clone()))
            .splitter(IndexSplitter::new([]))
            .bs(1)
            .dataloaders_from(vec![0])
            .map(drop)
    };
    let nan = text_of(points(vec![Point::new(f32::NAN, 1.0)]));
    assert!(nan.contains("item 0") && nan.contains("NaN") && nan.contains("hidden"), "{nan}");
    assert!(text_of(points(vec![])).contains("0 points"));
    assert!(points(vec![Point::hidden()]).is_ok());
    let boxes = |corners: [f32; 4], label: &str| {
        let (image, label) = (image.clone(), label.to_owned());
        DataBlock::rows(ImageBlock::rgb(), (BBoxBlock::new(), BBoxLblBlock::new()))
            .get_x(move |_: &usize| Ok(image.clone()))
            .get_y(move |_| Ok((vec![corners], vec![label.clone()])))
            .splitter(IndexSplitter::new([]))
            .bs(1)
            .dataloaders_from(vec![0])
            .map(drop)
    };
    let inverted = text_of(boxes([5.0, 1.0, 2.0, 4.0], "cat"));
    assert!(inverted.contains("item 0") && inverted.contains("inverted"), "{inverted}");
    assert!(text_of(boxes([1.0, 1.0, 1.0, 4.0], "cat")).contains("empty"));
    assert!(text_of(boxes([1.0, f32::INFINITY, 2.0, 4.0], "cat")).contains("finite"));
    assert!(boxes([1.0, 1.0, 2.0, 4.0], "cat").is_ok());
    Ok(())
}

/// Labels in memory belong to a file too: that of the image.
#[test]
fn errors_of_labels_name_the_file_of_the_image() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("photo.png");
    let (image, _) = square(8, 1, 1, 3);
    image::save_buffer(&file, image.pixels(), 8, 8, image::ExtendedColorType::Rgb8).unwrap();
    let points = |point: Point| {
        DataBlock::blocks(ImageBlock::rgb(), PointBlock::new(1))
            .get_y(move |_: &PathBuf| Ok(vec![point]))
            .splitter(IndexSplitter::new([]))
            .bs(1)
            .dataloaders_from(vec![file.clone()])
    };
    let nan = text_of(points(Point::new(1.0, f32::NAN)));
    assert!(nan.contains("photo.png") && nan.contains("NaN"), "{nan}");
    let mask = |mask: ImageSource| {
        let dls = DataBlock::blocks(ImageBlock::rgb(), MaskBlock::new(["a", "b"]))
            .get_y(move |_: &PathBuf| Ok(mask.clone()))
            .splitter(IndexSplitter::new([]))
            .bs(1)
            .num_workers(0)
            .device(Device::Cpu)
            .dataloaders_from(vec![file.clone()])?;
        dls.train().one_batch()
    };
    let size = text_of(mask(Image::new(8, 4, 1, vec![0; 32])?.into()));
    assert!(size.contains("photo.png") && size.contains("8x4"), "{size}");
    let bytes = mask(b"not an image".to_vec().into()).unwrap_err();
    assert!(matches!(&bytes, Error::Image { .. }), "{bytes}");
    let bytes = bytes.to_string();
    assert!(bytes.contains("the mask of") && bytes.contains("photo.png"), "{bytes}");
    let code = text_of(mask(Image::new(8, 8, 1, vec![7; 64])?.into()));
    assert!(code.contains("photo.png") && code.contains("is 7"), "{code}");
    Ok(())
}

/// A U-Net learns the squares, and its predictions have the size of the original.
#[test]
fn a_unet_finds_squares_at_their_original_size() -> Result<()> {
    let loss = Combined::new(CrossEntropy::new().axis(1), 1.0).and(Dice::new(), 1.0);
    let mut learn = unet_learner(mask_loaders(false, 0)?, resnet18())
        .pretrained(false)
        .loss(loss)
        .metric(dice_multi())
        .metric(iou_of_class(1, "square"))
        .metric(foreground_acc(0))
        .build()?
        .quiet();
    learn.fit_one_cycle(4, 2e-3)?;
    let interp = SegmentationInterpretation::from_learner(&mut learn)?;
    assert_eq!(interp.confusion_matrix().sum(), 4 * 40 * 40);
    let row = learn.validate()?;
    let iou = row.iter().find(|(name, _)| name == "iou_square").unwrap().1;
    let counted = interp.overlaps()[1].iou();
    assert!((iou.unwrap_or(0.0) - counted).abs() < 1e-6, "{iou:?} {counted}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("squares.safetensors");
    learn.export(&file)?;
    let predictor = Predictor::load(&file, Device::Cpu)?;
    let (image, mask) = square(48, 14, 20, 14);
    let said = predictor.predict(image.clone())?;
    let own = said.mask().unwrap();
    assert_eq!((own.width(), own.height()), (48, 48));
    let probs = said.pixel_probs().unwrap();
    assert_eq!(probs.dim(), (2, 48, 48));
    assert!(probs.sum_axis(ndarray::Axis(0)).iter().all(|p| (p - 1.0).abs() < 1e-4));
    let right = own.pixels().iter().zip(mask.pixels()).filter(|(a, b)| a == b).count();
    assert!(right as f64 > 0.8 * 48.0 * 48.0, "{right} of {} pixels", 48 * 48);
    assert_eq!(learn.predict(image.clone())?.mask(), Some(own));
    // One tile that covers the whole image equals the image.
    let tiled = predictor.predict_tiles(image.clone(), Tiles::new(48))?;
    assert_eq!(tiled.mask(), Some(own));
    let tiled = predictor.predict_tiles(image.clone(), Tiles::new(32).overlap(16))?;
    assert_eq!(tiled.mask().map(|m| (m.width(), m.height())), Some((48, 48)));
    let none = text_of(predictor.batch_size(0).predict_tiles(image, Tiles::new(32)));
    assert!(none.contains("`batch_size` is 0"), "{none}");
    Ok(())
}

/// The decoder has the channels and sizes of the body's feature maps, also if the blocks of the body keep the
/// channels in the last dimension.
#[test]
fn a_unet_joins_the_feature_maps_of_each_family() -> Result<()> {
    for (name, channels) in [
        ("swin_tiny_patch4_window7_224", vec![384, 192, 96]),
        ("test_convnext", vec![48, 32, 24]),
        ("test_efficientnet", vec![48, 32, 24, 16]),
    ] {
        let dls = mask_block().item_tfms(Resize::hw(64, 96)).dataloaders_from((0..12).collect())?;
        let mut learn = unet_learner(dls, by_name(name)?).pretrained(false).build()?.quiet();
        let params = learn.model().params().iter();
        let joined =
            params.filter(|p| p.name.ends_with(".bn.weight") && p.name.contains("layers."));
        let joined: Vec<i64> = joined.map(|p| p.tensor.size()[0]).collect();
        assert_eq!(joined, channels, "{name}");
        let x = learn.dls().valid().one_batch()?.x.narrow(0, 0, 1);
        let mut sizes = BTreeMap::new();
        let mut visit = |name: &str, out: &Tensor| drop(sizes.insert(name.to_owned(), out.size()));
        let out = learn.model().forward_with(&x, false, &mut visit)?;
        assert_eq!(out.size(), [1, 2, 64, 96], "{name}");
        // From the smallest feature map, each step doubles the size.
        for (i, by) in (0..channels.len()).zip([16, 8, 4, 2]) {
            let size = &sizes[&format!("layers.{}", 4 + i)];
            assert_eq!(size[2..], [64 / by, 96 / by], "{name}: step {i} of {sizes:?}");
        }
        learn.fit(1, 1e-3)?;
    }
    Ok(())
}

#[test]
fn a_body_without_feature_maps_is_an_error_of_a_unet() -> Result<()> {
    for name in ["test_vit", "eva02_tiny_patch14_224"] {
        let dls = mask_block().item_tfms(Resize::new(112)).dataloaders_from((0..12).collect())?;
        let e = unet_learner(dls, by_name(name)?).pretrained(false).build().unwrap_err();
        assert!(matches!(e, Error::Unsupported { .. }), "{e}");
        assert!(e.to_string().contains("no feature maps of decreasing size"), "{e}");
    }
    // The error of a body that does not accept the images has the reason.
    let swin = by_name("swin_tiny_patch4_window7_224")?.image_size(64, 64);
    let spec = ArchSpec::unet(&swin, 3, 2, UnetOptions::new().size_hw(64, 96));
    let e = text_of(spec.build(Device::Cpu, Seed(1)));
    assert!(e.contains("built for images of 64×64 pixels"), "{e}");
    Ok(())
}

fn point_loaders() -> Result<DataLoaders> {
    let all = Arc::new(squares());
    DataBlock::rows(ImageBlock::rgb(), PointBlock::new(1))
        .get_x(move |&i: &usize| Ok(all[i].0.clone()))
        .get_y(|&i| {
            let (i, half) = (i as f32, (12 + i % 4) as f32 / 2.0);
            Ok(vec![Point::new(4.0 + i * 2.0 + half, 30.0 - i * 2.0 + half)])
        })
        .splitter(IndexSplitter::new([2, 5, 8, 11]))
        .item_tfms(Resize::hw(40, 24))
        .batch_tfms(aug_transforms().size_hw(32, 32).max_warp(0.0))
        .bs(4)
        .num_workers(0)
        .device(Device::Cpu)
        .dataloaders_from((0..12).collect())
}

#[test]
fn points_are_predicted_in_pixels_of_the_original() -> Result<()> {
    let dls = point_loaders()?;
    let batch = dls.valid().one_batch()?;
    // The distance of a correct prediction is 0. A prediction that is off by the width of the input is
    // off by the width of the part of the original that the input shows.
    let y = batch.y.as_ref().unwrap();
    let mut metric = point_distance();
    metric.update_batch(&y.view([-1, 2]), &batch)?;
    assert!(metric.value()?.unwrap() < 1e-4);
    metric.reset();
    let off = y.view([-1, 2]) + Tensor::from_slice(&[2.0_f32, 0.0]);
    metric.update_batch(&off, &batch)?;
    // The crop keeps 24 of 48 columns for each 40 rows, in whole pixels: 28.
    assert!((metric.value()?.unwrap() - 28.0).abs() < 1e-3);
    let e = metric.update(&y.view([-1, 2]), y).unwrap_err();
    assert!(matches!(e, Error::Unsupported { what: "point_distance", .. }), "{e}");
    assert!(e.to_string().contains("use `update_batch`"), "{e}");

    let mut learn = vision_learner(dls, resnet18())
        .pretrained(false)
        .head(HeadOptions::new().y_range(-1.0, 1.0))
        .metric(point_distance())
        .build()?
        .quiet();
    learn.fit_one_cycle(2, 1e-3)?;
    let (image, _) = square(48, 14, 20, 14);
    let said = learn.predict(image)?;
    let Target::Points(points) = &said.target else { panic!("{said:?}") };
    assert!((0.0..=48.0).contains(&points[0].x) && (0.0..=48.0).contains(&points[0].y));
    Ok(())
}

/// The default loss ignores hidden points.
#[test]
fn hidden_points_are_ignored() {
    let loss = PointMse;
    let pred = Tensor::from_slice(&[0.5_f32, 0.0, 9.0, 9.0]).view([1, 4]).set_requires_grad(true);
    let y = Tensor::from_slice(&[0.0_f32, 0.0, f32::NAN, f32::NAN]).view([1, 2, 2]);
    let mean = loss.mean(&pred, &y).unwrap();
    assert!((mean.double_value(&[]) - 0.125).abs() < 1e-6);
    mean.backward();
    let grad = Vec::<f32>::try_from(&pred.grad().view([-1])).unwrap();
    assert_eq!(grad[2..], [0.0, 0.0]);
}

#[test]
fn a_model_that_does_not_match_its_targets_is_an_error() -> Result<()> {
    let masks = vision_learner(mask_loaders(false, 0)?, resnet18()).pretrained(false).build();
    assert!(text_of(masks).contains("unet_learner"));
    let points = unet_learner(point_loaders()?, resnet18()).pretrained(false).build();
    assert!(text_of(points).contains("vision_learner"));
    let score = iou_of_class(2, "sky");
    let masks = unet_learner(mask_loaders(false, 0)?, resnet18()).pretrained(false).metric(score);
    let told = text_of(masks.build());
    assert!(told.contains("`class` is 2; it must be the index of one of the 2 classes"), "{told}");
    let more = unet_learner(mask_loaders(false, 0)?, resnet18()).pretrained(false).n_out(5);
    let more = text_of(more.build());
    assert!(more.contains("5 outputs for 2 codes"), "{more}");
    Ok(())
}

/// Returns a learner whose network depends only on the pixel itself: the logit of code 1 is `40 g - 20` for a
/// green value `g`, and that of code 0 is 0.
fn pointwise(dls: DataLoaders) -> Result<Learner> {
    let learn = unet_learner(dls, resnet18()).pretrained(false).build()?.quiet();
    let params = learn.model().params();
    tch::no_grad(|| {
        // The last block then returns its input: the output of the decoder, followed by the image.
        for p in params.iter().filter(|p| p.name.contains(".convpath.1.")) {
            let _ = p.tensor.shallow_clone().zero_();
        }
        let weight = params.iter().rev().find(|p| p.tensor.dim() == 4).unwrap();
        let name = weight.name.replace("weight", "bias");
        let bias = params.iter().find(|p| p.name == name).unwrap();
        let channels = weight.tensor.size()[1];
        let _ = weight.tensor.shallow_clone().zero_();
        let _ = weight.tensor.get(1).get(channels - 2).fill_(40.0);
        bias.tensor.shallow_clone().copy_(&Tensor::from_slice(&[0.0_f32, -20.0]));
    });
    Ok(learn)
}

/// Exports a learner and loads the file.
fn exported(learn: &Learner) -> Result<Predictor> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    learn.export(&file)?;
    Predictor::load(&file, Device::Cpu)
}

/// If the outputs of a pixel depend on that pixel only, tiles change nothing.
#[test]
fn tiles_give_the_probabilities_of_the_whole_image() -> Result<()> {
    // Without a resize, a tile has the pixels of the image.
    let dls = mask_block().dataloaders_from((0..12).collect())?;
    let predictor = exported(&pointwise(dls)?)?.batch_size(4);
    let (width, height) = (83_u32, 57_u32);
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let pixels = places.flat_map(|(x, y)| [3 * x, 37 * x + 91 * y, 4 * y].map(|v| (v % 256) as u8));
    let image = Image::new(width, height, 3, pixels.collect())?;
    let whole = predictor.predict(image.clone())?;
    let probs = whole.pixel_probs().unwrap();
    assert_eq!(probs.dim(), (2, 57, 83));
    for ((code, y, x), p) in probs.indexed_iter() {
        let green = f32::from(image.pixels()[(y * 83 + x) * 3 + 1]) / 255.0;
        let logit = (40.0 * green - 20.0) * if code == 1 { 1.0 } else { -1.0 };
        let wanted = 1.0 / (1.0 + (-logit).exp());
        assert!((p - wanted).abs() < 1e-4, "{p} instead of {wanted} at {x}, {y}");
    }
    for tiles in [Tiles::new(32).overlap(8), Tiles::new(33).overlap(25), Tiles::new(64)] {
        let tiled = predictor.predict_tiles(image.clone(), tiles)?;
        assert_eq!(tiled.mask(), whole.mask(), "{tiles:?}");
        let tiled_probs = tiled.pixel_probs().unwrap();
        let far = (&tiled_probs - &probs).iter().fold(0.0_f32, |most, d| most.max(d.abs()));
        assert!(far < 1e-5, "{tiles:?}: {far}");
        let means = tiled.probs.iter().zip(&whole.probs);
        assert!(means.into_iter().all(|(a, b)| (a - b).abs() < 1e-4), "{tiles:?}");
    }
    Ok(())
}

/// The images of a batch have other sizes and shapes than the network's input, and than each other.
#[test]
fn a_loaded_predictor_gives_each_mask_the_size_of_its_image() -> Result<()> {
    let resize = Resize::hw(64, 48).method(Method::Squish);
    let dls = mask_block().item_tfms(resize).dataloaders_from((0..12).collect())?;
    let mut learn = pointwise(dls)?;
    let predictor = exported(&learn)?;
    // The size of each image, and the left, top, right and bottom of its bright rectangle.
    let all: [(u32, u32, [u32; 4]); 3] =
        [(90, 60, [10, 20, 60, 45]), (40, 100, [5, 30, 25, 74]), (48, 64, [8, 8, 20, 60])];
    let images = all.map(|(w, h, [left, top, right, bottom])| {
        let bright = |x: u32, y: u32| (left..right).contains(&x) && (top..bottom).contains(&y);
        let places = (0..h).flat_map(|y| (0..w).map(move |x| (x, y)));
        let pixels = places.flat_map(|(x, y)| [90, if bright(x, y) { 200 } else { 60 }, 90]);
        Image::new(w, h, 3, pixels.collect()).unwrap()
    });
    let said = predictor.predict_batch(images.clone())?;
    for ((said, image), (w, h, [left, top, right, bottom])) in said.iter().zip(&images).zip(all) {
        let mask = said.mask().unwrap();
        assert_eq!((mask.width(), mask.height()), (w, h));
        assert_eq!(said.pixel_probs().unwrap().dim(), (2, h as usize, w as usize));
        for (i, code) in (0..w * h).zip(mask.pixels()) {
            let (x, y) = (i % w, i / w);
            // Pixels within 2 of an edge may be rounded to either side.
            let inside = |d: i64| {
                let within = |v: u32, a: u32, b: u32| {
                    (i64::from(a) - d..i64::from(b) + d).contains(&i64::from(v))
                };
                within(x, left, right) && within(y, top, bottom)
            };
            match (inside(-2), inside(2)) {
                (true, _) => assert_eq!(*code, 1, "{w}x{h}: {x}, {y}"),
                (_, false) => assert_eq!(*code, 0, "{w}x{h}: {x}, {y}"),
                _ => {}
            }
        }
        assert_eq!(predictor.predict(image.clone())?.mask(), Some(mask));
        assert_eq!(learn.predict(image.clone())?.mask(), Some(mask));
    }
    Ok(())
}

#[test]
fn a_loaded_predictor_places_points_in_each_image() -> Result<()> {
    let model = ArchSpec::classifier(&resnet18(), 3, 2).build(Device::Cpu, Seed(1))?;
    let mut learn = Learner::new(point_loaders()?, model, PointMse)?.quiet();
    // The same place for every image: three quarters from the left, three eighths from the top.
    tch::no_grad(|| {
        let find = |name: &str| learn.model().params().iter().find(|p| p.name == name).unwrap();
        let _ = find("fc.weight").tensor.shallow_clone().zero_();
        let place = Tensor::from_slice(&[0.5_f32, -0.25]);
        find("fc.bias").tensor.shallow_clone().copy_(&place);
    });
    let predictor = exported(&learn)?;
    // The size of each image; the left edge and the width of the part that the network sees, which has the
    // shape of the input and the full height.
    let all: [(u32, u32, f32, f32); 3] =
        [(60, 90, 3.0, 54.0), (100, 50, 35.0, 30.0), (48, 48, 10.0, 28.0)];
    let images = all.map(|(w, h, ..)| Image::new(w, h, 3, vec![90; (w * h * 3) as usize]).unwrap());
    let said = predictor.predict_batch(images.clone())?;
    assert_eq!(said.len(), 3);
    for ((said, image), (w, h, left, wide)) in said.iter().zip(&images).zip(all) {
        let Target::Points(points) = &said.target else { panic!("{said:?}") };
        let wanted = (left + 0.75 * wide, 0.375 * h as f32);
        let near = (points[0].x - wanted.0).abs() < 1e-3 && (points[0].y - wanted.1).abs() < 1e-3;
        assert!(near && points.len() == 1, "{w}x{h}: {points:?} instead of {wanted:?}");
        assert_eq!(predictor.predict(image.clone())?.target, said.target);
        assert_eq!(learn.predict(image.clone())?.target, said.target);
    }

    // A damaged file with more points than any network has outputs.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("points.safetensors");
    learn.export(&file)?;
    let (state, mut about) = read_safetensors(&file)?;
    let export = about.get_mut("export").unwrap();
    let (one, many) = (r#""kind":"points","n":1"#, r#""kind":"points","n":18446744073709551615"#);
    assert!(export.contains(one), "{export}");
    *export = export.replace(one, many);
    write_safetensors(&file, &state, Some(about))?;
    let e = Predictor::load(&file, Device::Cpu).unwrap_err();
    assert!(matches!(e, Error::Checkpoint { .. }), "{e}");
    assert!(e.to_string().contains("2 outputs"), "{e}");
    Ok(())
}

#[test]
fn predicted_masks_that_do_not_fit_are_errors_of_the_interpretation() -> Result<()> {
    let of = |said: Image| {
        let task = Task::Mask { codes: ["a".to_owned(), "b".to_owned()].into(), ignored: Some(9) };
        // 9 is ignored, and 7 is not a code.
        let target = Target::Mask(Image::new(4, 2, 1, vec![0, 1, 0, 1, 9, 7, 0, 1])?);
        let (preds, decoded) = (Array2::zeros((1, 2)), vec![Target::Mask(said)]);
        let all = Predictions::new(vec![3], preds, vec![target], decoded, vec![], task);
        SegmentationInterpretation::from_predictions(all)
    };
    let fits = of(Image::new(4, 2, 1, vec![0, 1, 1, 1, 0, 0, 0, 0])?)?;
    assert_eq!(fits.confusion_matrix(), &ndarray::array![[2, 1], [1, 2]]);
    let turned = text_of(of(Image::new(2, 4, 1, vec![0; 8])?));
    assert!(["item 3", "4x2", "2x4"].iter().all(|word| turned.contains(word)), "{turned}");
    let beyond = text_of(of(Image::new(4, 2, 1, vec![0, 1, 2, 1, 0, 0, 0, 0])?));
    assert!(beyond.contains("item 3") && beyond.contains("code 2"), "{beyond}");
    Ok(())
}

#[test]
fn the_accuracy_of_the_foreground_ignores_a_value() -> Result<()> {
    let ones = Tensor::from_slice(&[0.0_f32, 1.0, 0.0, 0.0]).view([1, 1, 1, 4]);
    let half = ones.zeros_like() + 0.5;
    let pred = Tensor::cat(&[&half, &ones], 1);
    let y = Tensor::from_slice(&[0_i64, 1, 1, 255]).view([1, 1, 4]);
    let value = |mut metric: ForegroundAccuracy| -> Result<f64> {
        metric.update(&pred, &y)?;
        Ok(metric.value()?.unwrap())
    };
    assert!((value(foreground_acc(0))? - 1.0 / 3.0).abs() < 1e-9);
    assert!((value(foreground_acc(0).ignore_index(255))? - 0.5).abs() < 1e-9);
    assert!((value(foreground_acc(0).ignore_index(0))? - 1.0 / 3.0).abs() < 1e-9);
    Ok(())
}

#[test]
fn a_user_transform_can_set_the_placement() {
    let (image, _) = square(8, 1, 1, 3);
    let mut sample = Sample::new(image.clone(), Target::None);
    let whole = sample.placement().unwrap().clone();
    sample.image = image.resize(4, 4, Default::default()).unwrap();
    assert!(sample.placement().is_none(), "its size has changed");
    let map = [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]];
    sample.set_placement(Some(whole.then((4, 4), map)));
    assert_eq!(sample.placement().unwrap().to_original(1.0, 3.0), (2.0, 6.0));
}

#[cfg(feature = "show")]
#[test]
fn figures_show_masks_points_and_boxes() -> Result<()> {
    // The colors of both codes are in the figure of a batch, and in its legend.
    let shown = mask_loaders(true, 0)?.show_batch(4)?.image()?;
    assert!(shown.width() > 200);
    let distinct: std::collections::BTreeSet<&[u8]> = shown.pixels().chunks(3).collect();
    assert!(
        distinct.contains(&[0x00, 0x72, 0xb2][..]),
        "the legend has the color of the first code"
    );
    let points = point_loaders()?.show_batch(4)?.image()?;
    assert!(points.pixels().chunks(3).any(|p| p == [0x00, 0x72, 0xb2]));
    let mut learn = unet_learner(mask_loaders(false, 0)?, resnet18())
        .pretrained(false)
        .unet(UnetOptions::new().blur(true))
        .build()?
        .quiet();
    assert!(learn.show_results(2)?.image()?.width() > 200);
    let html = learn.report("Squares")?.html();
    assert!(html.contains("Mean IoU") && html.contains("square"));
    Ok(())
}

/// A model may predict a point at any distance.
#[cfg(feature = "show")]
#[test]
fn points_far_outside_of_the_image_are_not_drawn() -> Result<()> {
    let vars = nn::VarStore::new(Device::Cpu);
    let far = vars.root().var("far", &[2], nn::Init::Const(1e19));
    let sign = Tensor::from_slice(&[1.0_f32, -1.0]);
    let net = nn::func_t(move |x, _| (&far * &sign).unsqueeze(0).repeat([x.size()[0], 1]));
    let model = Model::from_module(vars, net)?;
    let mut learn = Learner::new(point_loaders()?, model, PointMse)?.quiet();
    assert!(learn.show_results(2)?.image()?.width() > 64);
    Ok(())
}

/// A loader pads boxes and returns their classes.
#[test]
fn boxes_are_padded_and_have_classes() -> Result<()> {
    let all = Arc::new(squares());
    let label = |n: usize| {
        let boxes = vec![[4.0_f32, 6.0, 20.0, 30.0]; n];
        (boxes, vec!["cat".to_owned(); n])
    };
    let dls = DataBlock::rows(ImageBlock::rgb(), (BBoxBlock::new(), BBoxLblBlock::new()))
        .get_x(move |&i: &usize| Ok(all[i].0.clone()))
        .get_y(move |&i| Ok(label(i + 1)))
        .splitter(IndexSplitter::new([0, 1]))
        .item_tfms(Resize::new(24))
        .bs(2)
        .num_workers(0)
        .device(Device::Cpu)
        .dataloaders_from((0..4).collect())?;
    let Batch { y, labels, .. } = dls.valid().one_batch()?;
    let (y, labels) = (y.unwrap(), labels.unwrap());
    assert_eq!((y.size(), labels.size()), (vec![2, 2, 4], vec![2, 2]));
    assert_eq!(Vec::<Vec<i64>>::try_from(&labels).unwrap(), [[1, 0], [1, 1]]);
    let first = Vec::<f32>::try_from(&y.get(0).get(0)).unwrap();
    let wanted = [4.0, 6.0, 20.0, 30.0].map(|v: f32| v * 2.0 / 48.0 - 1.0);
    assert!(first.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{first:?}");
    assert_eq!(y.get(0).get(1).abs().max().double_value(&[]), 0.0);
    let source: ImageSource = PathBuf::from("a.png").into();
    assert_eq!(format!("{source:?}"), "a.png");
    Ok(())
}
