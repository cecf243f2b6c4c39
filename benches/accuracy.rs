//! This crate's side of the comparison of accuracies that `scripts/accuracy` makes: trains a ResNet-18
//! from the weights of a fastai checkpoint, and prints one JSON object.
//!
//! ```text
//! cargo bench --bench accuracy -- --images DIR --weights FOLDER --name NAME --seed N [--precision bf16]
//! ```
//!
//! `DIR` holds `train/CLASS/…` and `test/CLASS/…`, `FOLDER` a `NAME.pth` that fastai's `learn.save` wrote.
#![allow(clippy::print_stdout, reason = "a program whose answer is a line of JSON")]

use clap::{Parser, ValueEnum};
use finetune::{
    Result,
    data::{GrandparentSplitter, parent_label},
    prelude::*,
};
use serde_json::json;
use std::{path::PathBuf, time::Instant};

#[derive(Parser, Debug)]
struct Args {
    /// The folder with `train` and `test`
    #[arg(long)]
    images: PathBuf,
    /// The folder of the checkpoint
    #[arg(long)]
    weights: PathBuf,
    /// The name of the checkpoint, without `.pth`
    #[arg(long)]
    name: String,
    #[arg(long)]
    seed: u64,
    #[arg(long, default_value_t = 5)]
    epochs: usize,
    #[arg(long, default_value_t = 64)]
    bs: usize,
    #[arg(long, default_value_t = 3e-3)]
    lr: f64,
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    precision: Precision,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Precision {
    Fp32,
    Bf16,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .splitter(GrandparentSplitter::new().valid_name(["test"]))
        .get_y(parent_label)
        .batch_tfms(aug_transforms())
        .bs(args.bs)
        .seed(args.seed)
        .dataloaders(&args.images)?;
    let learn = vision_learner(dls, resnet18()).pretrained(false).metric(accuracy()).build()?;
    let mut learn = learn.quiet().model_dir(&args.weights);
    if args.precision == Precision::Bf16 {
        learn = learn.to_bf16();
    }
    learn.load(&format!("{}.pth", args.name))?;
    let start = Instant::now();
    learn.fit_one_cycle(args.epochs, args.lr)?;
    println!(
        "{}",
        json!({
            "seed": args.seed, "accuracy": learn.recorder().last("accuracy"),
            "valid_loss": learn.recorder().last("valid_loss"),
            "seconds": start.elapsed().as_secs_f64(),
        })
    );
    Ok(())
}
