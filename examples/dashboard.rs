//! Shows a training as a full-screen terminal view: `cargo run --release --features dashboard --example dashboard`.
//! `q` stops the training.
#![allow(clippy::print_stdout, reason = "a program shows what it does")]

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
    let mut learn = learn.quiet().callback(Dashboard::new());
    learn.fit_one_cycle(4, 1e-3)?;
    if learn.stop_handle().is_requested() {
        println!("the weights are those of step {}", learn.recorder().losses.len());
    }
    Ok(())
}
