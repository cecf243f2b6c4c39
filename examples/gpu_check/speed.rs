//! The speed of a ResNet-50 (on the CPU, of a ResNet-18) on synthetic images that are already on the device, in the training loop and in
//! prediction. `scripts/resnet50_peer.py` measures the same with PyTorch.

use super::{
    Args, check,
    report::{Check, rounded},
    wait_for,
};
use finetune::{
    data::{Arrays, DataLoaders, LoaderOptions},
    learner::Flat,
    loss::CrossEntropy,
    model::ArchSpec,
    optim::{Optimizer, Sgd},
    prelude::*,
    sample::{Split, Task},
    seed::Seed,
};
use serde_json::json;
use std::time::Instant;
use tch::Kind;

const CLASSES: i64 = 1000;

/// The steps before the timed ones: they choose kernels and allocate memory.
fn warm_up(args: &Args) -> usize {
    args.of(8, 1)
}

/// Puts the same images into every batch, and measures the steps after the first ones.
#[derive(Debug)]
struct Synthetic {
    x: Tensor,
    y: Tensor,
    warm_up: usize,
    start: Option<Instant>,
    seconds: f64,
    steps: usize,
}

impl Synthetic {
    fn new(args: &Args) -> Self {
        let (n, side) = (args.bs as i64, i64::from(args.size));
        tch::manual_seed(1);
        let x = Tensor::randn([n, side, side, 3], (Kind::Float, Device::Cpu));
        let y = Tensor::randint(CLASSES, [n], (Kind::Int64, Device::Cpu));
        let (x, y) = (x.to_device(args.device()), y.to_device(args.device()));
        Self {
            x: x.permute([0, 3, 1, 2]),
            y,
            warm_up: warm_up(args),
            start: None,
            seconds: 0.0,
            steps: 0,
        }
    }
}

impl Callback for Synthetic {
    fn before_batch(&mut self, t: &mut Training, batch: &mut Batch) -> Step {
        batch.x = self.x.shallow_clone();
        batch.y = Some(self.y.shallow_clone());
        if t.at.batch == self.warm_up {
            wait_for(t.model.device());
            self.start = Some(Instant::now());
        }
        Ok(())
    }

    fn after_batch(&mut self, _: &mut Training, _: &Batch, _: &Outcome) -> Step {
        self.steps += usize::from(self.start.is_some());
        Ok(())
    }

    fn after_train(&mut self, t: &mut Training) -> Step {
        wait_for(t.model.device());
        self.seconds = self.start.map_or(f64::NAN, |start| start.elapsed().as_secs_f64());
        Ok(())
    }

    fn before_validate(&mut self, _: &mut Training) -> Step {
        Scope::Validate.cancel()
    }
}

/// Returns a learner of a ResNet-50 in channels-last memory for `steps` batches of placeholders.
fn learner(args: &Args, steps: usize) -> Result<Learner> {
    let rows = (args.bs * steps) as i64;
    let x = Tensor::zeros([rows, 1], (Kind::Float, Device::Cpu));
    let y = Tensor::zeros([rows], (Kind::Int64, Device::Cpu));
    let vocab: Vec<String> = (0..CLASSES).map(|c| c.to_string()).collect();
    let rows = Arrays::from_tensors(&x, &y, Task::Category { vocab: vocab.into() })?;
    let options = LoaderOptions::new().bs(args.bs).num_workers(0).device(args.device());
    let dls = DataLoaders::from_arrays(rows.clone(), rows, options)?;
    let mut model = ArchSpec::classifier(&args.of(resnet50(), resnet18()), 3, CLASSES as usize)
        .build(args.device(), Seed(1))?;
    model.channels_last();
    let learn = Learner::new(dls, model, CrossEntropy::new())?.quiet();
    let learn = learn.opt_func(|p| Optimizer::new(p, Sgd::new().mom(0.9)))?;
    Ok(args.precision.apply(learn, args.device()))
}

pub(crate) fn train(args: &Args) -> Vec<Check<'_>> {
    vec![check(format!("training in {}", args.precision.name()), || {
        let steps = warm_up(args) + args.steps;
        let mut learn = learner(args, steps)?;
        let mut synthetic = Synthetic::new(args);
        learn.fit_with(&Flat::new(1).lr(1e-3), &mut [&mut synthetic])?;
        let Synthetic { seconds, steps, .. } = synthetic;
        let finite = learn.recorder().raw_losses.iter().all(|loss| loss.is_finite());
        Ok((finite && steps == args.steps, figures(args, steps, seconds)))
    })]
}

fn figures(args: &Args, steps: usize, seconds: f64) -> serde_json::Value {
    json!({
        "images_per_s": rounded((steps * args.bs) as f64 / seconds, 1),
        "ms_per_step": rounded(seconds / steps as f64 * 1e3, 2), "steps": steps, "bs": args.bs,
        "size": args.size, "precision": args.precision.name(), "benchmark": args.benchmark,
        "network": args.of("ResNet-50", "ResNet-18"), "optimizer": "SGD with momentum",
    })
}

pub(crate) fn infer(args: &Args) -> Vec<Check<'_>> {
    vec![check(format!("inference in {}", args.precision.name()), || {
        let mut learn = learner(args, 1)?;
        learn.training_mut().at.split = Split::Valid;
        let x = Synthetic::new(args).x;
        let _guard = tch::no_grad_guard();
        let forward =
            |n: usize| (0..n).try_fold(Tensor::new(), |_, _| learn.training().forward(&x));
        let _ = forward(warm_up(args))?;
        wait_for(args.device());
        let start = Instant::now();
        let last = forward(args.steps)?;
        wait_for(args.device());
        let seconds = start.elapsed().as_secs_f64();
        let finite = last.isfinite().all().int64_value(&[]) == 1;
        Ok((finite, figures(args, args.steps, seconds)))
    })]
}
