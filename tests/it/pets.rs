//! The bundled photos, and blocks and learners on them for several tests.

use finetune::prelude::*;
use std::path::{Path, PathBuf};

/// The breeds of the bundled photos.
pub(crate) const BREEDS: [&str; 3] = ["Abyssinian", "Bengal", "american_bulldog"];

/// Returns the folder of the bundled photos.
pub(crate) fn photos() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/pets/images")
}

/// Returns a function that lists the first `each` photos of every breed in `breeds`.
pub(crate) fn first_of(
    breeds: &'static [&'static str],
    each: usize,
) -> impl Fn(&Path) -> Result<Vec<PathBuf>> + Send + Sync + Copy {
    move |folder| {
        let files = get_image_files(folder)?;
        let of = |breed: &&str| {
            let is_of = |f: &&PathBuf| {
                f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(*breed))
            };
            files.iter().filter(is_of).take(each).cloned().collect::<Vec<_>>()
        };
        Ok(breeds.iter().flat_map(of).collect())
    }
}

/// Returns a block of twelve photos per breed, augmented to 64 pixels, in batches of 8.
pub(crate) fn block() -> Result<DataBlock<CategoryBlock>> {
    Ok(DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(first_of(&BREEDS, 12))
        .splitter(RandomSplitter::new(0.25).seed(42))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(80))
        .batch_tfms(aug_transforms().size(64).min_scale(0.75))
        .bs(8)
        .num_workers(2)
        .device(Device::Cpu))
}

/// Returns a block of four photos of each breed in `breeds`, without transforms.
pub(crate) fn few(breeds: &'static [&'static str], images: ImageBlock) -> DataBlock<CategoryBlock> {
    DataBlock::blocks(images, CategoryBlock::new())
        .get_items(first_of(breeds, 4))
        .splitter(RandomSplitter::new(0.25).seed(42))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$").unwrap()))
        .num_workers(0)
        .device(Device::Cpu)
}

/// Returns a learner of [`block`] with a ResNet-18 from scratch.
pub(crate) fn learner() -> Result<Learner> {
    let learner = vision_learner(block()?.dataloaders(photos())?, resnet18()).pretrained(false);
    Ok(learner.metric(accuracy()).metric(error_rate()).build()?.quiet())
}
