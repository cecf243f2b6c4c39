//! A trained network in two files, and its labels by libtorch, for `scripts/predict-figures`, which compares them
//! with runtimes without libtorch.
//!
//! - `train ARCH WEIGHTS PHOTOS OUT ODD` trains on the folder PHOTOS, from the weights of a file or, if WEIGHTS is `none`,
//!   from scratch. It writes OUT/ARCH.safetensors, OUT/ARCH.onnx, and OUT/ARCH.inputs: all photos of PHOTOS and ODD after
//!   all transforms, as 32-bit floats. It prints their paths.
//! - `label BUNDLE BATCH PHOTO...` prints label and path of each photo, separated by a tab, BATCH photos at a time.

#![allow(clippy::print_stdout, reason = "a program shows what it does")]

use finetune::{
    Error,
    learner::OnnxOptions,
    model::{WeightsFrom, by_name},
    prelude::*,
};
use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

const USAGE: &str =
    "usage: predict train ARCH WEIGHTS PHOTOS OUT ODD | label BUNDLE BATCH PHOTO...";

fn train(arch: &str, weights: &str, photos: &Path, out: &Path, odd: &Path) -> Result<()> {
    let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .splitter(RandomSplitter::new(0.2).seed(42))
        .item_tfms(Resize::new(224))
        .bs(16)
        .device(Device::Cpu)
        .dataloaders(photos)?;
    let learner = vision_learner(dls, by_name(arch)?);
    let learner = match weights {
        "none" => learner.pretrained(false),
        file => learner.weights(WeightsFrom::file(file)),
    };
    let mut learn = learner.build()?.quiet();
    match weights {
        "none" => learn.fit_one_cycle(2, 3e-3)?,
        _ => learn.fine_tune(1)?,
    }
    learn.export(out.join(format!("{arch}.safetensors")))?;
    learn.export_onnx(OnnxOptions::new(out.join(format!("{arch}.onnx"))).verify(0))?;
    let mut files = get_image_files(photos)?;
    files.extend(get_image_files(odd)?);
    let path = out.join(format!("{arch}.inputs"));
    let mut inputs = BufWriter::new(File::create(&path).map_err(Error::io(&path))?);
    for batch in learn.dls().test_dl(files.clone())?.batches(0) {
        let floats: Vec<f32> = Vec::try_from(batch?.x.contiguous().view(-1))?;
        for x in floats {
            inputs.write_all(&x.to_le_bytes()).map_err(Error::io(&path))?;
        }
    }
    inputs.flush().map_err(Error::io(&path))?;
    for file in files {
        println!("{}", file.display());
    }
    Ok(())
}

fn label(bundle: &str, batch: usize, photos: &[String]) -> Result<()> {
    let predictor = Predictor::load(bundle, Device::Cpu)?;
    for photos in photos.chunks(batch) {
        let answers = match photos {
            [photo] => vec![predictor.predict(photo.as_str())?],
            many => predictor.predict_batch(many.iter().map(String::as_str))?,
        };
        for (photo, answer) in photos.iter().zip(answers) {
            println!("{}\t{photo}", answer.label);
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let usage = || Error::other(USAGE);
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["train", arch, weights, photos, out, odd] => {
            train(arch, weights, Path::new(photos), Path::new(out), Path::new(odd))
        }
        ["label", bundle, batch, ..] => {
            let batch = batch.parse().ok().filter(|n| *n > 0).ok_or_else(usage)?;
            label(bundle, batch, &args[3..])
        }
        _ => Err(usage()),
    }
}
