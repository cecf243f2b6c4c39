//! Prints the label of each photo: `label_onnx MODEL.onnx PHOTO...`. One line per photo: label, probability and
//! path, separated by tabs. Photos that cannot be decoded go to standard error.

use finetune_predict::{Error, Predictor};
use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

fn run() -> Result<bool, Error> {
    let mut arguments = env::args_os().skip(1);
    let model =
        arguments.next().ok_or_else(|| Error::other("usage: label_onnx MODEL.onnx PHOTO..."))?;
    let predictor = Predictor::load(model)?;
    let mut whole = true;
    for photo in arguments {
        let photo = std::path::PathBuf::from(photo);
        match predictor.predict(&photo) {
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
