//! Predicts in a program with several threads: one worker owns the model, and the others send it requests.
//!
//! `cargo run --release --example serve -- pets.safetensors photo.jpg …`
#![allow(clippy::print_stdout, reason = "a program shows what it does")]

use clap::Parser;
use finetune::{learner::Prediction, prelude::*};
use std::{path::PathBuf, sync::mpsc, thread};

/// Labels photos with a model that `Learner::export` wrote.
#[derive(Parser, Debug)]
struct Args {
    /// The exported model
    model: PathBuf,
    /// The photos
    photos: Vec<PathBuf>,
}

/// A request to the worker, and the channel for the answer.
type Question = (PathBuf, mpsc::Sender<Result<Prediction>>);

fn main() -> Result<()> {
    let args = Args::parse();
    let predictor = Predictor::load(&args.model, Device::Cpu)?;
    let (ask, questions) = mpsc::channel::<Question>();
    // A predictor can be sent to another thread, but not be shared by several threads.
    let worker = thread::spawn(move || {
        for (photo, answer) in questions {
            // The requester may no longer wait.
            let _ = answer.send(predictor.predict(&photo));
        }
    });

    let askers: Vec<_> = args
        .photos
        .into_iter()
        .map(|photo| {
            let ask = ask.clone();
            thread::spawn(move || {
                let (answer, answered) = mpsc::channel();
                ask.send((photo.clone(), answer)).map_err(finetune::Error::other)?;
                let prediction = answered.recv().map_err(finetune::Error::other)??;
                Ok::<_, finetune::Error>((photo, prediction))
            })
        })
        .collect();
    drop(ask);
    for asker in askers {
        match asker.join().map_err(|_| finetune::Error::other("a thread panicked"))? {
            Ok((photo, p)) => {
                println!("{}: {} ({:.3})", photo.display(), p.label, p.probs[p.index])
            }
            Err(e) => println!("{e}"),
        }
    }
    worker.join().map_err(|_| finetune::Error::other("the worker panicked"))
}
