//! Prints the label of each photo: `label_onnx MODEL.onnx [--batch N] PHOTO...`. One line per photo: label, probability
//! and path, separated by tabs. Photos that cannot be decoded go to standard error. With `--batch`, N photos are predicted
//! at once, one on each core.

use finetune_predict::{Error, Predictor};
use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

const USAGE: &str = "usage: label_onnx MODEL.onnx [--batch N] PHOTO...";

fn run() -> Result<bool, Error> {
    let usage = || Error::other(USAGE);
    let mut arguments = env::args_os().skip(1).peekable();
    let model = arguments.next().ok_or_else(usage)?;
    let mut batch = 1;
    if arguments.next_if(|a| a == "--batch").is_some() {
        let n = arguments.next().and_then(|n| n.to_str()?.parse().ok());
        batch = n.filter(|n| *n > 0).ok_or_else(usage)?;
    }
    let photos: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let predictor = Predictor::load(model)?;
    let mut whole = true;
    for photos in photos.chunks(batch) {
        for (photo, answer) in photos.iter().zip(predictor.predict_each(photos)) {
            match answer {
                Ok(answer) => {
                    let p = answer.probs.get(answer.index).copied().unwrap_or(f32::NAN);
                    let mut out = io::stdout().lock();
                    let line = writeln!(out, "{}\t{p:.6}\t{}", answer.label, photo.display());
                    line.and_then(|()| out.flush()).map_err(Error::io("standard output"))?;
                }
                Err(e) => {
                    eprintln!("{e}");
                    whole = false;
                }
            }
        }
    }
    Ok(whole)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
