//! Trains one model with several processes, and resumes automatically from the last checkpoint.
//!
//! `cargo run --release --example distributed -- --processes 2`, or by another launcher:
//! `torchrun --no-python --nproc-per-node=2 target/release/examples/distributed`

use clap::Parser;
use finetune::{
    callback::Checkpoint,
    distributed::{LaunchOptions, Launched, launch},
    learner::DistributedOptions,
    prelude::*,
};
use std::path::PathBuf;

#[derive(Parser, Debug)]
struct Args {
    /// The processes to start on this machine, if no other launcher did
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// The number of restarts after a process fails
    #[arg(long, default_value_t = 0)]
    restarts: u64,
    /// The folder for weights and checkpoints
    #[arg(long, default_value = "target/distributed")]
    models: PathBuf,
    #[arg(long, default_value_t = 2)]
    epochs: usize,
    /// The architecture
    #[arg(long, default_value = "resnet18")]
    arch: String,
    /// The same weights, bit for bit, for 1, 2, 4 and 8 processes
    #[arg(long)]
    deterministic: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let options = LaunchOptions::new(args.processes).restarts(args.restarts);
    if launch(options)? == Launched::Done {
        return Ok(());
    }
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/data/pets/images");
    let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(48))
        .batch_tfms(aug_transforms().size(32).min_scale(0.75))
        .bs(16)
        .num_workers(1)
        .dataloaders(photos)?;
    let arch = finetune::model::by_name(&args.arch)?;
    let learn = vision_learner(dls, arch).pretrained(false).build()?;
    let mut together = DistributedOptions::new();
    if args.deterministic {
        together = together.deterministic_reduction();
    }
    let mut learn = learn.model_dir(&args.models).distributed_with(together)?;
    let mut every = Checkpoint::new("last").every(1);
    if learn.has_checkpoint("last") {
        learn.resume("last", &mut [&mut every])?;
    } else {
        learn.fine_tune_with(FineTune::new(args.epochs), &mut [&mut every])?;
    }
    learn.save("final")?;
    Ok(())
}
