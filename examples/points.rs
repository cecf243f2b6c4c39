//! Predicts points: the centers of a yellow and a blue disc on photos. On some photos, the blue one is hidden.
//!
//! `cargo run --release --example points` writes its figures to `target/points/`.
#![allow(clippy::print_stdout, reason = "a program shows what it does")]

use finetune::{
    data::{IndexSplitter, PointBlock},
    image::{Decode, Image},
    metric::point_distance,
    model::HeadOptions,
    prelude::*,
    sample::{Point, Target},
};
use std::{path::PathBuf, sync::Arc};

/// Returns a photo of 96 pixels with a yellow disc and on most photos a blue one, and their centers.
fn pasted(photo: &PathBuf, number: usize) -> Result<(Image, Vec<Point>)> {
    let side = 96_i64;
    let image = Decode::new().open(photo)?.resize(96, 96, Default::default())?;
    let mut pixels = image.pixels().to_vec();
    let places = [
        (number * 37 % 61 + 18, number * 53 % 59 + 18),
        (number * 71 % 59 + 18, number * 29 % 61 + 18),
    ];
    let colors = [[250_u8, 220, 30], [20, 60, 230]];
    let mut points = vec![];
    for (k, ((cx, cy), color)) in places.into_iter().zip(colors).enumerate() {
        if k == 1 && number.is_multiple_of(7) {
            points.push(Point::hidden());
            continue;
        }
        let (cx, cy, radius) = (cx as i64, cy as i64, 8_i64);
        for y in cy - radius..=cy + radius {
            for x in cx - radius..=cx + radius {
                if (x - cx).pow(2) + (y - cy).pow(2) <= radius * radius {
                    let at = (y * side + x) as usize * 3;
                    pixels[at..at + 3].copy_from_slice(&color);
                }
            }
        }
        // The position of a pixel's center is its index plus 0.5.
        points.push(Point::new(cx as f32 + 0.5, cy as f32 + 0.5));
    }
    Ok((Image::new(96, 96, 3, pixels)?, points))
}

fn main() -> Result<()> {
    let folder = PathBuf::from("target/points");
    let photos = get_image_files(concat!(env!("CARGO_MANIFEST_DIR"), "/data/pets/images"))?;
    // Generate four images from each photo.
    let n = 4 * photos.len();
    let made = |i: usize| pasted(&photos[i % photos.len()], i + 1);
    let all = Arc::new((0..n).map(made).collect::<Result<Vec<_>>>()?);
    let (images, points) = (all.clone(), all.clone());

    let dls = DataBlock::rows(ImageBlock::rgb(), PointBlock::new(2))
        .get_x(move |&i: &usize| Ok(images[i].0.clone()))
        .get_y(move |&i| Ok(points[i].1.clone()))
        .splitter(IndexSplitter::new(
            (0..n).filter(|i| i % photos.len() % 5 == 0).collect::<Vec<_>>(),
        ))
        .item_tfms(Resize::new(80))
        .batch_tfms(aug_transforms().size(64).flip_vert(false))
        .bs(16)
        .dataloaders_from((0..n).collect())?;
    dls.show_batch(9)?.save(folder.join("batch.png"))?;

    // The loss is the mean squared error of the visible points.
    let mut learn = vision_learner(dls, resnet18())
        .pretrained(false)
        .head(HeadOptions::new().y_range(-1.2, 1.2))
        .metric(point_distance())
        .build()?;
    learn.fit_one_cycle(15, 3e-3)?;
    learn.show_results(6)?.save(folder.join("results.png"))?;

    let (image, truth) = &all[5];
    let said = learn.predict(image.clone())?;
    if let Target::Points(points) = &said.target {
        for (said, is) in points.iter().zip(truth) {
            println!("({:.1}, {:.1}) for ({}, {})", said.x, said.y, is.x, is.y);
        }
    }
    println!("pictures in {}", folder.display());
    Ok(())
}
