//! Predicts a code for each pixel: discs and squares pasted on photos, with exact masks.
//!
//! `cargo run --release --example segmentation` writes its figures and a report to
//! `target/segmentation/`.
#![allow(clippy::print_stdout, reason = "a program shows what it does")]

use finetune::{
    data::{IndexSplitter, MaskBlock},
    image::{Decode, Image},
    interpret::SegmentationInterpretation,
    learner::Tiles,
    loss::{Combined, CrossEntropy, Dice},
    metric::{dice_multi, foreground_acc, jaccard_coeff_multi},
    prelude::*,
};
use std::{path::PathBuf, sync::Arc};

/// Returns a photo of `side` pixels with shapes pasted on it, and the code of each pixel: 0 for the photo,
/// 1 for discs, 2 for squares. The same `number` gives the same image.
fn pasted(photo: &PathBuf, number: usize, side: u32) -> Result<(Image, Image)> {
    let image = Decode::new().open(photo)?.resize(side, side, Default::default())?;
    let (mut pixels, mut codes) = (image.pixels().to_vec(), vec![0_u8; (side * side) as usize]);
    // A small random generator, so that the example needs no other crate.
    let mut state = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut draw = |n: u32| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % u64::from(n)) as i64
    };
    for shape in 0..3 + draw(3) {
        let code = 1 + (shape % 2) as u8;
        let radius = i64::from(side) / 14 + draw(side / 10);
        let (cx, cy) = (draw(side), draw(side));
        let color = [draw(256) as u8, draw(256) as u8, draw(256) as u8];
        for y in (cy - radius).max(0)..(cy + radius + 1).min(side.into()) {
            for x in (cx - radius).max(0)..(cx + radius + 1).min(side.into()) {
                let far = (x - cx).pow(2) + (y - cy).pow(2);
                if code == 2 || far <= radius * radius {
                    let at = (y * i64::from(side) + x) as usize;
                    codes[at] = code;
                    pixels[at * 3..at * 3 + 3].copy_from_slice(&color);
                }
            }
        }
    }
    Ok((Image::new(side, side, 3, pixels)?, Image::new(side, side, 1, codes)?))
}

fn main() -> Result<()> {
    let folder = PathBuf::from("target/segmentation");
    let photos = get_image_files(concat!(env!("CARGO_MANIFEST_DIR"), "/data/pets/images"))?;
    let n = photos.len();
    let made = |(i, photo): (usize, &PathBuf)| pasted(photo, i, 160);
    let all = Arc::new(photos.iter().enumerate().map(made).collect::<Result<Vec<_>>>()?);
    let (images, masks) = (all.clone(), all);

    let block = DataBlock::rows(ImageBlock::rgb(), MaskBlock::new(["photo", "disc", "square"]))
        .get_x(move |&i: &usize| Ok(images[i].0.clone()))
        .get_y(move |&i| Ok(masks[i].1.clone().into()))
        .splitter(IndexSplitter::new((0..n).filter(|i| i % 5 == 0).collect::<Vec<_>>()))
        .item_tfms(Resize::new(144))
        .batch_tfms(aug_transforms().size(128))
        .bs(8);
    let dls = block.dataloaders_from((0..n).collect())?;
    dls.show_batch(9)?.save(folder.join("batch.png"))?;

    let loss = Combined::new(CrossEntropy::new().axis(1), 1.0).and(Dice::new(), 1.0);
    let mut learn = unet_learner(dls, resnet18())
        .pretrained(false)
        .loss(loss)
        .metric(foreground_acc(0))
        .metric(dice_multi())
        .metric(jaccard_coeff_multi())
        .build()?;
    learn.fit_one_cycle(8, 1e-3)?;

    let interp = SegmentationInterpretation::from_learner(&mut learn)?;
    println!("{}", interp.table());
    learn.show_results(6)?.save(folder.join("results.png"))?;
    interp.plot_top_losses(learn.dls().valid(), 6)?.save(folder.join("worst.png"))?;
    learn.report("Shapes on photos")?.save(folder.join("report.html"))?;

    // Predict a larger image in tiles; its mask has the size of the image.
    learn.export(folder.join("shapes.safetensors"))?;
    let shapes = Predictor::load(folder.join("shapes.safetensors"), Device::Cpu)?;
    let (large, truth) = pasted(&photos[0], 1000, 400)?;
    let said = shapes.predict_tiles(large, Tiles::new(160).overlap(40))?;
    let mask = said.mask().ok_or_else(|| Error::other("no mask"))?;
    let right = mask.pixels().iter().zip(truth.pixels()).filter(|(a, b)| a == b).count();
    println!("tiles: {:.1} % of {} pixels are right", right as f64 / 1600.0, mask.pixels().len());
    println!("pictures and report in {}", folder.display());
    Ok(())
}
