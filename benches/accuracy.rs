//! This crate's side of the comparison of error rates that `scripts/accuracy` makes: trains one network from given
//! weights, and prints one JSON object.
//!
//! ```text
//! cargo bench --bench accuracy -- --images DIR --labels name --arch efficientnet_lite0 --weights FILE --size 224 --seed 0
//! cargo bench --bench accuracy -- --images DIR --labels folder --arch resnet18 --scratch seed0.pth --size 32 --seed 0
//! cargo bench --bench accuracy -- --images DIR --labels masks --arch resnet18 --scratch seed0.pth --size 128 --seed 0 --epochs 6
//! ```
//!
//! With `--weights`, `fine_tune(4)` of photos that are split at random; with `--probe`, it starts from a linear probe, whose
//! error rate and regularization are printed too. With `--scratch`, `fit_one_cycle(5, 3e-3)` from a
//! checkpoint that fastai's `learn.save` wrote, of photos in `train/CLASS/` and `test/CLASS/`. With `--labels masks`, a U-Net
//! from such a checkpoint on the set that `scripts/shapes` writes: `fit_one_cycle(EPOCHS, 1e-3)`, or with `--frozen-first`
//! `fine_tune(EPOCHS, 2e-3)`.
#![allow(clippy::print_stdout, reason = "a program whose answer is a line of JSON")]

mod shapes;

use clap::{Parser, ValueEnum};
use finetune::{
    Result,
    data::{GrandparentSplitter, parent_label},
    metric::{dice_multi, jaccard_coeff_multi},
    prelude::*,
    transform::Normalize,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

#[derive(Parser, Debug)]
struct Args {
    /// The folder of photos
    #[arg(long)]
    images: PathBuf,
    /// The source of the label of a photo
    #[arg(long, value_enum)]
    labels: Labels,
    /// The architecture
    #[arg(long)]
    arch: String,
    /// The file of pretrained weights
    #[arg(long, required_unless_present = "scratch")]
    weights: Option<PathBuf>,
    /// The checkpoint of fastai with the initial weights
    #[arg(long, conflicts_with = "weights")]
    scratch: Option<PathBuf>,
    /// The side of the network's input images, in pixels
    #[arg(long)]
    size: u32,
    #[arg(long)]
    seed: u64,
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    precision: Precision,
    /// Whether fine-tuning starts from a linear probe
    #[arg(long, conflicts_with = "scratch")]
    probe: bool,
    /// The learning rate of the head [default: that of `fine_tune`]
    #[arg(long, conflicts_with = "scratch")]
    base_lr: Option<f64>,
    /// The factor by which the learning rate of the first layers is smaller [default: that of
    /// `fine_tune`]
    #[arg(long, conflicts_with = "scratch")]
    lr_mult: Option<f64>,
    /// The number of epochs of a U-Net
    #[arg(long, default_value_t = 6)]
    epochs: usize,
    /// Whether the body of a U-Net is frozen in the first epoch
    #[arg(long)]
    frozen_first: bool,
    /// A flag that `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Labels {
    /// In the file name: `Breed_name_12.jpg`
    Name,
    /// The folder of the file
    Folder,
    /// A file in `masks/` for each file in `images/`
    Masks,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Precision {
    Fp32,
    Bf16,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.labels == Labels::Masks {
        return masks(&args);
    }
    let pattern = using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?);
    let block = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .bs(64)
        .seed(args.seed);
    let block = match args.labels {
        Labels::Name => block.get_y(pattern),
        Labels::Folder | Labels::Masks => block.get_y(parent_label),
    };
    let block = match &args.scratch {
        Some(_) => block
            .splitter(GrandparentSplitter::new().valid_name(["test"]))
            .batch_tfms(aug_transforms()),
        None => block
            .splitter(RandomSplitter::new(0.2).seed(args.seed))
            .item_tfms(Resize::new(256))
            .batch_tfms(aug_transforms().size(args.size).min_scale(0.75)),
    };
    let dls = block.dataloaders(&args.images)?;
    let arch = finetune::model::by_name(&args.arch)?;
    let learner = vision_learner(dls, arch).metric(accuracy()).metric(error_rate());
    let mut learn = match &args.weights {
        Some(file) => learner.weights(file.as_path()).build()?,
        None => learner.pretrained(false).build()?,
    };
    learn = learn.quiet();
    if args.precision == Precision::Bf16 {
        learn = learn.to_bf16();
    }
    let start = Instant::now();
    let mut probe = None;
    match &args.scratch {
        None => {
            let mut how = FineTune::new(4);
            if args.probe {
                let found = learn.probe()?;
                eprintln!("{found}");
                found.install(&mut learn)?;
                probe = Some(found);
                how = how.from_probe();
            }
            how = args.base_lr.map_or(how.clone(), |lr| how.base_lr(lr));
            how = args.lr_mult.map_or(how.clone(), |mult| how.lr_mult(mult));
            learn.fine_tune(how)?;
        }
        Some(file) => {
            learn = loaded(learn, file)?;
            learn.fit_one_cycle(5, 3e-3)?;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({
            "error": learn.recorder().last("error_rate"),
            "valid_loss": learn.recorder().last("valid_loss"),
            "seconds": seconds,
            "split": split(&learn, &args.images),
            "probe": probe.as_ref().map(|p| 1.0 - p.accuracy.value()),
            "l2": probe.as_ref().map(|p| p.l2),
            "messages": learn.recorder().messages,
        })
    );
    Ok(())
}

/// Trains from the initial weights in a checkpoint of fastai.
fn loaded(learn: Learner, file: &Path) -> Result<Learner> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut learn = learn.model_dir(file.parent().unwrap_or(Path::new("")));
    learn.load(&name)?;
    Ok(learn)
}

/// Trains a U-Net.
fn masks(args: &Args) -> Result<()> {
    let mut dls = shapes::block(&args.images)?
        .item_tfms(Resize::new(160))
        .batch_tfms(aug_transforms().size(args.size))
        .bs(8)
        .seed(args.seed)
        .dataloaders(&args.images)?;
    dls.add_batch_tfm(Normalize::imagenet())?;
    let learn = unet_learner(dls, finetune::model::by_name(&args.arch)?)
        .pretrained(false)
        .metric(dice_multi())
        .metric(jaccard_coeff_multi())
        .build()?
        .quiet();
    let none = || Error::config("scratch", "a U-Net begins with the weights of a checkpoint");
    let mut learn = loaded(learn, args.scratch.as_ref().ok_or_else(none)?)?;
    if args.precision == Precision::Bf16 {
        learn = learn.to_bf16();
    }
    let start = Instant::now();
    if args.frozen_first {
        learn.fine_tune(FineTune::new(args.epochs).base_lr(2e-3))?;
    } else {
        learn.fit_one_cycle(args.epochs, 1e-3)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({
            "dice": learn.recorder().last("dice_multi"),
            "iou": learn.recorder().last("jaccard_coeff_multi"),
            "valid_loss": learn.recorder().last("valid_loss"),
            "seconds": seconds,
            "split": split(&learn, &args.images),
        })
    );
    Ok(())
}

/// Returns the start of the SHA-256 of the names of the validation photos, to check that both sides split alike.
fn split(learn: &Learner, images: &Path) -> String {
    let names = learn.dls().valid().items().iter().map(|&item| {
        let name = learn.dls().name(item);
        let name = Path::new(&name);
        name.strip_prefix(images).unwrap_or(name).display().to_string()
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    let digest = Sha256::digest(names.join("\n").as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
