//! Measures a step of Adam for the 114 parameters of a ResNet-34 with fastai's head, 21.8 million numbers: with
//! libtorch's fused kernels over lists of tensors as in [`Optimizer`], with operations on single tensors,
//! and with the same operations on one flat tensor. `cargo bench --bench step`.

use divan::Bencher;
use finetune::{
    model::{ArchSpec, HeadOptions, Model, resnet34},
    optim::{Adam, Optimizer},
    seed::Seed,
};
use tch::{Device, Tensor};

fn main() {
    divan::main();
}

/// A model whose parameters have gradients.
fn model() -> Model {
    let spec = ArchSpec::new(&resnet34(), 3, 37, HeadOptions::new());
    let model = spec.build(Device::Cpu, Seed(1)).expect("it is a known architecture");
    for p in model.params() {
        p.tensor.square().sum(None).backward();
    }
    model
}

#[divan::bench]
fn fused(bencher: Bencher<'_, '_>) {
    let model = model();
    let mut opt = Optimizer::new(model.params(), Adam::new()).expect("it has parameters");
    bencher.bench_local(|| opt.step().expect("all gradients are there"));
}

/// A parameter, its gradient and its two averages.
struct Moments {
    param: Tensor,
    grad: Tensor,
    avg: Tensor,
    sqr: Tensor,
}

impl Moments {
    fn new(param: &Tensor, grad: &Tensor) -> Self {
        let (param, grad) = (param.detach().copy(), grad.copy());
        Self { avg: grad.zeros_like(), sqr: grad.zeros_like(), param, grad }
    }

    /// Adam with decoupled decay, operation by operation.
    fn step(&mut self) {
        let (lr, mom, sqr_mom, eps, wd) = (1e-3, 0.9, 0.99, 1e-5, 0.01);
        let (debias, sqr_debias) = (1.0 - mom, 1.0_f64 - sqr_mom);
        let _ = self.param.g_mul_scalar_(1.0 - lr * wd);
        let _ = self.avg.lerp_(&self.grad, 1.0 - mom);
        let _ = self.sqr.g_mul_scalar_(sqr_mom);
        let _ = self.sqr.addcmul_(&(&self.grad * (1.0 - sqr_mom)), &self.grad);
        let scale = (&self.sqr / sqr_debias).sqrt() + eps;
        let _ = self.param.addcdiv_(&(&self.avg * (-lr / debias)), &scale);
    }
}

#[divan::bench]
fn one_after_the_other(bencher: Bencher<'_, '_>) {
    let model = model();
    let all = model.params().iter();
    let mut all: Vec<_> = all.map(|p| Moments::new(&p.tensor, &p.tensor.grad())).collect();
    bencher.bench_local(|| all.iter_mut().for_each(Moments::step));
}

#[divan::bench]
fn flat(bencher: Bencher<'_, '_>) {
    let model = model();
    let joined = |of: fn(&Tensor) -> Tensor| {
        let flat = model.params().iter().map(|p| of(&p.tensor).reshape([-1]));
        Tensor::cat(&flat.collect::<Vec<_>>(), 0)
    };
    let mut all = Moments::new(&joined(Tensor::detach), &joined(Tensor::grad));
    bencher.bench_local(|| all.step());
}
