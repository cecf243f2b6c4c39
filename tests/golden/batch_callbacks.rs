//! Callbacks that change a batch or a step: mixing, accumulation, clipping.

use crate::{
    callbacks::{F32, linear},
    frame::{Golden, Report, Tol, flat, ints, number, numbers},
    tiny::{classes, loaders, tiny},
};
use finetune::{
    Result,
    callback::{CutMix, GradientAccumulation, GradientClip, MixUp},
    learner::{Callback, Learner, MixedPrecision, Outcome, Scope, Step, Training},
    loss::{BceWithLogits, CrossEntropy, LabelSmoothing, Loss},
    model::Model,
    optim::{GradScaler, Hyper, Optimizer, Sgd},
    sample::{Batch, Task},
};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tch::{Device, Kind, Tensor, nn};

pub(crate) fn check(g: &Golden, r: &mut Report) {
    for case in g.json["mix"]["cases"].as_array().unwrap() {
        r.case();
        mix(g, r, case);
    }
    for case in g.json["accum"]["cases"].as_array().unwrap() {
        r.case();
        accumulate(g, r, case);
    }
    for case in g.cases("clip") {
        r.case();
        clip(g, r, case);
    }
    for case in g.json["scaler"]["cases"].as_array().unwrap() {
        r.case();
        scaler(g, r, case);
    }
    for case in g.json["mixed_precision"]["cases"].as_array().unwrap() {
        r.case();
        mixed(g, r, case);
    }
}

/// A training batch and its loss, after the callbacks.
#[derive(Debug, Clone, Default)]
struct Mixed {
    x: Option<Kept>,
    y: Option<Kept>,
    pred: Option<Kept>,
    loss: f64,
}

/// A tensor as numbers, with its shape.
type Kept = (Vec<i64>, Vec<f64>);

fn kept(t: &Tensor) -> Kept {
    (t.size(), flat(t))
}

/// Records the inputs of the model and the loss in training.
#[derive(Debug, Clone, Default)]
struct Capture(Arc<Mutex<Vec<Mixed>>>);

impl Callback for Capture {
    fn order(&self) -> i32 {
        2000
    }
    fn before_batch(&mut self, t: &mut Training, batch: &mut Batch) -> Step {
        if t.at.is_training() {
            let y = batch.y.as_ref().map(kept);
            let mixed = Mixed { x: Some(kept(&batch.x)), y, ..Mixed::default() };
            self.0.lock().unwrap().push(mixed);
        }
        Ok(())
    }
    fn after_pred(&mut self, t: &mut Training, _: &mut Batch, pred: &mut Tensor) -> Step {
        if let (true, Some(last)) = (t.at.is_training(), self.0.lock().unwrap().last_mut()) {
            last.pred = Some(kept(pred));
        }
        Ok(())
    }
    fn after_loss(&mut self, t: &mut Training, _: &Batch, loss: &mut Tensor) -> Step {
        if let (true, Some(last)) = (t.at.is_training(), self.0.lock().unwrap().last_mut()) {
            last.loss = f64::try_from(&*loss)?;
        }
        Ok(())
    }
}

/// Returns the callback of a case, with fastai's draws instead of its own.
fn mixer(g: &Golden, case: &Value, learn: Learner) -> Learner {
    let key = case["key"].as_str().unwrap();
    let mut draws = vec![];
    for i in 0.. {
        let name = |what: &str| format!("{key}.b{i}.{what}");
        if !g.has(&name("perm")) {
            break;
        }
        let lam: Vec<f32> = flat(&g.tensor(&name("lam_drawn"))).iter().map(|v| *v as f32).collect();
        draws.push((ints(&g.tensor(&name("perm"))), lam));
    }
    let mut draws = draws.into_iter();
    if case["callback"] == "MixUp" {
        return learn.callback(MixUp::new(0.4).draws(move |_| {
            let (perm, weights) = draws.next().unwrap();
            finetune::callback::Pairs { perm, weights }
        }));
    }
    let centers: Vec<(i64, i64)> = serde_json::from_value(case["cxcy"].clone()).unwrap();
    let mut centers = centers.into_iter();
    learn.callback(CutMix::new(1.0).draws(move |_, _, _| {
        let (perm, weights) = draws.next().unwrap();
        let center = centers.next().unwrap();
        finetune::callback::Cut { perm, weight: f64::from(weights[0]), center }
    }))
}

/// The sum of the losses of the items instead of their mean.
#[derive(Debug)]
struct Summed(CrossEntropy);

impl Loss for Summed {
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.0.each(pred, y)
    }
    fn reduce(&self, each: &Tensor) -> Result<Tensor> {
        Ok(each.f_sum(Kind::Float)?)
    }
}

fn mix(g: &Golden, r: &mut Report, case: &Value) {
    let key = case["key"].as_str().unwrap();
    let (x, y) = (g.tensor("mix.x"), g.tensor(case["targets"].as_str().unwrap()));
    let n = g.tensor("mix.y_float").size()[1];
    let bs = case["batch_size"].as_u64().unwrap() as usize;
    let task = match y.kind() {
        Kind::Int64 => classes(n),
        _ => Task::Categories { vocab: (0..n).map(|i| i.to_string()).collect() },
    };
    let dls = loaders((&x, &y), (&x, &y), bs, &task);
    let model = tiny(n, 0);
    let learn = match key {
        "mixup_labelsmooth" => Learner::new(dls, model, LabelSmoothing::new(0.1)),
        "mixup_ce_sum" => Learner::new(dls, model, Summed(CrossEntropy::new())),
        _ if y.kind() != Kind::Int64 => Learner::new(dls, model, BceWithLogits::new()),
        _ => Learner::new(dls, model, CrossEntropy::new()),
    };
    let learn = learn.unwrap().quiet().opt_func(|p| Optimizer::new(p, Sgd::new())).unwrap();
    let seen = Capture::default();
    let mut learn = mixer(g, case, learn).callback(seen.clone());
    learn.fit(1, 0.0).unwrap();
    for (i, ours) in seen.0.lock().unwrap().iter().enumerate() {
        let of = |what: &str| g.tensor(&format!("{key}.b{i}.{what}"));
        for (what, ours) in [("xb", &ours.x), ("yb", &ours.y), ("pred", &ours.pred)] {
            let (size, numbers) = ours.as_ref().unwrap();
            let label = format!("{key}.b{i}.{what}");
            r.exact(format!("{label}: shape"), size, &of(what).size());
            r.close(label, numbers, &flat(&of(what)), F32);
        }
        r.close(format!("{key}.b{i}.loss"), &[ours.loss], &flat(&of("loss")), F32);
    }
    let losses = numbers(&case["train_losses"]);
    r.close(format!("{key}: losses"), &learn.recorder().raw_losses, &losses, F32);
    let valid = learn.recorder().last("valid_loss").unwrap();
    r.close(format!("{key}: valid"), &[valid], &[number(&case["valid_loss"])], F32);
}

/// Records weights, steps and remaining gradients of every training batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Steps(pub(crate) Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) params: Vec<f64>,
    pub(crate) losses: Vec<f64>,
    pub(crate) scaled: Vec<f64>,
    pub(crate) stepped: Vec<bool>,
    pub(crate) left: Vec<f64>,
}

impl Callback for Steps {
    fn order(&self) -> i32 {
        1001
    }
    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        if t.at.is_training() {
            self.0.lock().unwrap().stepped.push(false);
        }
        Ok(())
    }
    fn after_loss(&mut self, t: &mut Training, _: &Batch, loss: &mut Tensor) -> Step {
        if t.at.is_training() {
            self.0.lock().unwrap().losses.push(f64::try_from(&*loss)?);
        }
        Ok(())
    }
    fn before_backward(&mut self, _: &mut Training, _: &Batch, loss: &mut Tensor) -> Step {
        self.0.lock().unwrap().scaled.push(f64::try_from(&*loss)?);
        Ok(())
    }
    fn after_step(&mut self, _: &mut Training) -> Step {
        *self.0.lock().unwrap().stepped.last_mut().unwrap() = true;
        Ok(())
    }
    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        if t.at.is_training() {
            let mut taken = self.0.lock().unwrap();
            for p in t.model.params() {
                taken.params.extend(flat(&p.tensor));
                let grad = p.tensor.grad();
                taken.left.push(if grad.defined() { f64::try_from(grad.norm())? } else { 0.0 });
            }
        }
        Ok(())
    }
}

pub(crate) fn on_accum(g: &Golden, bs: usize) -> Learner {
    let (x, y) = (g.tensor("accum.x"), g.tensor("accum.y"));
    let head = |t: &Tensor| t.narrow(0, 0, 4);
    linear((&x, &y), (&head(&x), &head(&y)), bs)
}

fn accumulate(g: &Golden, r: &mut Report, case: &Value) {
    let key = case["key"].as_str().unwrap();
    let bs = case["batch_size"].as_u64().unwrap() as usize;
    let items = case["n_acc"].as_u64().unwrap() as usize;
    let epochs = case["epochs"].as_u64().unwrap() as usize;
    let steps = Steps::default();
    let mut learn =
        on_accum(g, bs).callback(GradientAccumulation::new(items)).callback(steps.clone());
    learn.fit(epochs, number(&case["lr"])).unwrap();
    let taken = steps.0.lock().unwrap();
    let stepped: Vec<bool> = serde_json::from_value(case["stepped"].clone()).unwrap();
    r.exact(format!("{key}: steps"), &taken.stepped, &stepped);
    if items < bs {
        // A batch with more items than the accumulation needs takes a normal step.
        let plain = Steps::default();
        on_accum(g, bs).callback(plain.clone()).fit(epochs, number(&case["lr"])).unwrap();
        let plain = plain.0.lock().unwrap();
        r.close(format!("{key}: as without"), &taken.params, &plain.params, F32);
        r.close(format!("{key}: losses as without"), &taken.losses, &plain.losses, F32);
        r.differs(key, "a batch larger than the items to gather is not scaled up");
        return;
    }
    let params = flat(&g.tensor(&format!("{key}.params_after_batch")));
    r.close(format!("{key}: weights"), &taken.params, &params, F32);
    r.close(format!("{key}: losses"), &taken.losses, &numbers(&case["loss"]), F32);
    let scaled = numbers(&case["loss_used_for_backward"]);
    r.close(format!("{key}: scaled"), &taken.scaled, &scaled, F32);
    let left: Vec<f64> =
        case["grad_norms_left_after_batch"].as_array().unwrap().iter().flat_map(numbers).collect();
    r.close(format!("{key}: left"), &taken.left, &left, F32);
    let smooth = numbers(&case["recorder_losses"]);
    r.close(format!("{key}: smoothed"), &learn.recorder().losses, &smooth, F32);
    let none = learn.model().params().iter().all(|p| {
        let grad = p.tensor.grad();
        !grad.defined() || flat(&grad).iter().all(|g| *g == 0.0)
    });
    r.holds(format!("{key}: the next fit begins without gradients"), none);
    if case["count_after"] != 0 {
        r.differs(key, "gradients left at the end are not carried into the next fit");
    }
}

/// Records the l2 norm of all gradients, at the given callback order.
#[derive(Debug, Clone)]
struct Norms(i32, Arc<Mutex<Vec<f64>>>);

impl Callback for Norms {
    fn order(&self) -> i32 {
        self.0
    }
    fn before_step(&mut self, t: &mut Training) -> Step {
        let squares = t.model.params().iter().map(|p| p.tensor.grad().square().sum(None));
        let all: f64 = squares.map(|s| f64::try_from(s).unwrap()).sum();
        self.1.lock().unwrap().push(all.sqrt());
        Ok(())
    }
}

fn clip(g: &Golden, r: &mut Report, case: &Value) {
    let key = case["key"].as_str().unwrap();
    let arg = |name: &str, default: f64| case["kwargs"].get(name).map_or(default, number);
    let clip = GradientClip::new(arg("max_norm", 1.0)).norm_type(arg("norm_type", 2.0));
    let steps = Steps::default();
    let (before, after) = (Norms(5, Arc::default()), Norms(500, Arc::default()));
    let learn = on_accum(g, 4).callback(clip).callback(steps.clone());
    let mut learn = learn.callback(before.clone()).callback(after.clone());
    learn.fit(1, 0.1).unwrap();
    r.close(format!("{key}: before"), &before.1.lock().unwrap(), &numbers(&case["l2_before"]), F32);
    r.close(format!("{key}: after"), &after.1.lock().unwrap(), &numbers(&case["l2_after"]), F32);
    let params = flat(&g.tensor(&format!("{key}.params_after_batch")));
    r.close(format!("{key}: weights"), &steps.0.lock().unwrap().params, &params, F32);
}

/// Returns a scaler with fastai's arguments.
fn scaler_of(kwargs: &Value) -> GradScaler {
    let mut scaler = GradScaler::new();
    for (option, value) in kwargs.as_object().unwrap() {
        let value = number(value);
        scaler = match option.as_str() {
            "init_scale" => scaler.init_scale(value),
            "growth_factor" => scaler.growth_factor(value),
            "backoff_factor" => scaler.backoff_factor(value),
            "growth_interval" => scaler.growth_interval(value as u32),
            other => panic!("no option {other}"),
        };
    }
    scaler
}

/// Runs the scaler alone through overflow, backoff and growth.
fn scaler(g: &Golden, r: &mut Report, case: &Value) {
    let name = case["name"].as_str().unwrap();
    let grads = g.tensor(&format!("scaler.{name}.grads"));
    let found: Vec<bool> = serde_json::from_value(case["found_inf"].clone()).unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    let p = vs.root().var_copy("p", &Tensor::from_slice(&[1.0_f32, -2.0]));
    let model = Model::from_module(vs, nn::func(Tensor::shallow_clone)).unwrap();
    let mut opt = Optimizer::new(model.params(), Sgd::new()).unwrap();
    opt.set(Hyper::Lr, &[0.1]).unwrap();
    let mut scaler = scaler_of(&case["kwargs"]);
    let initial = number(&case["initial_scale"]);
    r.close(format!("scaler {name}: initial"), &[scaler.get_scale()], &[initial], F32);
    let (mut params, mut scales, mut growth, mut skipped) = (vec![], vec![], vec![], vec![]);
    for (k, &bad) in found.iter().enumerate() {
        let loss = (&p * grads.get(k as i64)).sum(Kind::Float);
        scaler.scale(&loss).backward();
        if bad {
            let value = if k % 3 == 0 { f64::NAN } else { f64::INFINITY };
            let _ = p.grad().get(k as i64 % 2).fill_(value);
        }
        skipped.push(!scaler.step(&mut opt).unwrap());
        scaler.update().unwrap();
        opt.zero_grad();
        params.extend(flat(&p));
        scales.push(scaler.get_scale());
        growth.push(u64::from(scaler.growth_tracker()));
    }
    let after = flat(&g.tensor(&format!("scaler.{name}.params_after")));
    r.close(format!("scaler {name}: weights"), &params, &after, F32);
    let exact = Tol { rtol: 1e-7, atol: 0.0 };
    let theirs = numbers(&case["scale_after_update"]);
    r.close(format!("scaler {name}: scale"), &scales, &theirs, exact);
    let theirs: Vec<u64> = serde_json::from_value(case["growth_tracker"].clone()).unwrap();
    r.exact(format!("scaler {name}: growth"), &growth, &theirs);
    let theirs: Vec<bool> = serde_json::from_value(case["skipped"].clone()).unwrap();
    r.exact(format!("scaler {name}: skipped"), &skipped, &theirs);
}

/// Puts an infinite gradient into some batches.
#[derive(Debug)]
struct Infinite(Vec<usize>);

impl Callback for Infinite {
    fn order(&self) -> i32 {
        5
    }
    fn after_backward(&mut self, t: &mut Training) -> Step {
        if self.0.contains(&t.at.fit_batches) {
            let _ = t.model.params()[0].tensor.grad().get(0).get(0).fill_(f64::INFINITY);
        }
        Ok(())
    }
}

/// Records the scale after each step, from the notes for a checkpoint, and the cancelled steps.
#[derive(Debug, Clone, Default)]
struct Scales(Arc<Mutex<(Vec<f64>, Vec<usize>)>>);

impl Callback for Scales {
    fn order(&self) -> i32 {
        900
    }
    fn after_step(&mut self, t: &mut Training) -> Step {
        self.0.lock().unwrap().0.push(number(&t.notes["MixedPrecision"]["scale"]));
        Ok(())
    }
    fn after_cancel(&mut self, t: &mut Training, scope: Scope) -> Step {
        assert_eq!(scope, Scope::Step);
        self.0.lock().unwrap().1.push(t.at.fit_batches);
        Ok(())
    }
}

fn mixed(g: &Golden, r: &mut Report, case: &Value) {
    let key = case["key"].as_str().unwrap();
    let scaler = scaler_of(&case["kwargs"]);
    let at = serde_json::from_value(case["inf_at_train_iter"].clone()).unwrap();
    let (steps, scales) = (Steps::default(), Scales::default());
    let momentum = |p: &[_]| Optimizer::new(p, Sgd::new().mom(0.9));
    let learn = on_accum(g, 4).opt_func(momentum).unwrap();
    let learn = learn.callback(MixedPrecision::with_scaler(scaler)).callback(Infinite(at));
    let learn = learn.callback(steps.clone()).callback(scales.clone());
    let mut learn = learn.callback(GradientClip::new(1.0));
    learn.fit(2, 0.1).unwrap();
    let (taken, (scale, cancelled)) = (steps.0.lock().unwrap(), &*scales.0.lock().unwrap());
    r.close(format!("{key}: scale"), scale, &numbers(&case["scale_at_after_step"]), F32);
    let theirs: Vec<usize> = serde_json::from_value(case["cancelled_steps"].clone()).unwrap();
    r.exact(format!("{key}: cancelled"), cancelled, &theirs);
    let stepped: Vec<bool> =
        serde_json::from_value(case["after_step_event_fired"].clone()).unwrap();
    r.exact(format!("{key}: after_step"), &taken.stepped, &stepped);
    r.close(format!("{key}: losses"), &taken.losses, &numbers(&case["losses"]), F32);
    let smooth = numbers(&case["recorder_losses"]);
    r.close(format!("{key}: smoothed"), &learn.recorder().losses, &smooth, F32);
    let params = flat(&g.tensor(&format!("{key}.params_after_batch")));
    r.close(format!("{key}: weights"), &taken.params, &params, F32);
}
