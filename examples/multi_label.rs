//! Trains a classifier with several labels per photo: the animal and the breed.
//!
//! `cargo run --release --example multi_label`
#![allow(clippy::print_stdout, reason = "a program shows what it does")]

use finetune::{interpret::MultiLabelInterpretation, prelude::*};
use std::path::PathBuf;

fn main() -> Result<()> {
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/data/pets/images");
    // In this data set, names of cat breeds are capitalized, and names of dog breeds are not.
    let breed = using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?);
    let labels = move |file: &PathBuf| {
        let breed = breed(file)?;
        let animal = if breed.starts_with(char::is_uppercase) { "cat" } else { "dog" };
        Ok(vec![animal.to_owned(), breed])
    };
    let dls = DataBlock::blocks(ImageBlock::rgb(), MultiCategoryBlock::new())
        .get_items(get_image_files)
        .get_y(labels)
        .item_tfms(Resize::new(128))
        .batch_tfms(aug_transforms().size(64).min_scale(0.75))
        .bs(16)
        .dataloaders(photos)?;
    println!("labels: {}", dls.task().vocab().join(", "));

    // The loss is binary cross-entropy, since the targets are several labels.
    let mut learn = vision_learner(dls, resnet18()).pretrained(false).build()?;
    learn.fit_one_cycle(3, 3e-3)?;

    let interp = MultiLabelInterpretation::from_learner(&mut learn)?;
    println!("{}", interp.classification_report());
    Ok(())
}
