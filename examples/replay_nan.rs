//! Replays the batch whose loss was NaN or infinite, from the file that `NanGuard` wrote.
//!
//! `cargo run --release --example replay_nan -- nan.safetensors`

use clap::Parser;
use finetune::{callback::NanReport, tch::Tensor};
use std::path::PathBuf;

/// Finds the items of a batch that make its loss NaN or infinite.
#[derive(Parser, Debug)]
struct Args {
    /// The file that `NanGuard::new(path)` wrote
    file: PathBuf,
}

/// Returns the smallest and the largest value, and the number of NaNs.
fn range(t: &Tensor) -> finetune::Result<String> {
    let bad = i64::try_from(t.isfinite().logical_not().sum(None))?;
    let (low, high) = (f64::try_from(t.min())?, f64::try_from(t.max())?);
    Ok(format!("{low:.4} to {high:.4}, {bad} values not finite"))
}

#[allow(clippy::print_stdout, reason = "an example reports to its reader")]
fn main() -> finetune::Result<()> {
    let report = NanReport::load(Args::parse().file)?;
    println!("loss {} at batch {} of epoch {}", report.loss, report.at.batch, report.at.epoch);
    println!("precision {:?}, loss scale {:?}", report.precision, report.loss_scale);
    println!("inputs {:?}: {}", report.batch.x.size(), range(&report.batch.x)?);
    for (name, weight) in &report.weights {
        if i64::try_from(weight.isfinite().logical_not().sum(None))? > 0 {
            println!("weight {name}: {}", range(weight)?);
        }
    }
    let losses = report.losses(&report.model()?, &*report.loss_func()?)?;
    for ((file, loss), k) in report.files.iter().zip(losses).zip(0..) {
        println!("{loss:>10.4}  {file}: {}", range(&report.batch.x.get(k))?);
    }
    Ok(())
}
