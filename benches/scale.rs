//! The cost of large lists of items: `cargo bench --bench scale`.
//!
//! Prints one JSON line each for 1 k, 10 k, 100 k and 1 M listed files: the time to build the loaders
//! and to order an epoch, in nanoseconds per item, and the memory per item. The files do not exist,
//! which shows that none is opened. Ends with an error if a million items take more than three times as
//! long per item as ten thousand.

#![allow(clippy::print_stdout, reason = "its figures are its output")]

use finetune::{
    Result,
    data::{CategoryBlock, DataBlock, ImageBlock, RegexLabeller, using_name},
    transform::Resize,
};
use std::{fs, path::PathBuf, process::ExitCode, time::Instant};
use tch::Device;

/// Returns the resident memory in bytes, if the system reports it.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Returns the nanoseconds per item of building and of one epoch's order, and the bytes per item.
fn measure(n: usize) -> Result<(f64, f64, f64)> {
    let block = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(460))
        .num_workers(0)
        .device(Device::Cpu);
    let before = memory();
    let file = |i: usize| PathBuf::from(format!("pets/images/breed_{:02}_{i}.jpg", i % 37));
    let items: Vec<PathBuf> = (0..n).map(file).collect();
    let start = Instant::now();
    let dls = block.dataloaders_from(items)?;
    let built = start.elapsed();
    let start = Instant::now();
    let passes = 5;
    for pass in 0..passes {
        drop(dls.train().batches(pass));
    }
    let ordered = start.elapsed() / passes as u32;
    let bytes = memory().saturating_sub(before) as f64;
    let each = |time: std::time::Duration| time.as_nanos() as f64 / n as f64;
    Ok((each(built), each(ordered), bytes / n as f64))
}

fn main() -> ExitCode {
    let mut slow = false;
    let mut base = None;
    for n in [1_000, 10_000, 100_000, 1_000_000] {
        // The best of three, since disturbances only add time.
        let runs: Result<Vec<_>> = (0..3).map(|_| measure(n)).collect();
        let runs = match runs {
            Ok(runs) => runs,
            Err(e) => {
                eprintln!("{n} items: {e}");
                return ExitCode::FAILURE;
            }
        };
        let least = |of: fn(&(f64, f64, f64)) -> f64| runs.iter().map(of).fold(f64::MAX, f64::min);
        let (build, order) = (least(|r| r.0), least(|r| r.1));
        // Later runs reuse memory of earlier ones, so the first one is measured.
        let bytes = runs[0].2;
        println!(
            r#"{{"items": {n}, "build_ns": {build:.0}, "order_ns": {order:.1}, "bytes": {bytes:.0}}}"#
        );
        if n == 10_000 {
            base = Some((build, order));
        }
        if let Some((b, o)) = base {
            slow |= n == 1_000_000 && (build > 3.0 * b || order > 3.0 * o);
        }
    }
    if slow {
        eprintln!("a million items take more than three times as long an item as ten thousand");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
