//! A user-defined callback, which implements only the methods that it needs.
//!
//! `cargo run --release --example own_callback` trains briefly on generated numbers.

use finetune::{
    data::{Arrays, DataLoaders, LoaderOptions},
    learner::{Callback, Learner, Outcome, Scope, Step, Training},
    loss::CrossEntropy,
    metric::accuracy,
    model::Model,
    sample::{Batch, Task},
    tch::{Device, Kind, Tensor, nn},
};

/// Ends the fit when the training loss is low enough, and counts the steps until then.
#[derive(Debug)]
struct StopBelow {
    loss: f64,
    steps: usize,
}

impl Callback for StopBelow {
    fn before_fit(&mut self, _: &mut Training) -> Step {
        self.steps = 0;
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, outcome: &Outcome) -> Step {
        let (true, Some(loss)) = (t.at.is_training(), &outcome.loss) else { return Ok(()) };
        self.steps += 1;
        if f64::try_from(loss)? < self.loss {
            t.say(format!("the loss fell below {} after {} steps", self.loss, self.steps));
            return Scope::Fit.cancel();
        }
        Ok(())
    }
}

/// Returns rows of four numbers, with true if their sum is positive as the target.
fn rows(n: i64) -> finetune::Result<Arrays> {
    let x = Tensor::randn([n, 4], (Kind::Float, Device::Cpu));
    let positive = x.sum_dim_intlist([1_i64].as_slice(), false, Kind::Float).gt(0.0);
    let task = Task::Category { vocab: ["negative".into(), "positive".into()].into() };
    Arrays::from_tensors(&x, &positive.to_kind(Kind::Int64), task)
}

fn main() -> finetune::Result<()> {
    let options = LoaderOptions::new().bs(16).device(Device::Cpu);
    let dls = DataLoaders::from_arrays(rows(512)?, rows(64)?, options)?;
    let vs = nn::VarStore::new(Device::Cpu);
    let layer = |name, i, o| nn::linear(vs.root() / name, i, o, nn::LinearConfig::default());
    let net = nn::seq_t().add(layer("0", 4, 16)).add_fn(Tensor::relu).add(layer("2", 16, 2));
    let model = Model::from_module(vs, net)?;

    let stop = StopBelow { loss: 0.1, steps: 0 };
    let mut learn =
        Learner::new(dls, model, CrossEntropy::new())?.metric(accuracy()).callback(stop);
    learn.fit_one_cycle(5, 0.05)
}
