//! Trains and exports a classifier for a folder of photos, one subfolder per class, and writes a report.
//!
//! `cargo run --release --example folder -- PHOTOS`; `--help` lists the options.

#![allow(clippy::print_stdout, reason = "a program shows what it does")]

mod start;

use clap::{Parser, builder::RangedU64ValueParser};
use finetune::{
    data::{OnError, TrainTestSplitter},
    prelude::*,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Trains a classifier of photos: PHOTOS/cat/1.jpg, PHOTOS/dog/2.jpg and so on.
///
/// Writes model.safetensors, with which `examples/label.rs` labels photos, and report.html.
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
    /// The number of epochs after the one that trains only the new head, at most 100000 [default: 2 to 10, fewer for
    /// more photos]
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(..=100_000))]
    epochs: Option<usize>,
    /// The number of photos per batch [default: a twentieth of all, 4 to 64, at most half of all]
    #[arg(long)]
    bs: Option<usize>,
    /// The side of the network's input images, in pixels, at most 8192
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u32).range(1..=8192))]
    size: u32,
    /// The seed of all random numbers, including those of the split
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// Returns the default batch size and number of epochs for `n` photos. Few photos need more passes and smaller
/// batches, so that the number of steps is similar.
pub(crate) fn defaults(n: usize) -> (usize, usize) {
    ((n / 20).clamp(4, 64).min(n / 2), (6000 / n.max(1)).clamp(2, 10))
}

/// Returns a function that labels a photo with its sub-folder of `photos`. For photos elsewhere, it returns an error,
/// since the name of another folder is probably not a class.
fn class_in(photos: PathBuf) -> impl Fn(&PathBuf) -> Result<String> + Clone + Send + Sync {
    move |photo: &PathBuf| match photo.parent().and_then(Path::parent) {
        Some(folder) if folder == photos => parent_label(photo),
        _ => {
            let why = format!("it must be in a sub-folder of {}, its class", photos.display());
            Err(finetune::Error::label(photo.display().to_string(), why))
        }
    }
}

fn main() -> Result<()> {
    run(Args::parse())
}

pub(crate) fn run(args: Args) -> Result<()> {
    // If the folder cannot be written, fail before the training.
    fs::create_dir_all(&args.out)
        .and_then(|()| tempfile::tempfile_in(&args.out))
        .map_err(finetune::Error::io(&args.out))?;

    let files = get_image_files(&args.photos)?;
    let class = class_in(args.photos.clone());
    let classes = files.iter().map(&class).collect::<Result<BTreeSet<_>>>()?;
    let n = files.len();
    let (bs, epochs) = defaults(n);
    let (bs, epochs) = (args.bs.unwrap_or(bs), args.epochs.unwrap_or(epochs));
    // A fifth of the photos is for validation, or one of each class.
    let valid = (classes.len() as f64 / n as f64).clamp(0.2, 0.5);

    // Large photos are decoded at a reduced size.
    let presize = args.size * 5 / 4;
    let dls = DataBlock::blocks(ImageBlock::rgb().reduce_to(presize), CategoryBlock::new())
        .get_items(get_image_files)
        .get_y(class.clone())
        .splitter(TrainTestSplitter::new(valid).stratify(class).seed(args.seed))
        .item_tfms(Resize::new(presize))
        .batch_tfms(aug_transforms().size(args.size).min_scale(0.75))
        .on_error(OnError::Skip)
        .bs(bs)
        .seed(args.seed)
        .dataloaders(&args.photos)?;
    println!("{n} photos of {}: {epochs} epochs, batches of {bs}", dls.task().vocab().join(", "));
    dls.notes().iter().for_each(|note| println!("note: {note}"));
    for entry in fs::read_dir(&args.photos).map_err(finetune::Error::io(&args.photos))? {
        let path = entry.map_err(finetune::Error::io(&args.photos))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && !classes.contains(&*name) {
            println!("note: there are no photos in {}", path.display());
        }
    }

    let (arch, weights) = start::start(&args.arch, args.weights)?;
    let learner = vision_learner(dls, arch).weights(weights);
    let mut learn = learner.metric(accuracy()).metric(error_rate()).build()?;
    learn.fine_tune(epochs)?;
    learn.dls().skipped().iter().for_each(|skipped| println!("skipped: {}", skipped.why));

    learn.export(args.out.join("model.safetensors"))?;
    learn.report("Photos")?.save(args.out.join("report.html"))?;
    println!("model.safetensors and report.html are in {}", args.out.display());
    Ok(())
}
