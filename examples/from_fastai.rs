//! A model that fastai trained becomes one file for `Predictor`: its weights from `learn.save`, and the
//! data described as they were for fastai.
//!
//! `cargo run --release --example from_fastai -- --images DIR --weights models/stage-1.pth`

use clap::Parser;
use finetune::{model, prelude::*, transform::Normalize};
use std::path::PathBuf;

#[derive(Parser, Debug)]
struct Args {
    /// The folder of photos that it was trained on, named as the Oxford-IIIT Pet photos are
    #[arg(long)]
    images: PathBuf,
    /// What `learn.save` of fastai wrote, with or without the optimizer
    #[arg(long)]
    weights: PathBuf,
    #[arg(long, default_value = "resnet34")]
    arch: String,
    /// The file for `Predictor::load`
    #[arg(long, default_value = "pets.safetensors")]
    to: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .splitter(RandomSplitter::new(0.2).seed(42))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(460))
        .batch_tfms(aug_transforms().size(224).min_scale(0.75))
        .batch_tfms(Normalize::imagenet())
        .dataloaders(&args.images)?;
    // `load` looks in a folder, as fastai's does in `models`.
    let folder = args.weights.parent().unwrap_or(&args.weights);
    let name = args.weights.file_name().unwrap_or_default().to_string_lossy();
    let arch = model::by_name(&args.arch)?;
    let mut learn = vision_learner(dls, arch).pretrained(false).build()?.model_dir(folder);
    learn.load(&name)?;
    learn.export(&args.to)
}
