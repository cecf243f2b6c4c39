//! The steps of all optimizers on both devices, from the same gradients.

use super::{
    Args, check, network,
    report::{Check, digits},
};
use finetune::{
    model::{ArchSpec, Param},
    optim::{Adam, Hyper, Lamb, Larc, Optimizer, QhAdam, RAdam, RmsProp, Sgd, ranger},
    prelude::*,
    seed::Seed,
};
use serde_json::json;
use tch::Kind;

type Make = fn(&[Param]) -> Result<Optimizer>;

const ALL: [(&str, Make); 9] = [
    ("Sgd", |p| Optimizer::new(p, Sgd::new())),
    ("Sgd with momentum and decay", |p| Optimizer::new(p, Sgd::new().mom(0.9).wd(0.01))),
    ("Adam", |p| Optimizer::new(p, Adam::new())),
    ("RAdam", |p| Optimizer::new(p, RAdam::new())),
    ("RmsProp", |p| Optimizer::new(p, RmsProp::new())),
    ("QhAdam", |p| Optimizer::new(p, QhAdam::new())),
    ("Lamb", |p| Optimizer::new(p, Lamb::new())),
    ("Larc", |p| Optimizer::new(p, Larc::new())),
    ("ranger", ranger),
];

/// The largest difference of a weight after all steps. The learning rate is a thousand times as large.
const LIMIT: f64 = 1e-5;

pub(crate) fn checks(args: &Args) -> Vec<Check<'_>> {
    let one = |(name, make): (&'static str, Make)| {
        check(format!("optimizer {name}"), move || {
            let (here, cpu) =
                (stepped(args, args.device(), make)?, stepped(args, Device::Cpu, make)?);
            let far = |(a, b): (&Tensor, &Tensor)| (a - b).abs().max().double_value(&[]);
            let off = here.iter().zip(&cpu).map(far).fold(0.0, f64::max);
            let ok = off <= LIMIT && here.len() == cpu.len();
            Ok((ok, json!({ "largest_difference": digits(off), "limit": LIMIT })))
        })
    };
    ALL.into_iter().map(one).collect()
}

/// Returns the parameters of a network after some steps, on the CPU.
fn stepped(args: &Args, device: Device, make: Make) -> Result<Vec<Tensor>> {
    let mut model = ArchSpec::classifier(&network(args), 3, 10).build(device, Seed(1))?;
    model.channels_last();
    let mut opt = make(model.params())?;
    opt.set(Hyper::Lr, &vec![1e-2; opt.hypers().len()])?;
    tch::manual_seed(2);
    for _ in 0..args.of(12, 2) {
        for p in model.params().iter().filter(|p| p.tensor.requires_grad()) {
            // Of both signs, and not near 0, where Adam divides by the size of a gradient.
            let gradient = Tensor::rand(p.tensor.size(), (Kind::Float, Device::Cpu)) - 0.5;
            let gradient = &gradient + gradient.sign() * 0.1;
            (&p.tensor * gradient.to_device(device)).sum(Kind::Float).backward();
        }
        opt.step()?;
        opt.zero_grad();
    }
    Ok(model.params().iter().map(|p| p.tensor.detach().to_device(Device::Cpu)).collect())
}
