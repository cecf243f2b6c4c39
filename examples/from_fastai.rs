//! Converts a model that fastai trained to a file for `Predictor`, from the weights of `learn.save` and the same
//! description of the data.
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
    /// The file that fastai's `learn.save` wrote, with or without the optimizer
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
    // `load` reads from the folder `model_dir`, as in fastai.
    let folder = args.weights.parent().unwrap_or(&args.weights);
    let name = args.weights.file_name().unwrap_or_default().to_string_lossy();
    let arch = model::by_name(&args.arch)?;
    let mut learn = vision_learner(dls, arch).pretrained(false).build()?.model_dir(folder);
    learn.load(&name)?;
    learn.export(&args.to)
}
