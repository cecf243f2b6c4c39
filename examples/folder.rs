//! Trains and exports a classifier for a folder of photos, one subfolder per class, and writes a report.
//!
//! `cargo run --release --example folder -- PHOTOS`; `--help` lists the options.

#![allow(clippy::print_stdout, reason = "a program shows what it does")]

mod start;

use clap::Parser;
use finetune::{data::TrainTestSplitter, prelude::*};
use std::{fs, path::PathBuf};

/// Trains a classifier of photos: PHOTOS/cat/1.jpg, PHOTOS/dog/2.jpg and so on.
///
/// Writes report.html and model.safetensors, with which `examples/label.rs` labels photos.
#[derive(Parser, Debug)]
pub(crate) struct Args {
    /// The folder with one sub-folder of photos per class
    photos: PathBuf,
    /// The folder for the model and the report
    #[arg(long, default_value = "target/folder")]
    out: PathBuf,
    /// The architecture: efficientnet_lite0, resnet34, mobilenet_v3_large and so on
    #[arg(long, default_value = "efficientnet_lite0")]
    arch: String,
    /// A file of initial weights, for example a model that this program wrote [default: ImageNet's]
    #[arg(long)]
    weights: Option<PathBuf>,
    /// The number of epochs after the one that trains only the new head [default: 2 to 10, fewer for more photos]
    #[arg(long)]
    epochs: Option<usize>,
    /// The number of photos per batch [default: a twentieth of all, 4 to 64]
    #[arg(long)]
    bs: Option<usize>,
    /// The side of the network's input images, in pixels, at most 8192
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u32).range(1..=8192))]
    size: u32,
    /// The seed of all random numbers, including those of the split
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

fn main() -> Result<()> {
    run(Args::parse())
}

pub(crate) fn run(args: Args) -> Result<()> {
    fs::create_dir_all(&args.out).map_err(finetune::Error::io(&args.out))?;

    // Few photos need more passes and smaller batches, so that the number of steps is similar.
    let n = get_image_files(&args.photos)?.len();
    let bs = args.bs.unwrap_or((n / 20).clamp(4, 64));
    let epochs = args.epochs.unwrap_or((6000 / n.max(1)).clamp(2, 10));

    // Large photos are decoded at a reduced size.
    let presize = args.size * 5 / 4;
    let dls = DataBlock::blocks(ImageBlock::rgb().reduce_to(presize), CategoryBlock::new())
        .get_items(get_image_files)
        .get_y(parent_label)
        .splitter(TrainTestSplitter::new(0.2).stratify(parent_label).seed(args.seed))
        .item_tfms(Resize::new(presize))
        .batch_tfms(aug_transforms().size(args.size).min_scale(0.75))
        .bs(bs)
        .seed(args.seed)
        .dataloaders(&args.photos)?;
    println!("{n} photos of {}: {epochs} epochs, batches of {bs}", dls.task().vocab().join(", "));

    let (arch, weights) = start::start(&args.arch, args.weights)?;
    let learner = vision_learner(dls, arch).weights(weights);
    let mut learn = learner.metric(accuracy()).metric(error_rate()).build()?;
    learn.fine_tune(epochs)?;

    learn.report("Photos")?.save(args.out.join("report.html"))?;
    learn.export(args.out.join("model.safetensors"))?;
    println!("model.safetensors and report.html are in {}", args.out.display());
    Ok(())
}
