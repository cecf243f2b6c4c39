//! Losses of a fit on both devices, and the scaler.

use super::{
    Args, Format, check,
    report::{Check, Checked, digits},
};
use finetune::{
    data::{Arrays, DataLoaders, LoaderOptions},
    learner::{Flat, MixedPrecision, order},
    loss::CrossEntropy,
    model::{ArchSpec, by_name},
    optim::GradScaler,
    prelude::*,
    sample::Task,
    seed::Seed,
};
use serde_json::json;
use tch::Kind;

/// The number of categories of the random images.
const CLASSES: i64 = 4;

pub(crate) fn checks(args: &Args) -> Vec<Check<'_>> {
    vec![
        check("fit_fp32", || same_losses(args)),
        check("fit_bf16", || close_losses(args, Format::Bf16)),
        check("fit_fp16", || close_losses(args, Format::Fp16)),
        check("overflow", || overflow(args)),
    ]
}

/// Returns a learner of a small network without dropout on one random batch for each step. The images and the
/// weights are the same on every device.
fn learner(args: &Args, device: Device, steps: i64) -> Result<Learner> {
    let (bs, size) = (args.of(32, 8), args.of(96, 64));
    tch::manual_seed(1);
    let cpu = (Kind::Float, Device::Cpu);
    let x = Tensor::randn([bs, 3, size, size], cpu);
    let y = Tensor::arange(bs, (Kind::Int64, Device::Cpu)).remainder(CLASSES);
    let vocab: Vec<String> = (0..CLASSES).map(|c| c.to_string()).collect();
    let task = Task::Category { vocab: vocab.into() };
    let valid = Arrays::from_tensors(&x, &y, task.clone())?;
    let train = Arrays::from_tensors(&x.repeat([steps, 1, 1, 1]), &y.repeat([steps]), task)?;
    let options = LoaderOptions::new().bs(bs as usize).shuffle(false).num_workers(0).device(device);
    let dls = DataLoaders::from_arrays(train, valid, options)?;
    let arch = args.of(resnet18(), by_name("regnetx_002")?);
    let spec = ArchSpec::classifier(&arch, 3, CLASSES as usize);
    let mut model = spec.build(device, Seed(1))?;
    model.channels_last();
    Ok(Learner::new(dls, model, CrossEntropy::new())?.quiet())
}

/// Returns the losses of a fit.
fn losses(args: &Args, device: Device, format: Format) -> Result<Vec<f64>> {
    let learn = learner(args, device, args.of(20, 3))?;
    let mut learn = format.apply(learn, device);
    learn.fit(1, 1e-3)?;
    Ok(learn.recorder().raw_losses.clone())
}

/// Returns the largest difference of two lists of losses.
fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    let far = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    if a.len() == b.len() { far.fold(0.0, f64::max) } else { f64::NAN }
}

fn same_losses(args: &Args) -> Result<Checked> {
    let here = losses(args, args.device(), Format::Fp32)?;
    let cpu = losses(args, Device::Cpu, Format::Fp32)?;
    let off = largest_difference(&here, &cpu);
    let figures = json!({
        "losses": here, "losses_on_cpu": cpu, "largest_difference": digits(off), "limit": 1e-3,
    });
    Ok((off <= 1e-3, figures))
}

/// Compares the losses in 16 bits with those in 32 bits on the same device: the first one, which depends on
/// the forward pass alone, and whether the last one is as much lower.
fn close_losses(args: &Args, format: Format) -> Result<Checked> {
    let full = losses(args, args.device(), Format::Fp32)?;
    let half = losses(args, args.device(), format)?;
    let ends = |losses: &[f64]| (losses.first().copied(), losses.last().copied());
    let ((Some(first), Some(last)), (Some(full_first), Some(full_last))) =
        (ends(&half), ends(&full))
    else {
        return Ok((false, json!({ "losses": half, "losses_in_fp32": full })));
    };
    let off = (first - full_first).abs();
    let learned = (first - last) / (full_first - full_last);
    let figures = json!({
        "losses": half, "losses_in_fp32": full, "difference_of_first": digits(off),
        "limit_of_first": 0.03, "share_of_decrease": digits(learned), "limit_of_decrease": 0.8,
    });
    Ok((off <= 0.03 && learned >= 0.8, figures))
}

/// Makes the gradients of one step infinite, and watches the scale and a weight.
#[derive(Debug, Default)]
struct Overflow {
    before: Option<Tensor>,
    /// For each step: the scale after it, and whether the weight changed.
    seen: Vec<(f64, bool)>,
}

/// The step whose gradients overflow.
const OVERFLOWS: usize = 2;
/// The scale before it.
const SCALE: f64 = 1024.0;

impl Callback for Overflow {
    fn order(&self) -> i32 {
        order::MIXED_PRECISION + 1
    }

    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        self.before = Some(t.model.params()[0].tensor.detach().copy());
        Ok(())
    }

    fn before_backward(&mut self, t: &mut Training, _: &Batch, loss: &mut Tensor) -> Step {
        if t.at.is_training() && t.at.batch == OVERFLOWS {
            *loss = &*loss * 1e38;
        }
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        if let (true, Some(before)) = (t.at.is_training(), self.before.take()) {
            let scale = t.notes.get("MixedPrecision").and_then(|note| note["scale"].as_f64());
            let changed = !before.equal(&t.model.params()[0].tensor.detach());
            self.seen.push((scale.unwrap_or(f64::NAN), changed));
        }
        Ok(())
    }
}

/// Checks that a step with infinite gradients is skipped, that the scale is halved, and that the next steps
/// are taken.
fn overflow(args: &Args) -> Result<Checked> {
    let learn = learner(args, args.device(), 5)?;
    // Small enough that only the step that is meant to overflow does so.
    let scaler = MixedPrecision::with_scaler(GradScaler::new().init_scale(SCALE));
    let mut learn = match args.device() {
        Device::Cpu => learn.callback(scaler),
        _ => learn.mixed_precision(scaler),
    };
    let mut overflow = Overflow::default();
    learn.fit_with(&Flat::new(1).lr(1e-3), &mut [&mut overflow])?;
    let seen = overflow.seen;
    let expected = |(i, (scale, changed)): (usize, &(f64, bool))| {
        *changed == (i != OVERFLOWS) && *scale == if i < OVERFLOWS { SCALE } else { SCALE / 2.0 }
    };
    let ok = seen.len() == 5 && seen.iter().enumerate().all(expected);
    let scales: Vec<_> = seen.iter().map(|s| s.0).collect();
    let changed: Vec<_> = seen.iter().map(|s| s.1).collect();
    Ok((ok, json!({ "overflow_in_step": OVERFLOWS, "scales": scales, "weights_changed": changed })))
}
