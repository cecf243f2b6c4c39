//! The walk-through: from a folder of photos to a trained, interpreted, exported classifier.
//!
//! `cargo run --release --example pets -- --help` lists the options. The figures are written to `target/pets/`.

#![allow(clippy::print_stdout, reason = "a program shows what it does")]

mod start;

use clap::{Parser, ValueEnum, builder::RangedU64ValueParser};
use finetune::{
    download::{URLs, untar_data},
    model::WeightsFrom,
    prelude::*,
};
use std::{fs, path::PathBuf};

/// Trains a classifier of cat and dog breeds, interprets its mistakes, and exports it.
#[derive(Parser, Debug)]
pub(crate) struct Args {
    /// The folder of photos, named as the Oxford-IIIT Pet photos are: `Breed_name_12.jpg`
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data/pets/images"))]
    images: PathBuf,
    /// Download the complete Oxford-IIIT Pet photos, 7,390 of 37 breeds, and train on them
    #[arg(long, conflicts_with = "images")]
    full: bool,
    /// The architecture: efficientnet_lite0, resnet18, resnet50, mobilenet_v3_large and so on
    // The most accurate one that trains in a minute without a GPU; its weights come from the same registry as libtorch.
    #[arg(long, default_value = "efficientnet_lite0")]
    arch: String,
    /// A file of initial weights: torchvision's, timm's, or an exported model
    #[arg(long)]
    weights: Option<PathBuf>,
    /// The number of epochs after the one that trains only the new head, 1 to 100000
    #[arg(long, default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    epochs: usize,
    /// The side of the network's input images, in pixels, at most 8192
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u32).range(1..=8192))]
    size: u32,
    /// The number of items in a batch
    #[arg(long, default_value_t = 8)]
    bs: usize,
    /// Whether to start from pretrained weights: those of ImageNet unless `--weights` is given
    #[arg(long, value_enum, default_value_t = Pretrained::Yes)]
    pretrained: Pretrained,
    /// The learning rate of the head; a pretrained body has lower rates
    // With only a few hundred steps in total, the `valley` of `lr_find` is too low a rate.
    #[arg(long, default_value_t = 2e-3)]
    lr: f64,
    /// The seed of all random numbers
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The device: cpu, cuda, or auto for a GPU if there is one
    #[arg(long, value_enum, default_value_t = On::Auto)]
    device: On,
    /// The number format of training: bf16 needs a processor or GPU with bfloat16 to be fast, fp16 needs a GPU
    #[arg(long, value_enum, default_value_t = Format::Fp32)]
    precision: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Pretrained {
    /// The published weights, or those of EfficientNet-Lite0 if they are not available
    Yes,
    /// Train from scratch
    No,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum On {
    Cpu,
    Cuda,
    Auto,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Fp32,
    Bf16,
    Fp16,
}

fn main() -> Result<()> {
    run(Args::parse())
}

pub(crate) fn run(args: Args) -> Result<()> {
    let out = PathBuf::from("target/pets");
    fs::create_dir_all(&out).map_err(finetune::Error::io(&out))?;

    // List the data.
    let images = if args.full { untar_data(URLs::PETS)?.join("images") } else { args.images };
    let files = get_image_files(&images)?;
    println!("{} photos in {}, the first {}", files.len(), images.display(), files[0].display());

    // Describe the data: the breed is in the file name. The workers crop large images, which the batch
    // transforms crop to the final size and augment in one resampling.
    let pets = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .splitter(RandomSplitter::new(0.2).seed(args.seed))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(args.size * 2))
        .batch_tfms(aug_transforms().size(args.size).min_scale(0.75))
        .device(match args.device {
            On::Cpu => Device::Cpu,
            On::Cuda => Device::Cuda(0),
            On::Auto => finetune::default_device(),
        })
        .bs(args.bs)
        .seed(args.seed);
    println!("{}", pets.summary(&images)?);

    let dls = pets.dataloaders(&images)?;
    println!("{} photos to train on, {} to validate", dls.train().len(), dls.valid().len());
    println!("breeds: {}", dls.task().vocab().join(", "));
    let batch = dls.train().one_batch()?;
    println!("a batch: x {:?}, y {:?}", batch.x.size(), batch.y.map(|y| y.size()));
    dls.show_batch(9)?.save(out.join("batch.png"))?;

    // Build a network with a new head. Without pretrained weights, all layers are trained from scratch.
    let pretrained = args.pretrained == Pretrained::Yes;
    let (arch, weights) = match args.pretrained {
        Pretrained::Yes => start::start(&args.arch, args.weights)?,
        Pretrained::No if args.weights.is_some() => {
            let why = "`--pretrained no` trains from scratch: leave out one of the two";
            return Err(finetune::Error::config("--weights", why));
        }
        Pretrained::No => (finetune::model::by_name(&args.arch)?, WeightsFrom::published()),
    };
    let learner = vision_learner(dls, arch).pretrained(pretrained).weights(weights);
    let mut learn = learner.metric(accuracy()).metric(error_rate()).build()?;

    learn = match args.precision {
        Format::Fp32 => learn,
        Format::Bf16 => learn.to_bf16(),
        Format::Fp16 => learn.to_fp16(),
    };

    // Search for a learning rate.
    let found = learn.lr_find()?;
    println!(
        "learning rates: valley {:.1e}, steep {:.1e}, minimum/10 {:.1e}, slide {:.1e}; training takes {:.1e}",
        found.valley()?,
        found.steep()?,
        found.minimum()?,
        found.slide()?,
        args.lr
    );
    found.plot()?.save(out.join("lr_find.png"))?;

    // Train: if the body is pretrained, the head first; otherwise, all layers at once.
    if pretrained {
        learn.fine_tune(FineTune::new(args.epochs).base_lr(args.lr))?;
    } else {
        learn.fit_one_cycle(args.epochs + 1, args.lr)?;
    }
    learn.recorder().plot_loss()?.save(out.join("loss.png"))?;

    // Interpret the mistakes.
    let interp = ClassificationInterpretation::from_learner(&mut learn)?;
    println!("{}", interp.classification_report());
    for (actual, predicted, times) in interp.most_confused(2) {
        println!("{actual} predicted as {predicted}: {times} times");
    }
    interp.plot_confusion_matrix()?.save(out.join("confusion.png"))?;
    interp.plot_top_losses(learn.dls().valid(), 9)?.save(out.join("top_losses.png"))?;
    learn.report("Pets")?.lr_find(&found)?.save(out.join("report.html"))?;

    // Export the model to one file. Predicting with it needs neither the data nor this program.
    let file = out.join("pets.safetensors");
    learn.export(&file)?;
    let predictor = Predictor::load(&file, Device::Cpu)?;
    let answer = predictor.predict(&files[0])?;
    println!(
        "{} is a photo of: {} ({:.3})",
        files[0].display(),
        answer.label,
        answer.probs[answer.index]
    );
    println!("pictures, the report and the exported model are in {}", out.display());
    Ok(())
}
