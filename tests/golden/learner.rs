//! Complete fits of the tiny network and of ResNet-18: every loss, rate and weight.

use crate::{
    frame::{Golden, Report, Tol, flat, number},
    tiny::{Watch, classes, cross_entropy, fill, loaders, tiny_learner},
};
use finetune::{
    learner::{Defaults, Flat, Learner, OneCycle},
    loss::{CrossEntropy, LabelSmoothing},
    metric::{accuracy, error_rate},
    model::{ArchSpec, HeadOptions, fastai_name, resnet18},
    optim::{Adam, Lr, Optimizer, Sgd, ranger},
    seed::Seed,
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

pub(crate) fn check(g: &Golden, r: &mut Report) {
    first_batch(g, r);
    for case in g.cases("cases") {
        r.case();
        let watch = Watch::new(case["model"] == "tiny");
        let mut learn =
            learner(g, case).metric(accuracy()).metric(error_rate()).callback(watch.clone());
        if case["name"] == "train_metrics" {
            learn = learn.train_metrics(true);
        }
        run(&mut learn, case);
        compare(g, r, case, &mut learn, &watch);
    }
}

/// Returns ResNet-18 with the formula's weights and without dropout.
fn resnet(g: &Golden) -> Learner {
    let n = g.json["n_classes"].as_i64().unwrap();
    let bs = g.json["batch_size"].as_u64().unwrap() as usize;
    // Dropout with probability 0 keeps the number of the layer.
    let head = HeadOptions::new().ps(vec![1e-300]);
    let spec = ArchSpec::new(&resnet18(), 3, n as usize, head);
    let mut model = spec.build(Device::Cpu, Seed(0)).unwrap();
    fill(&mut model, fastai_name, g.json["salt"].as_u64().unwrap() as u32);
    let t = |name: &str| g.tensor(name);
    let (x, y, vx, vy) = (t("x_train"), t("y_train"), t("x_valid"), t("y_valid"));
    let dls = loaders((&x, &y), (&vx, &vy), bs, &classes(n));
    Learner::new(dls, model, CrossEntropy::new()).unwrap().quiet()
}

fn learner(g: &Golden, case: &Value) -> Learner {
    let sgd = |p: &[finetune::model::Param]| Optimizer::new(p, Sgd::new().mom(0.9));
    let wd = |learn: Learner, wd| {
        let mut defaults = Defaults::default();
        defaults.wd = Some(wd);
        learn.defaults(defaults)
    };
    match (case["model"].as_str().unwrap(), case["name"].as_str().unwrap()) {
        ("tiny", "fit_sgd") => wd(cross_entropy(g).opt_func(sgd).unwrap(), 1e-2),
        ("tiny", "train_bn_false") => cross_entropy(g).train_bn(false),
        ("tiny", "wd_bn_bias") => {
            let all = |p: &[finetune::model::Param]| {
                Optimizer::new(p, Adam::new()).map(|o| o.wd_bn_bias(true))
            };
            wd(cross_entropy(g).opt_func(all).unwrap(), 0.3)
        }
        ("tiny", "wd") => wd(cross_entropy(g), 0.3),
        ("tiny", "ranger") => {
            tiny_learner(g, LabelSmoothing::new(0.1)).unwrap().opt_func(ranger).unwrap()
        }
        ("tiny", _) => cross_entropy(g),
        (_, "sgd") => resnet(g).opt_func(sgd).unwrap(),
        _ => resnet(g),
    }
}

/// Returns the numbers in the text of a case, such as `fit(2, .05)`, in order.
fn rates(case: &Value) -> Vec<f64> {
    let text = case["desc"].as_str().unwrap();
    let number = regex::Regex::new(r"(\d*\.?\d+(?:e-?\d+)?)").unwrap();
    number.captures_iter(text).map(|c| c[1].parse().unwrap()).collect()
}

fn run(learn: &mut Learner, case: &Value) {
    let one = |learn: &mut Learner, epochs, lr: Lr| learn.fit_one_cycle(epochs, lr);
    let n = rates(case);
    let done = match (case["model"].as_str().unwrap(), case["name"].as_str().unwrap()) {
        ("tiny", "fit" | "train_metrics") => learn.fit(1, 1e-2),
        ("tiny", "fit_sgd") => learn.fit(2, 0.05),
        ("tiny", "fit_one_cycle") => learn.fit_one_cycle(2, n[1]),
        ("tiny", "freeze_cycle") => {
            learn.freeze();
            one(learn, 1, 1e-2.into()).and_then(|()| {
                learn.unfreeze();
                one(learn, 2, (1e-4..=1e-2).into())
            })
        }
        (_, "fine_tune") => learn.fine_tune(1),
        ("tiny", "fine_tune2") => {
            learn.fine_tune(finetune::learner::FineTune::new(2).base_lr(5e-3).freeze_epochs(1))
        }
        ("tiny", "train_bn_false") => {
            learn.freeze();
            one(learn, 1, 1e-2.into())
        }
        ("tiny", "wd_bn_bias" | "wd") => one(learn, 1, 1e-2.into()),
        ("tiny", "ranger") => learn.fit_flat_cos(2, 1e-2),
        ("tiny", "two_fits") => learn.fit(1, 1e-2).and_then(|()| learn.fit(1, 1e-3)),
        ("tiny", "freeze_to") => {
            learn.freeze_to(1);
            learn.fit(1, 1e-3..=1e-2).and_then(|()| {
                learn.freeze_to(1);
                learn.fit(1, vec![1e-4, 1e-3, 1e-2])
            })
        }
        (_, "fit_one_cycle_frozen") => {
            learn.freeze();
            learn.fit_with(&OneCycle::new(1).lr(*n.last().unwrap()), &mut [])
        }
        (_, "unfrozen") => learn.fit_one_cycle(1, 1e-5..=1e-3),
        (_, "sgd") => learn.fit_with(&Flat::new(1).lr(5e-5), &mut []),
        (model, name) => panic!("no case {model}, {name}"),
    };
    done.unwrap();
}

fn compare(g: &Golden, r: &mut Report, case: &Value, learn: &mut Learner, watch: &Watch) {
    let key = case["key"].as_str().unwrap();
    let is_tiny = case["model"] == "tiny";
    let theirs = |name: &str| flat(&g.tensor(&format!("{key}.{name}")));
    let seen = watch.0.lock().unwrap();
    let s = |name: &str| number(&case["sensitivity_without_onednn"][name]);
    let abs = |atol: f64| Tol { rtol: 1e-6, atol };
    let floor =
        |of: &str, tiny: f64, deep: f64| (10.0 * s(of)).max(if is_tiny { tiny } else { deep });
    let loss = abs(floor("raw_loss_max_abs", 2e-5, 2e-2));
    let rate = Tol { rtol: 5e-6, atol: 1e-8 };
    r.close(format!("{key}.lr"), &seen.lr, &theirs("lr"), rate);
    r.close(format!("{key}.mom"), &seen.mom, &theirs("mom"), Tol { rtol: 5e-6, atol: 1e-6 });
    r.close(format!("{key}.wd"), &seen.wd, &theirs("wd"), rate);
    let first = 3.min(seen.raw_loss.len());
    let (ours, want) = (&seen.raw_loss, theirs("raw_loss"));
    r.close(format!("{key}.first losses"), &ours[..first], &want[..first], abs(1e-3));
    r.close(format!("{key}.raw_loss"), ours, &want, loss);
    r.close(format!("{key}.valid_raw_loss"), &seen.valid_raw_loss, &theirs("valid_raw_loss"), loss);
    r.close(format!("{key}.smooth_loss"), &seen.smooth_loss, &theirs("smooth_loss"), loss);
    if is_tiny {
        let norm = Tol { rtol: 1e-4, atol: 1e-5 };
        r.close(format!("{key}.grad_norm"), &seen.grad_norm, &theirs("grad_norm"), norm);
        let params = Tensor::stack(&seen.params, 0);
        let tol = abs(floor("weights_max_abs", 5e-5, 0.0));
        r.tensor(
            format!("{key}.params"),
            &params,
            &g.tensor(&format!("{key}.params_after_step")),
            tol,
        );
    }
    let rows = case["epoch_rows"].as_array().unwrap();
    r.exact(format!("{key}.epochs"), &seen.rows.len(), &rows.len());
    // A single prediction that changes moves a metric by one item.
    let item = if is_tiny { 1e-6 } else { 1.001 / number(&g.json["n_valid"]) };
    for (i, (ours, row)) in seen.rows.iter().zip(rows).enumerate() {
        for (j, (a, b)) in ours.iter().zip(row.as_array().unwrap().iter().skip(1)).enumerate() {
            let is_loss = seen.names[j].ends_with("loss");
            let tol = if is_loss { loss } else { abs(item) };
            r.close(format!("{key}.row{i}.{}", seen.names[j]), &[*a], &[number(b)], tol);
        }
    }
    for (i, fit) in case["fits"].as_array().unwrap().iter().enumerate() {
        let names = fit["metric_names"].as_array().unwrap();
        let names: Vec<_> = names.iter().map(|n| n.as_str().unwrap().to_owned()).collect();
        r.exact(format!("{key}.names"), seen.names.as_slice(), &names[1..names.len() - 1]);
        let iters: Vec<usize> = serde_json::from_value(fit["iters"].clone()).unwrap();
        r.exact(format!("{key}.iters"), &seen.iters[i], &iters);
    }
    drop(seen);
    let preds = learn.get_preds().unwrap();
    let ours: Vec<f64> = preds.preds.iter().map(|v| f64::from(*v)).collect();
    let tol = abs(floor("valid_preds_max_abs", 2e-5, 2e-2));
    r.close(format!("{key}.valid_preds"), &ours, &theirs("valid_preds"), tol);
}

/// Compares the first forward and backward pass, before any step.
fn first_batch(g: &Golden, r: &mut Report) {
    let bs = g.json["batch_size"].as_i64().unwrap();
    let (x, y) = (g.tensor("x_train").narrow(0, 0, bs), g.tensor("y_train").narrow(0, 0, bs));
    for (name, learn) in [("tiny", cross_entropy(g)), ("resnet18", resnet(g))] {
        r.case();
        let at = |what: &str| g.tensor(&format!("first_batch.{name}.{what}"));
        let tol = Tol { rtol: 1e-4, atol: if name == "tiny" { 2e-5 } else { 1e-3 } };
        let evaluated = tch::no_grad(|| learn.model().forward(&x, false)).unwrap();
        r.tensor(format!("{name}.eval_logits"), &evaluated, &at("eval_logits"), tol);
        let logits = learn.model().forward(&x, true).unwrap();
        r.tensor(format!("{name}.train_logits"), &logits, &at("train_logits"), tol);
        let loss = logits.cross_entropy_for_logits(&y);
        r.tensor(format!("{name}.loss"), &loss, &at("loss"), tol);
        loss.backward();
        for p in learn.model().params() {
            let key = format!("first_batch.{name}.grad.{}", p.name);
            if g.has(&key) {
                r.tensor(&key, &p.tensor.grad(), &g.tensor(&key), tol);
            }
        }
        if name == "resnet18" {
            let norms = learn.model().params().iter();
            let norms = norms.map(|p| p.tensor.grad().to_kind(Kind::Double).norm());
            let norms: Vec<f64> = norms.map(|n| f64::try_from(n).unwrap()).collect();
            let tol = Tol { rtol: 5e-3, atol: 1e-5 };
            r.close("resnet18.grad_norms", &norms, &flat(&at("grad_norms")), tol);
        }
    }
}
