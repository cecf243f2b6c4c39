//! Labels photos with a model that `Learner::export` wrote:
//! `cargo run --release --example label -- target/pets/pets.safetensors photo.jpg …`
#![allow(clippy::print_stdout, reason = "a program shows what it does")]

use finetune::prelude::*;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let model = args.next().ok_or_else(|| Error::other("usage: label MODEL PHOTO…"))?;
    let model = Predictor::load(model, Device::Cpu)?;
    for photo in args {
        let answer = model.predict(photo.as_str())?;
        println!("{photo}: {} ({:.3})", answer.label, answer.probs[answer.index]);
    }
    Ok(())
}
