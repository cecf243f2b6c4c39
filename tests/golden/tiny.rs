//! The small network and the formula for weights that several topics share.

use crate::frame::Golden;
use finetune::{
    Result,
    data::{Arrays, DataLoaders, LoaderOptions},
    learner::{Callback, Learner, Outcome, Step, Training},
    loss::{CrossEntropy, Loss},
    model::{Model, batch_norm2d},
    sample::{Batch, Task},
};
use std::sync::{Arc, Mutex};
use tch::{Device, Kind, Tensor, nn};

/// Returns the weight at flat index `i` of the `k`-th tensor: a number in [-1, 1).
fn hash(i: u32, k: u32, salt: u32) -> f64 {
    let mut h = i
        .wrapping_mul(2_654_435_761)
        .wrapping_add(k.wrapping_add(1).wrapping_mul(2_246_822_519))
        .wrapping_add(salt);
    h ^= h >> 15;
    h = h.wrapping_mul(2_246_822_519);
    h ^= h >> 13;
    h = h.wrapping_mul(3_266_489_917);
    h ^= h >> 16;
    2.0 * (f64::from(h) / 4_294_967_296.0) - 1.0
}

/// Returns the formula's values of one tensor; `k` is its index among fastai's sorted names.
pub(crate) fn formula(name: &str, shape: &[i64], k: usize, salt: u32) -> Tensor {
    let n: i64 = shape.iter().product();
    if name.ends_with("num_batches_tracked") {
        return Tensor::zeros(shape, (Kind::Int64, Device::Cpu));
    }
    let fan_in: i64 = shape.iter().skip(1).product();
    let scale = |s: f64| match name {
        _ if name.ends_with("running_mean") => 0.1 * s,
        _ if name.ends_with("running_var") => 1.0 + 0.5 * s,
        _ if shape.len() >= 2 => s * 3f64.sqrt() * (2.0 / fan_in as f64).sqrt(),
        _ if name.ends_with("weight") => 0.7 + 0.3 * s,
        _ => 0.1 * s,
    };
    let values: Vec<f32> = (0..n as u32).map(|i| scale(hash(i, k as u32, salt)) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Sets a model's weights by the formula. `fastai` maps our names to fastai's, which determine the
/// order.
pub(crate) fn fill(model: &mut Model, fastai: impl Fn(&str) -> String, salt: u32) {
    let state = model.state_dict();
    let mut names: Vec<String> = state.iter().map(|(n, _)| fastai(n)).collect();
    // The counters of batch normalizations are among fastai's names.
    let counters: Vec<String> = names
        .iter()
        .filter_map(|n| Some(format!("{}.num_batches_tracked", n.strip_suffix(".running_mean")?)))
        .filter(|n| !names.contains(n))
        .collect();
    names.extend(counters);
    names.sort();
    let filled: Vec<(String, Tensor)> = state
        .into_iter()
        .map(|(name, w)| {
            let theirs = fastai(&name);
            let k = names.binary_search(&theirs).unwrap();
            (name, formula(&theirs, &w.size(), k, salt))
        })
        .collect();
    model.load_state_dict(&filled).unwrap();
}

/// Builds conv-bn-relu, conv-bn-relu, pool-linear: three groups, with formula weights.
pub(crate) fn tiny(n_out: i64, salt: u32) -> Model {
    let vs = nn::VarStore::new(Device::Cpu);
    let root = vs.root();
    let bn = nn::BatchNormConfig { ws_init: nn::Init::Const(1.0), ..Default::default() };
    let conv = nn::ConvConfig { stride: 2, padding: 1, bias: false, ..Default::default() };
    let stage = |group: usize, c_in, c_out| {
        let path = root.set_group(group) / group.to_string();
        nn::seq_t()
            .add(nn::conv2d(&path / "0", c_in, c_out, 3, conv))
            .add(batch_norm2d(&(&path / "1"), c_out, bn))
            .add_fn(Tensor::relu)
    };
    let last = root.set_group(2) / "2" / "2";
    let net = nn::seq_t()
        .add(stage(0, 3, 8))
        .add(stage(1, 8, 16))
        .add_fn(|x| x.adaptive_avg_pool2d([1, 1]).flatten(1, -1))
        .add(nn::linear(last, 16, n_out, nn::LinearConfig::default()));
    let mut model = Model::from_module(vs, net).unwrap();
    fill(&mut model, str::to_owned, salt);
    model
}

/// Creates loaders of tensors in order, without dropping the last batch.
pub(crate) fn loaders(
    train: (&Tensor, &Tensor),
    valid: (&Tensor, &Tensor),
    bs: usize,
    task: &Task,
) -> DataLoaders {
    let rows = |(x, y): (&Tensor, &Tensor)| Arrays::from_tensors(x, y, task.clone()).unwrap();
    let options = LoaderOptions::new().bs(bs).shuffle(false).drop_last(false).device(Device::Cpu);
    DataLoaders::from_arrays(rows(train), rows(valid), options).unwrap()
}

/// Returns the task of `n` classes with numbers as names.
pub(crate) fn classes(n: i64) -> Task {
    Task::Category { vocab: (0..n).map(|i| i.to_string()).collect() }
}

/// Creates a learner for the tiny network on the tensors of a topic.
pub(crate) fn tiny_learner(g: &Golden, loss: impl Loss + 'static) -> Result<Learner> {
    let n = g.json["n_classes"].as_i64().unwrap();
    let bs = g.json["batch_size"].as_u64().unwrap() as usize;
    let salt = g.json["salt"].as_u64().unwrap() as u32;
    let t = |name: &str| g.tensor(name);
    let (x, y, vx, vy) = (t("x_train"), t("y_train"), t("x_valid"), t("y_valid"));
    let dls = loaders((&x, &y), (&vx, &vy), bs, &classes(n));
    Ok(Learner::new(dls, tiny(n, salt), loss)?.quiet())
}

/// Creates a learner for a model on tensors, with cross-entropy.
pub(crate) fn cross_entropy_on(
    train: (&Tensor, &Tensor),
    valid: (&Tensor, &Tensor),
    bs: usize,
    model: Model,
) -> Learner {
    let n_out = model.params().last().unwrap().tensor.size()[0];
    let dls = loaders(train, valid, bs, &classes(n_out));
    Learner::new(dls, model, CrossEntropy::new()).unwrap().quiet()
}

/// Calls [`tiny_learner`] with cross-entropy.
pub(crate) fn cross_entropy(g: &Golden) -> Learner {
    tiny_learner(g, CrossEntropy::new()).unwrap()
}

/// The values recorded at every step.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) lr: Vec<f64>,
    pub(crate) mom: Vec<f64>,
    pub(crate) wd: Vec<f64>,
    pub(crate) eps: Vec<f64>,
    pub(crate) sqr_mom: Vec<f64>,
    pub(crate) done: Vec<f64>,
    pub(crate) raw_loss: Vec<f64>,
    pub(crate) valid_raw_loss: Vec<f64>,
    pub(crate) smooth_loss: Vec<f64>,
    pub(crate) grad_norm: Vec<f64>,
    pub(crate) params: Vec<Tensor>,
    pub(crate) rows: Vec<Vec<f64>>,
    pub(crate) iters: Vec<Vec<usize>>,
    pub(crate) names: Vec<String>,
}

/// Records hyperparameters, losses, gradients and weights at every step.
#[derive(Debug, Clone)]
pub(crate) struct Watch(pub(crate) Arc<Mutex<Seen>>, bool);

impl Watch {
    /// If `weights` is true, keeps all weights after each batch.
    pub(crate) fn new(weights: bool) -> Self {
        Self(Arc::default(), weights)
    }
}

impl Callback for Watch {
    fn order(&self) -> i32 {
        1000
    }

    fn after_loss(&mut self, t: &mut Training, _: &Batch, loss: &mut Tensor) -> Step {
        let loss = f64::try_from(&*loss).unwrap();
        let mut seen = self.0.lock().unwrap();
        if t.at.is_training() {
            seen.raw_loss.push(loss)
        } else {
            seen.valid_raw_loss.push(loss)
        }
        Ok(())
    }

    fn after_backward(&mut self, t: &mut Training) -> Step {
        let grads = t.model.params().iter().map(|p| p.tensor.grad()).filter(Tensor::defined);
        let squares: f64 =
            grads.map(|g| f64::try_from(g.to_kind(Kind::Double).square().sum(None)).unwrap()).sum();
        self.0.lock().unwrap().grad_norm.push(squares.sqrt());
        Ok(())
    }

    fn before_step(&mut self, t: &mut Training) -> Step {
        let mut seen = self.0.lock().unwrap();
        for h in t.opt.hypers() {
            seen.lr.push(h.lr);
            seen.mom.push(h.mom);
            seen.wd.push(h.wd);
            seen.eps.push(h.eps);
            seen.sqr_mom.push(h.sqr_mom);
        }
        seen.done.push(t.at.progress());
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        if self.1 && t.at.is_training() {
            let flat: Vec<Tensor> =
                t.model.params().iter().map(|p| p.tensor.detach().flatten(0, -1)).collect();
            self.0.lock().unwrap().params.push(Tensor::cat(&flat, 0).copy());
        }
        Ok(())
    }

    fn after_fit(&mut self, t: &mut Training) -> Step {
        let mut seen = self.0.lock().unwrap();
        seen.smooth_loss.extend(&t.history.losses);
        let values = |r: &finetune::learner::EpochRow| r.values.iter().flatten().copied().collect();
        seen.rows.extend(t.history.rows.iter().map(values));
        seen.iters.push(t.history.iters.clone());
        seen.names = t.history.names.clone();
        Ok(())
    }
}
