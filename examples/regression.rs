//! Predicts numbers instead of classes: the mean red, green and blue of a photo, which are easy to verify.
//!
//! `cargo run --release --example regression`
#![allow(clippy::print_stdout, reason = "a program shows what it does")]

use finetune::{data::RegressionBlock, interpret::RegressionInterpretation, prelude::*};
use std::path::PathBuf;

/// Returns the mean of each channel of a photo, from 0 to 1.
fn mean_color(file: &PathBuf) -> Result<Vec<f32>> {
    let image = finetune::image::Decode::new().open(file)?;
    let mut sums = [0.0_f64; 3];
    for pixel in image.pixels().chunks_exact(3) {
        for (sum, &value) in sums.iter_mut().zip(pixel) {
            *sum += f64::from(value) / 255.0;
        }
    }
    let n = f64::from(image.width()) * f64::from(image.height());
    Ok(sums.iter().map(|sum| (sum / n) as f32).collect())
}

fn main() -> Result<()> {
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/data/pets/images");
    let dls = DataBlock::blocks(ImageBlock::rgb(), RegressionBlock::new(3))
        .get_items(get_image_files)
        .get_y(mean_color)
        .item_tfms(Resize::new(64))
        .bs(16)
        .dataloaders(photos)?;

    // The loss is the mean squared error, since the targets are numbers.
    let mut learn = vision_learner(dls, resnet18()).pretrained(false).build()?;
    learn.fit_one_cycle(5, 3e-3)?;

    let interp = RegressionInterpretation::from_learner(&mut learn)?;
    println!("mean absolute errors of red, green, blue: {:.3?}", interp.mae());
    println!("R²: {:.3?}", interp.r2());
    Ok(())
}
