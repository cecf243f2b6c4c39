//! The cost of a checkpoint: ResNet-50 with Adam, alternating training steps and checkpoints, and the
//! share of training time at the default interval.
//! `cargo bench --bench checkpoint -- [BATCH] [SIZE] [cuda]`.

#![allow(clippy::print_stdout, reason = "a program shows what it does")]

use finetune::{
    data::{Arrays, DataLoaders, LoaderOptions},
    learner::{Checkpoint, Flat, Outcome},
    loss::CrossEntropy,
    model::{ArchSpec, HeadOptions, resnet50},
    prelude::*,
    sample::{Batch, Task},
    seed::Seed,
    tch::Kind,
};
use std::time::{Duration, Instant};

/// Measures the time between batches; each batch ends with the checkpoint.
#[derive(Debug, Default)]
struct Times {
    began: Option<Instant>,
    stepped: Option<Instant>,
    steps: Vec<Duration>,
    checkpoints: Vec<Duration>,
}

impl Callback for Times {
    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        if let Some(stepped) = self.stepped.take() {
            self.checkpoints.push(stepped.elapsed());
        }
        self.began = t.at.is_training().then(Instant::now);
        Ok(())
    }

    fn after_batch(&mut self, _: &mut Training, _: &Batch, _: &Outcome) -> Step {
        if let Some(began) = self.began.take() {
            self.steps.push(began.elapsed());
            self.stepped = Some(Instant::now());
        }
        Ok(())
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().filter(|a| !a.starts_with("--")).collect();
    let number =
        |i: usize, default: i64| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (bs, size) = (number(1, 4), number(2, 224));
    let device = if args.iter().any(|a| a == "cuda") { Device::Cuda(0) } else { Device::Cpu };
    let task = Task::Category { vocab: ["a".to_owned(), "b".to_owned()].into() };
    let x = Tensor::rand([bs * 6, 3, size, size], (Kind::Float, Device::Cpu));
    let y = Tensor::arange(bs * 6, (Kind::Int64, Device::Cpu)).remainder(2);
    let rows = Arrays::from_tensors(&x, &y, task)?;
    let options = LoaderOptions::new().bs(bs as usize).num_workers(0).device(device);
    let dls = DataLoaders::from_arrays(rows.clone(), rows, options)?;
    let model = ArchSpec::new(&resnet50(), 3, 2, HeadOptions::new()).build(device, Seed(1))?;
    let folder = tempfile::tempdir().map_err(finetune::Error::other)?;
    let mut learn = Learner::new(dls, model, CrossEntropy::new())?.quiet().model_dir(folder.path());
    let mut times = Times::default();
    let run = Checkpoint::new("run").every(1);
    learn.fit_or_resume_with(run, Flat::new(1), &mut [&mut times])?;
    // The first step allocates the moments; the last checkpoint is followed by the validation.
    let step = median(times.steps.get_mut(1..).unwrap_or_default());
    let checkpoint = median(times.checkpoints.get_mut(1..).unwrap_or_default());
    let files = std::fs::read_dir(folder.path()).map_err(finetune::Error::other)?;
    let largest = files.flatten().filter_map(|f| f.metadata().ok()).map(|m| m.len()).max();
    let interval = 600.0;
    println!("ResNet-50 with Adam, batches of {bs} of {size}x{size} pixels, {device:?}");
    println!("| what | value |\n|---|---|");
    println!("| checkpoint | {:.0} MB |", largest.unwrap_or(0) as f64 / 1e6);
    println!("| training step | {:.1} ms |", step * 1e3);
    println!("| writing a checkpoint | {:.1} ms |", checkpoint * 1e3);
    println!(
        "| share of the time, every 10 minutes | {:.3} % |",
        100.0 * checkpoint / (interval + checkpoint)
    );
    Ok(())
}
