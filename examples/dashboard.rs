//! A training on the whole terminal: `cargo run --release --features dashboard --example dashboard`.
//! `q` stops it.

use finetune::{callback::Dashboard, prelude::*};

fn main() -> Result<()> {
    let photos = std::env::args().nth(1).unwrap_or_else(|| "data/pets/images".into());
    let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .splitter(RandomSplitter::new(0.2).seed(42))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(128))
        .batch_tfms(aug_transforms().size(96))
        .bs(8)
        .dataloaders(photos)?;
    let learn = vision_learner(dls, resnet18()).pretrained(false).metric(accuracy()).build()?;
    let stop = learn.stop_handle();
    let mut learn = learn.quiet().callback(Dashboard::new(stop.clone()));
    learn.fit_one_cycle(4, 1e-3)?;
    if stop.requested() {
        println!("stopped by a key");
    }
    for row in &learn.recorder().rows {
        println!("epoch {}: {:?}", row.epoch, row.values);
    }
    Ok(())
}
