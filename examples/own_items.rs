//! Uses items of a user-defined type: rows with the file, the breed and the number of a photo.
//!
//! `cargo run --release --example own_items`
#![allow(clippy::print_stdout, reason = "a program shows what it does")]

use finetune::{data::Splits, prelude::*};
use std::path::PathBuf;

/// A row of a database of photos.
struct Photo {
    file: PathBuf,
    breed: String,
    number: usize,
}

fn photos() -> Result<Vec<Photo>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/pets/images");
    let mut all = vec![];
    for file in get_image_files(folder)? {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Some((breed, number)) = stem.rsplit_once('_') {
            let number = number.parse().map_err(finetune::Error::other)?;
            all.push(Photo { breed: breed.to_owned(), number, file });
        }
    }
    Ok(all)
}

fn main() -> Result<()> {
    // Photos with neighboring numbers may show the same animal, so they are kept in the same split.
    let by_number = |photos: &[Photo]| {
        let (valid, train) =
            (0..photos.len()).partition(|&i| (photos[i].number / 10).is_multiple_of(5));
        Ok(Splits { train, valid })
    };
    let dls = DataBlock::rows(ImageBlock::rgb(), CategoryBlock::new())
        .get_x(|photo: &Photo| Ok(photo.file.clone()))
        .get_y(|photo| Ok(photo.breed.clone()))
        .splitter(by_number)
        .item_tfms(Resize::new(128))
        .batch_tfms(aug_transforms().size(64).min_scale(0.75))
        .bs(16)
        .dataloaders_from(photos()?)?;
    println!("{} to train on, {} to validate", dls.train().len(), dls.valid().len());

    let mut learn =
        vision_learner(dls, resnet18()).pretrained(false).metric(error_rate()).build()?;
    learn.fit_one_cycle(2, 3e-3)
}
