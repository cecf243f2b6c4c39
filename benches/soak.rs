//! Measures memory over a long time: `make soak`. Repeats four tasks that programs may run for days, and prints
//! the resident memory during the run. After the first fifth, it must grow by at most 2 %.
//!
//! `cargo bench --bench soak -- [SHARE]` runs only a fraction of the repetitions, between 0 and 1.

#![allow(clippy::print_stdout, reason = "a program shows what it does")]

use finetune::{
    data::{Arrays, DataLoaders, LoaderOptions},
    loss::CrossEntropy,
    model::squeezenet1_1,
    prelude::*,
    sample::Task,
    tch::{Kind, nn},
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Returns the resident memory in MiB, as Linux reports it.
fn resident() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// Calls `what` repeatedly and prints the curve. Returns true if memory stayed flat.
fn soak(name: &str, times: usize, mut what: impl FnMut() -> Result<()>) -> Result<bool> {
    let points = 20.min(times);
    let mut curve = vec![];
    for i in 1..=times {
        what()?;
        if i * points / times != (i - 1) * points / times {
            curve.push(resident().unwrap_or(f64::NAN));
        }
    }
    let warm = &curve[curve.len() / 5..];
    let (first, last) = (warm.first().copied(), warm.last().copied());
    let growth = match (first, last) {
        (Some(first), Some(last)) => 100.0 * (last - first) / first,
        _ => f64::NAN,
    };
    let numbers: Vec<String> = curve.iter().map(|mib| format!("{mib:.0}")).collect();
    println!("{name}, {times} times: {} MiB", numbers.join(" "));
    println!("  {growth:+.2} % after the first fifth");
    Ok(growth <= 2.0)
}

fn photos() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/pets/images")
}

fn pets() -> Result<DataLoaders> {
    DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(|folder: &Path| Ok(get_image_files(folder)?.into_iter().step_by(6).collect()))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(64))
        .batch_tfms(aug_transforms().size(48))
        .bs(8)
        .num_workers(2)
        .device(Device::Cpu)
        .dataloaders(photos())
}

/// Returns a learner of a linear model on rows of numbers.
fn rows() -> Result<Learner> {
    let task = Task::Category { vocab: ["a".to_owned(), "b".to_owned()].into() };
    let x = Tensor::rand([64, 16], (Kind::Float, Device::Cpu));
    let y = Tensor::arange(64, (Kind::Int64, Device::Cpu)).remainder(2);
    let rows = Arrays::from_tensors(&x, &y, task)?;
    let options = LoaderOptions::new().bs(8).num_workers(1).device(Device::Cpu);
    let dls = DataLoaders::from_arrays(rows.clone(), rows, options)?;
    let vs = nn::VarStore::new(Device::Cpu);
    let net = nn::seq_t().add(nn::linear(vs.root(), 16, 2, nn::LinearConfig::default()));
    let model = finetune::model::Model::from_module(vs, net)?;
    Ok(Learner::new(dls, model, CrossEntropy::new())?.quiet())
}

fn main() -> ExitCode {
    let share: f64 = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(1.0);
    let times = |n: usize| ((n as f64 * share) as usize).max(1);
    match all(&times) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("memory grew by more than 2 %");
            ExitCode::FAILURE
        }
        Err(e) => {
            println!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn all(times: &dyn Fn(usize) -> usize) -> Result<bool> {
    let mut flat = true;
    let mut learn = vision_learner(pets()?, squeezenet1_1()).pretrained(false).build()?.quiet();
    flat &= soak("an epoch", times(100), || learn.fit(1, 1e-3))?;
    let photo = get_image_files(&photos())?.remove(0);
    flat &= soak("a prediction", times(10_000), || learn.predict(photo.as_path()).map(drop))?;
    let mut linear = rows()?;
    flat &= soak("lr_find", times(1_000), || linear.lr_find().map(drop))?;
    flat &=
        soak("loaders made and dropped", times(1_000), || pets()?.train().one_batch().map(drop))?;
    Ok(flat)
}
