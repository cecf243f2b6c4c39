//! Batches for different numbers of workers, and on both devices.

use super::{
    Args, check, photos,
    report::{Check, Checked, digits},
};
use finetune::prelude::*;
use serde_json::json;
use tch::Kind;

pub(crate) fn checks(args: &Args) -> Vec<Check<'_>> {
    vec![
        check("batches for 0 and 8 workers", || workers(args)),
        check("batches on both devices", || devices(args)),
    ]
}

/// Returns the batches of a pass, on the CPU.
fn batches(args: &Args, device: Device, workers: usize) -> Result<Vec<(Tensor, Tensor)>> {
    let block = photos::block(args, args.of(128, 64), 1)?;
    let dls = block.bs(args.of(16, 4)).num_workers(workers).device(device);
    let on_cpu = |batch: Result<Batch>| {
        let batch = batch?;
        let y = batch.y.ok_or_else(|| Error::other("a batch has no targets"))?;
        Ok((batch.x.to_device(Device::Cpu), y.to_device(Device::Cpu)))
    };
    dls.dataloaders(&args.images)?.train().batches(0).map(on_cpu).collect()
}

fn workers(args: &Args) -> Result<Checked> {
    let (none, eight) = (batches(args, args.device(), 0)?, batches(args, args.device(), 8)?);
    let same = |((x, y), (a, b)): (&(Tensor, Tensor), &(Tensor, Tensor))| x.equal(a) && y.equal(b);
    let equal = none.iter().zip(&eight).filter(|pair| same(*pair)).count();
    let ok = equal == none.len() && equal == eight.len() && equal > 0;
    Ok((ok, json!({ "batches": none.len(), "equal": equal })))
}

fn devices(args: &Args) -> Result<Checked> {
    let (here, cpu) = (batches(args, args.device(), 2)?, batches(args, Device::Cpu, 2)?);
    let mut means = vec![];
    let mut labels = here.len() == cpu.len() && !here.is_empty();
    for ((x, y), (a, b)) in here.iter().zip(&cpu) {
        labels &= y.equal(b) && x.size() == a.size();
        means.push((x - a).abs().mean(Kind::Double).double_value(&[]));
    }
    let mean = means.iter().sum::<f64>() / means.len() as f64;
    // Normalization divides by about 0.225.
    let limit = 1e-4;
    let figures =
        json!({ "mean_difference": digits(mean), "limit": limit, "labels_equal": labels });
    Ok((labels && mean <= limit, figures))
}
