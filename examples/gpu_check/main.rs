//! Compares training, transforms, loading and prediction on a GPU with those on the CPU, and measures them.
//!
//! `scripts/gpu-check` runs it, one process for each group of checks, and writes the figures of all of them to
//! one JSON file. `make gpu` assembles a folder with both for a machine without Rust.

mod fit;
mod loader;
mod optim;
mod photos;
mod predict;
mod report;
mod speed;
mod transforms;

use clap::{Parser, ValueEnum};
use finetune::{CudaStatus, prelude::*};
use report::{Check, Report, check};
use serde_json::json;
use std::path::PathBuf;

/// Runs one group of checks and appends a line of JSON for each of them to a file.
#[derive(Parser, Debug)]
pub(crate) struct Args {
    group: Group,
    /// The file to which results are appended
    #[arg(long)]
    results: PathBuf,
    /// The folder of photos, named like the Oxford-IIIT Pet photos
    #[arg(long)]
    images: PathBuf,
    /// Run on the CPU in place of the GPU, with small sizes
    #[arg(long)]
    cpu: bool,
    /// The number format of `train`
    #[arg(long, value_enum, default_value_t = Format::Bf16)]
    precision: Format,
    /// The images of a batch of `train`, `photos` and `infer`
    #[arg(long, default_value_t = 256)]
    bs: usize,
    /// The side of an image of `train`, `photos` and `infer`
    #[arg(long, default_value_t = 224)]
    size: u32,
    /// The timed steps of `train` and `infer`
    #[arg(long, default_value_t = 30)]
    steps: usize,
    /// The threads that load photos
    #[arg(long, default_value_t = 8)]
    workers: usize,
    /// Let cuDNN choose each kernel by measuring them
    #[arg(long)]
    benchmark: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Group {
    Doctor,
    Fit,
    Optim,
    Transforms,
    Loader,
    Train,
    Photos,
    Infer,
    Predict,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Format {
    Fp32,
    Bf16,
    Fp16,
}

impl Args {
    /// Returns the device that is checked.
    fn device(&self) -> Device {
        if self.cpu { Device::Cpu } else { Device::Cuda(0) }
    }

    /// Returns the first number for a GPU, and the second one for the small run on a CPU.
    fn of<T>(&self, gpu: T, cpu: T) -> T {
        if self.cpu { cpu } else { gpu }
    }
}

impl Format {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Returns the learner in this format. On a CPU, which does not train in float16, only the scaler is
    /// added.
    fn apply(self, learn: Learner, device: Device) -> Learner {
        match self {
            Self::Fp32 => learn,
            Self::Bf16 => learn.to_bf16(),
            Self::Fp16 if device == Device::Cpu => {
                learn.callback(finetune::learner::MixedPrecision::new())
            }
            Self::Fp16 => learn.to_fp16(),
        }
    }
}

/// Returns the network of most checks.
fn network(args: &Args) -> finetune::model::Arch {
    args.of(resnet18(), finetune::model::squeezenet1_1())
}

/// Waits until the device has finished its work.
fn wait_for(device: Device) {
    if let Device::Cuda(i) = device {
        tch::Cuda::synchronize(i as i64);
    }
}

fn doctor(args: &Args) -> Vec<Check<'_>> {
    vec![check("doctor", || {
        let found = finetune::doctor();
        let ok = args.cpu || matches!(found.cuda, CudaStatus::Available(_));
        let text: Vec<_> = found.to_string().lines().map(ToOwned::to_owned).collect();
        Ok((ok, json!({ "text": text, "cuda": format!("{:?}", found.cuda), "cudnn": found.cudnn })))
    })]
}

/// Runs the group of checks. Their failures are in the results.
pub(crate) fn run(args: &Args) -> Result<()> {
    // Before any other call of libtorch, which looks for its CUDA half once.
    if !args.cpu {
        finetune::cuda();
        tch::Cuda::cudnn_set_benchmark(args.benchmark);
    }
    let checks = match args.group {
        Group::Doctor => doctor(args),
        Group::Fit => fit::checks(args),
        Group::Optim => optim::checks(args),
        Group::Transforms => transforms::checks(args),
        Group::Loader => loader::checks(args),
        Group::Train => speed::train(args),
        Group::Photos => photos::checks(args),
        Group::Infer => speed::infer(args),
        Group::Predict => predict::checks(args),
    };
    Report::open(&args.results)?.run(checks)
}

#[allow(dead_code, reason = "a test calls what comes after the command line")]
fn main() -> Result<()> {
    run(&Args::parse())
}
