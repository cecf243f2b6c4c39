//! Stops a training in the middle of an epoch and resumes it; the final weights are bitwise identical.
//!
//! `cargo run --release --example resume`
#![allow(clippy::print_stdout, reason = "a program shows what it does")]

use finetune::{callback::Checkpoint, prelude::*};

/// Builds the learner. It is the same each time, so that a checkpoint can be resumed.
fn learner() -> Result<Learner> {
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/data/pets/images");
    let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(80))
        .batch_tfms(aug_transforms().size(64).min_scale(0.75))
        .bs(16)
        .device(Device::Cpu)
        .dataloaders(photos)?;
    let learn = vision_learner(dls, resnet18()).pretrained(false).build()?;
    Ok(learn.model_dir("target/resume"))
}

/// Stops the training after a number of batches.
#[derive(Debug)]
struct Stop {
    batches: usize,
}

impl Callback for Stop {
    fn before_batch(&mut self, t: &mut Training, _: &mut finetune::sample::Batch) -> Step {
        if t.at.is_training() && self.batches == 0 {
            return Err(finetune::Error::other("the power failed").into());
        }
        self.batches -= usize::from(t.at.is_training());
        Ok(())
    }
}

/// Returns the largest difference between the weights of two learners.
fn difference(a: &Learner, b: &Learner) -> Result<f64> {
    let (a, b) = (a.model().state_dict(), b.model().state_dict());
    let apart = |(x, y): (&(String, Tensor), &(String, Tensor))| {
        Ok(f64::try_from((&x.1 - &y.1).abs().max())?)
    };
    a.iter().zip(&b).map(apart).try_fold(0.0, |most, apart: Result<f64>| Ok(apart?.max(most)))
}

fn main() -> Result<()> {
    let policy = OneCycle::new(2).lr(3e-3);
    println!("without a stop:");
    let mut whole = learner()?;
    whole.fit_with(&policy, &mut [])?;

    println!("stopped after 13 of 18 batches:");
    let (mut every, mut stop) = (Checkpoint::new("last").every(4), Stop { batches: 13 });
    if let Err(e) = learner()?.fit_with(&policy, &mut [&mut every, &mut stop]) {
        println!("{e}");
    }

    println!("resumed:");
    let mut resumed = learner()?;
    resumed.resume("last", &mut [&mut every])?;
    println!("largest difference of a weight: {}", difference(&whole, &resumed)?);
    Ok(())
}
