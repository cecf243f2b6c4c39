//! Labels photos with a model that `Learner::export` wrote: `cargo run --release --example label -- photo.jpg …`
#![allow(clippy::print_stdout, reason = "a program shows what it does")]

use finetune::prelude::*;

fn main() -> Result<()> {
    let pets = Predictor::load("pets.safetensors", Device::Cpu)?;
    for photo in std::env::args().skip(1) {
        let answer = pets.predict(photo.as_str())?;
        println!("{photo}: {} ({:.3})", answer.label, answer.probs[answer.index]);
    }
    Ok(())
}
