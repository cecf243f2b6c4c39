//! Networks: parameters, groups, heads, outputs, gradients and initial weights.

use crate::{
    frame::{Golden, Report, Tol, flat, number, numbers},
    tiny::{fill, formula},
};
use finetune::{
    model::{
        Activation, ArchSpec, HeadInit, HeadLayer, HeadOptions, Model, ParamKind,
        adapt_first_layer, adaptive_concat_pool2d, by_name, fastai_name, resnet18,
    },
    seed::Seed,
};
use serde_json::Value;
use tch::{
    Device, Kind, Tensor,
    nn::{self, ModuleT as _, VarStore},
};

/// Sets dropout to probability 0, which keeps the layer and its number.
const NEVER: f64 = 1e-300;

pub(crate) fn check(g: &Golden, r: &mut Report) {
    for (name, arch) in g.json["archs"].as_object().unwrap() {
        architecture(g, r, name, arch);
    }
    no_counters_and_no_mode(r);
    head_init(g, r);
    init_stats(g, r);
    head_variants(g, r);
    r.case();
    let x = g.tensor("concat_pool.input");
    let tol = Tol { rtol: 1e-5, atol: 1e-5 };
    let pooled = |size| adaptive_concat_pool2d(&x, size);
    r.tensor("concat_pool", &pooled(1), &g.tensor("concat_pool.expected"), tol);
    r.tensor("concat_pool.size2", &pooled(2), &g.tensor("concat_pool.size2"), tol);
    channels(g, r);
    norm_bias_params(g, r);
}

fn no_counters_and_no_mode(r: &mut Report) {
    let model = model("resnet18", 2, 1);
    let state = || model.state_dict();
    let counters = state().iter().filter(|(n, _)| n.ends_with("num_batches_tracked")).count();
    r.exact("counters", &counters, &0);
    r.differs("state_dict_order", "there are no `num_batches_tracked` counters");
    let statistics = || -> Vec<f64> {
        let running = state().into_iter().filter(|(n, _)| n.ends_with("running_mean"));
        running.flat_map(|(_, t)| flat(&t)).collect()
    };
    let (x, before) = (Tensor::ones([2, 3, 64, 64], tch::kind::FLOAT_CPU), statistics());
    let _ = model.forward(&x, false);
    r.exact("statistics after a pass that does not train", &statistics(), &before);
    let _ = model.forward(&x, true);
    r.holds("statistics change in a pass that trains", statistics() != before);
    r.differs(
        "training_flags_after_creation",
        "a model has no mode: each forward pass takes it as an argument",
    );
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_else(|| panic!("{v} is not a string"))
}

fn shape(v: &Value) -> Vec<i64> {
    serde_json::from_value(v.clone()).unwrap()
}

fn salt(g: &Golden) -> u32 {
    g.json["salt"].as_u64().unwrap() as u32
}

fn model(name: &str, n_out: usize, seed: u64) -> Model {
    let head = HeadOptions::new().ps(vec![NEVER]);
    let spec = ArchSpec::new(&by_name(name).unwrap(), 3, n_out, head);
    spec.build(Device::Cpu, Seed(seed)).unwrap()
}

fn architecture(g: &Golden, r: &mut Report, name: &str, a: &Value) {
    r.case();
    let n_out = a["n_out"].as_u64().unwrap() as usize;
    let mut m = model(name, n_out, 0);
    structure(r, name, a, &mut m);
    let layers = HeadOptions::new().layers(a["nf"].as_i64().unwrap(), n_out as i64).unwrap();
    r.exact(format!("{name}.head"), &layers, &theirs(&a["head"]));
    fill(&mut m, fastai_name, salt(g));
    spot_checks(r, name, a, &m, salt(g));
    evaluated(g, r, name, a, &m);
    trained(g, r, name, a, &mut m);
}

/// Compares names, shapes, groups and flags.
fn structure(r: &mut Report, name: &str, a: &Value, m: &mut Model) {
    let last = m.groups() - 1;
    let flags = |m: &mut Model, train_bn| -> Vec<bool> {
        m.freeze_to(last, train_bn);
        m.params().iter().map(|p| p.tensor.requires_grad()).collect()
    };
    let (frozen, all_frozen) = (flags(m, true), flags(m, false));
    m.freeze_to(last, true);
    let trainable: usize =
        m.params().iter().filter(|p| p.tensor.requires_grad()).map(|p| p.tensor.numel()).sum();
    m.freeze_to(0, true);
    let mut counts = vec![0; m.groups()];
    let rows: Vec<Value> = m
        .params()
        .iter()
        .enumerate()
        .map(|(i, p)| {
            counts[p.group] += 1;
            serde_json::json!([
                fastai_name(&p.name),
                p.tensor.size(),
                p.group,
                counts[p.group] - 1,
                frozen[i],
                all_frozen[i],
                p.kind == ParamKind::Weight,
                p.kind == ParamKind::Norm,
            ])
        })
        .collect();
    for (i, theirs) in a["params"].as_array().unwrap().iter().enumerate() {
        r.exact(format!("{name}.params[{i}]"), rows.get(i).unwrap_or(&Value::Null), theirs);
    }
    r.exact(format!("{name}.params"), &rows.len(), &a["params"].as_array().unwrap().len());
    r.exact(format!("{name}.group_sizes"), &serde_json::json!(counts), &a["group_sizes"]);
    r.exact(format!("{name}.n_groups"), &serde_json::json!(counts.len()), &a["n_groups"]);
    let all: usize = m.params().iter().map(|p| p.tensor.numel()).sum();
    r.exact(format!("{name}.n_params"), &serde_json::json!(all), &a["n_params"]);
    let theirs = &a["n_trainable_after_freeze"];
    r.exact(format!("{name}.n_trainable"), &serde_json::json!(trainable), theirs);
    let order = state_dict_order(m);
    let counted = |n: &str| n.ends_with("num_batches_tracked");
    let theirs = a["state_dict_order"].as_array().unwrap().iter().map(text);
    let theirs: Vec<String> = theirs.filter(|n| !counted(n)).map(ToOwned::to_owned).collect();
    r.exact(format!("{name}.state_dict_order"), &order, &theirs);
    let mut ours: Vec<Value> =
        m.buffers().iter().map(|(n, t)| serde_json::json!([fastai_name(n), t.size()])).collect();
    let theirs = a["buffers"].as_array().unwrap().iter();
    let mut theirs: Vec<Value> = theirs.filter(|b| !counted(text(&b[0]))).cloned().collect();
    ours.sort_by_key(ToString::to_string);
    theirs.sort_by_key(ToString::to_string);
    r.exact(format!("{name}.buffers"), &ours, &theirs);
    let arch = by_name(name).unwrap();
    let kept = arch.children().len() as i64 + a["cut"].as_i64().unwrap();
    let children = arch.children();
    let children: Vec<&str> = children[..kept as usize].iter().map(|c| class(c)).collect();
    r.exact(format!("{name}.children"), &serde_json::json!(children), &a["body_children"]);
    let uncut = a["body_children_with_cut_none"].as_i64();
    r.exact(format!("{name}.cut_none"), &Some(kept), &uncut);
    r.exact(format!("{name}.nf"), &serde_json::json!(arch.features().unwrap()), &a["nf"]);
}

/// Returns PyTorch's class of a child of a residual network.
fn class(child: &str) -> &str {
    match child {
        "conv1" => "Conv2d",
        "bn1" => "BatchNorm2d",
        "relu" => "ReLU",
        "maxpool" => "MaxPool2d",
        layer if layer.starts_with("layer") => "Sequential",
        other => other,
    }
}

/// Compares fastai's names of parameters and buffers, module by module.
fn state_dict_order(m: &Model) -> Vec<String> {
    let module = |name: &str| name.rsplit_once('.').map(|(module, _)| module.to_owned());
    let mut order: Vec<String> = vec![];
    for (i, p) in m.params().iter().enumerate() {
        order.push(fastai_name(&p.name));
        let next = m.params().get(i + 1).and_then(|next| module(&next.name));
        if module(&p.name) != next {
            let own = m.buffers().iter().filter(|(n, _)| module(n) == module(&p.name));
            order.extend(own.map(|(n, _)| fastai_name(n)));
        }
    }
    order
}

fn spot_checks(r: &mut Report, name: &str, a: &Value, m: &Model, salt: u32) {
    let state = m.state_dict();
    for (key, check) in a["formula_spot_checks"].as_object().unwrap() {
        let (_, own) = state.iter().find(|(n, _)| fastai_name(n) == *key).unwrap();
        let values = flat(own);
        let what = format!("{name}.{key}");
        // The numbers have 32 bits; parsing their decimals as 64 bits may be off in the last place.
        let tol = Tol { rtol: 1e-15, atol: 0.0 };
        r.close(&what, &values[..4], &numbers(&check["first4"]), tol);
        let last = values[values.len() - 1];
        r.close(&what, &[last], &[number(&check["last"])], tol);
        let sum = values.iter().sum();
        r.close(&what, &[sum], &[number(&check["sum"])], Tol { rtol: 1e-9, atol: 1e-9 });
        let k = check["k"].as_u64().unwrap() as usize;
        r.tensor(&what, own, &formula(key, &own.size(), k, salt), Tol { rtol: 0.0, atol: 0.0 });
    }
}

/// Returns mean, standard deviation and size of a tensor's numbers.
struct Stats {
    mean: f64,
    std: f64,
    absmax: f64,
    sum: f64,
}

fn stats(t: &Tensor) -> Stats {
    let t = t.to_kind(Kind::Double);
    let get = |t: Tensor| f64::try_from(t).unwrap();
    Stats {
        mean: get(t.mean(None)),
        std: get(t.std(true)),
        absmax: get(t.abs().max()),
        sum: get(t.sum(None)),
    }
}

fn evaluated(g: &Golden, r: &mut Report, name: &str, a: &Value, m: &Model) {
    let _guard = tch::no_grad_guard();
    let mut features = Tensor::new();
    let mut seen = 0;
    let logits = m.forward_with(&g.tensor("x_eval"), false, &mut |child, out| {
        if child == "head" {
            return;
        }
        let theirs = &a["eval_activations_after_body_child"][seen.to_string()];
        let ours = stats(out);
        let what = format!("{name}.{child}");
        let tol = Tol { rtol: 1e-4, atol: 1e-4 };
        let pairs = [(ours.mean, "mean"), (ours.std, "std"), (ours.absmax, "absmax")];
        for (value, key) in pairs {
            r.close(format!("{what}.{key}"), &[value], &[number(&theirs[key])], tol);
        }
        let tol = Tol { rtol: 1e-4, atol: 2e-5 * out.numel() as f64 };
        r.close(format!("{what}.sum"), &[ours.sum], &[number(&theirs["sum"])], tol);
        features = out.copy();
        seen += 1;
    });
    let logits = logits.unwrap();
    let children = a["eval_activations_after_body_child"].as_object().unwrap().len();
    r.exact(format!("{name}.activations"), &seen, &children);
    let body = g.tensor(&format!("{name}.eval.body"));
    r.tensor(format!("{name}.body"), &features, &body, Tol { rtol: 0.0, atol: 2e-4 });
    let tol = Tol { rtol: 1e-4, atol: 1e-4 };
    r.tensor(format!("{name}.logits"), &logits, &g.tensor(&format!("{name}.eval.logits")), tol);
    let (body, theirs) = (stats(&features), &a["eval_stats"]);
    let ours = [body.mean, body.std, body.absmax, stats(&logits).absmax];
    let keys = ["body_mean", "body_std", "body_absmax", "logits_absmax"];
    r.close(format!("{name}.stats"), &ours, &keys.map(|k| number(&theirs[k])), tol);
}

fn trained(g: &Golden, r: &mut Report, name: &str, a: &Value, m: &mut Model) {
    let at = |what: &str| g.tensor(&format!("{name}.{what}"));
    let advice = &g.json["tolerance"];
    let of = |key: &str| number(&advice[key][name]);
    let (x, y) = (g.tensor("x_train"), g.tensor("y_train"));
    let y = y.remainder(a["n_out"].as_i64().unwrap());
    let logits = m.forward(&x, true).unwrap();
    let tol = Tol { rtol: 0.0, atol: of("train_logits_atol") };
    r.tensor(format!("{name}.train.logits"), &logits, &at("train.logits"), tol);
    let loss = logits.cross_entropy_for_logits(&y);
    r.tensor(format!("{name}.train.loss"), &loss, &at("train.loss"), tol);
    loss.backward();
    let theirs = flat(&at("train.param_grads"));
    let tol = Tol { rtol: of("param_grads_norm_rtol"), atol: 1e-6 };
    for (p, row) in m.params().iter().zip(theirs.chunks_exact(4)) {
        let grad = p.tensor.grad().to_kind(Kind::Double);
        let get = |t: Tensor| f64::try_from(t).unwrap();
        let (abs, norm) = (get(grad.abs().sum(None)), get(grad.norm()));
        let what = format!("{name}.grad.{}", p.name);
        r.close(&what, &[abs, norm], &row[1..3], tol);
        // Sum and first element may cancel, so their tolerance is relative to the absolute sum and the
        // norm.
        let (sum, first) = (get(grad.sum(None)), get(grad.flatten(0, -1).get(0)));
        r.close(&what, &[sum], &row[..1], Tol { rtol: 0.0, atol: tol.rtol * row[1] + 1e-6 });
        r.close(&what, &[first], &row[3..], Tol { rtol: 0.0, atol: tol.rtol * row[2] + 1e-6 });
    }
    r.exact(format!("{name}.grads"), &theirs.len(), &(4 * m.params().len()));
    let conv1 = at("train.grad_conv1");
    let ours = m.params()[0].tensor.grad().narrow(0, 0, conv1.size()[0]);
    let largest = f64::try_from(conv1.abs().max()).unwrap();
    let tol = Tol { rtol: 0.0, atol: tol.rtol * largest };
    r.tensor(format!("{name}.grad_conv1"), &ours, &conv1, tol);
    let mut state = m.state_dict();
    state.sort_by_key(|(n, _)| fastai_name(n));
    for which in ["running_mean", "running_var"] {
        let own = state.iter().filter(|(n, _)| n.ends_with(which));
        let own: Vec<Tensor> = own.map(|(_, t)| t.shallow_clone()).collect();
        let tol = Tol { rtol: 1e-3, atol: 2e-4 };
        let theirs = at(&format!("train.{which}_after"));
        r.tensor(format!("{name}.{which}"), &Tensor::cat(&own, 0), &theirs, tol);
    }
    let means: Vec<Value> = state
        .iter()
        .filter(|(n, _)| n.ends_with("running_mean"))
        .map(|(n, t)| serde_json::json!([fastai_name(n), t.numel()]))
        .collect();
    r.exact(format!("{name}.running_names"), &Value::from(means), &a["running_names_sorted"]);
    let after = tch::no_grad(|| m.forward(&g.tensor("x_eval"), false)).unwrap();
    let tol = Tol { rtol: 1e-3, atol: of("train_logits_atol") };
    r.tensor(format!("{name}.eval_after"), &after, &at("eval_after_train.logits"), tol);
}

/// Returns the layers of a golden list.
fn theirs(layers: &Value) -> Vec<HeadLayer> {
    let layers = layers.as_array().unwrap();
    let last = layers.len() - 1;
    let of = |(i, l): (usize, &Value)| {
        let (int, float) = (|k: &str| l[k].as_i64().unwrap(), |k: &str| number(&l[k]));
        match text(&l["cls"]) {
            "AdaptiveConcatPool2d" => HeadLayer::ConcatPool,
            "AdaptiveAvgPool2d" => HeadLayer::AvgPool,
            "Flatten" => HeadLayer::Flatten,
            "BatchNorm1d" => {
                assert_eq!((float("eps"), &l["affine"]), (1e-5, &Value::Bool(true)));
                let momentum = float("momentum");
                // Only the last one is PyTorch's own instead of fastai's.
                let bias = if i == last && momentum != 0.1 { 0.0 } else { 1e-3 };
                HeadLayer::BatchNorm { features: int("num_features"), bias, momentum }
            }
            "Dropout" => HeadLayer::Dropout(float("p")),
            "Linear" => HeadLayer::Linear {
                n_in: int("in_features"),
                n_out: int("out_features"),
                bias: l["bias"].as_bool().unwrap(),
            },
            "ReLU" => HeadLayer::Act(Activation::Relu),
            "SigmoidRange" => HeadLayer::SigmoidRange { low: float("low"), high: float("high") },
            other => panic!("no layer {other}"),
        }
    };
    layers.iter().enumerate().map(of).collect()
}

/// Converts `create_head`'s arguments. If `never` is true, dropout has probability 0.
fn options(kwargs: &Value, never: bool) -> HeadOptions {
    let p = |v: f64| if never && v != 0.0 { NEVER } else { v };
    let mut o = HeadOptions::new();
    if never {
        o = o.ps(vec![NEVER]);
    }
    for (key, v) in kwargs.as_object().unwrap() {
        let yes = || v.as_bool().unwrap();
        o = match key.as_str() {
            "lin_ftrs" => o.lin_ftrs(shape(v)),
            "ps" if v.is_array() => o.ps(numbers(v).into_iter().map(p).collect()),
            "ps" => o.ps(vec![p(number(v))]),
            "pool" => o.pool(yes()),
            "concat_pool" => o.concat_pool(yes()),
            "first_bn" => o.first_bn(yes()),
            "bn_final" => o.bn_final(yes()),
            "lin_first" => o.lin_first(yes()),
            "y_range" => {
                let ends = numbers(v);
                o.y_range(ends[0], ends[1])
            }
            other => panic!("no option {other}"),
        };
    }
    o
}

/// Compares new heads from a seed of libtorch's generator.
fn head_init(g: &Golden, r: &mut Report) {
    for case in g.cases("head_init") {
        r.case();
        let key = text(&case["key"]);
        let (nf, n_out) = (case["nf"].as_i64().unwrap(), case["n_out"].as_i64().unwrap());
        let head = options(&case["kwargs"], false);
        r.exact(key, &head.layers(nf, n_out).unwrap(), &theirs(&case["layers"]));
        tch::manual_seed(case["torch_seed"].as_i64().unwrap());
        let vars = VarStore::new(Device::Cpu);
        head.build(&vars.root(), nf, n_out).unwrap();
        let own = vars.variables();
        let mut theirs = g.tensors(&format!("{key}."));
        theirs.retain(|name, _| !name.ends_with("num_batches_tracked"));
        r.exact(format!("{key}.names"), &own.len(), &theirs.len());
        for (name, tensor) in theirs {
            let Some(ours) = own.get(&name) else {
                r.fail(format!("{key} has no {name}"));
                continue;
            };
            // libtorch's normal draws use different logarithms and cosines on each kind of processor:
            // their last bits differ, relative to the standard deviation. One draw more or less would
            // change all of them by far more.
            let spread = stats(&tensor).std;
            let spread = if spread.is_finite() { spread } else { 0.0 };
            let tol = Tol { rtol: 1e-6, atol: 1e-7 + 2e-5 * spread };
            r.tensor(format!("{key}.{name}"), ours, &tensor, tol);
        }
    }
}

/// Compares the distribution of new weights. The draws differ from fastai's, the distribution does not.
fn init_stats(g: &Golden, r: &mut Report) {
    r.case();
    let seed = g.json["seed"].as_u64().unwrap();
    let m = model("resnet18", 37, seed);
    let state = m.state_dict();
    let find = |name: &str| {
        let found = state.iter().find(|(n, _)| fastai_name(n) == name);
        found.unwrap_or_else(|| panic!("no {name}")).1.shallow_clone()
    };
    let close = |r: &mut Report, what: String, ours: &Tensor, theirs: &Value| {
        let s = stats(ours);
        let std = number(&theirs["std"]);
        let n = ours.numel() as f64;
        // Five standard errors of two independent draws.
        r.close(format!("{what}.std"), &[s.std], &[std], Tol { rtol: 5.0 / n.sqrt(), atol: 1e-9 });
        let tol = Tol { rtol: 0.0, atol: 7.1 * std / n.sqrt() + 1e-9 };
        r.close(format!("{what}.mean"), &[s.mean], &[number(&theirs["mean"])], tol);
    };
    for (name, theirs) in g.json["head_init_stats"].as_object().unwrap() {
        let ours = find(&format!("1.{name}"));
        r.exact(format!("{name}.shape"), &ours.size(), &shape(&theirs["shape"]));
        close(r, format!("head_init.{name}"), &ours, theirs);
        if theirs["unique"].is_array() {
            let value = flat(&ours)[0];
            r.holds(format!("{name} is constant"), flat(&ours).iter().all(|v| *v == value));
            let tol = Tol { rtol: 1e-6, atol: 0.0 };
            r.close(format!("{name}.unique"), &[value], &numbers(&theirs["unique"]), tol);
        }
        if !theirs["expected_std"].is_null() {
            let tol = Tol { rtol: 4.0 / (2.0 * ours.numel() as f64).sqrt(), atol: 0.0 };
            let expected = number(&theirs["expected_std"]);
            r.close(format!("{name}.expected_std"), &[stats(&ours).std], &[expected], tol);
        }
    }
    for (name, theirs) in g.json["body_init_stats_not_pretrained"].as_object().unwrap() {
        close(r, format!("body_init.{name}"), &find(&format!("0.{name}")), theirs);
    }
    let vars = VarStore::new(Device::Cpu);
    HeadOptions::new().init(HeadInit::Default).build(&vars.root(), 512, 37).unwrap();
    for (name, theirs) in g.json["head_init_none_stats"].as_object().unwrap() {
        close(r, format!("head_init_none.{name}"), &vars.variables()[name], theirs);
    }
}

fn head_variants(g: &Golden, r: &mut Report) {
    for case in g.cases("head_variants") {
        r.case();
        let (key, kwargs) = (text(&case["key"]), &case["kwargs"]);
        let (nf, n_out) = (case["nf"].as_i64().unwrap(), case["n_out"].as_i64().unwrap());
        let layers = options(kwargs, false).layers(nf, n_out);
        if case.get("raises").is_some() {
            r.holds(format!("{key} is an error"), layers.is_err());
            continue;
        }
        r.exact(format!("{key} {kwargs}"), &layers.unwrap(), &theirs(&case["layers"]));
        let vars = VarStore::new(Device::Cpu);
        let head = options(kwargs, true).build(&vars.root(), nf, n_out).unwrap();
        let own = vars.variables();
        let state = case["state_dict"].as_array().unwrap();
        let mut names: Vec<&str> = state.iter().map(|row| text(&row[0])).collect();
        names.sort_unstable();
        let tracked = |n: &str| n.ends_with("num_batches_tracked");
        for row in state.iter().filter(|row| !tracked(text(&row[0]))) {
            let name = text(&row[0]);
            let Some(ours) = own.get(name) else {
                r.fail(format!("{key} has no {name}"));
                continue;
            };
            r.exact(format!("{key}.{name}"), &ours.size(), &shape(&row[1]));
            let k = names.binary_search(&name).unwrap();
            let weights = formula(name, &ours.size(), k, salt(g));
            tch::no_grad(|| ours.shallow_clone().copy_(&weights));
        }
        let counters = names.iter().filter(|n| tracked(n)).count();
        r.exact(format!("{key}.state_dict"), &own.len(), &(names.len() - counters));
        let x = g.tensor(&format!("{key}.input"));
        for (which, train) in [("eval", false), ("train", true)] {
            let ours = tch::no_grad(|| head.forward_t(&x, train));
            let tol = Tol { rtol: 1e-5, atol: 1e-5 };
            r.tensor(format!("{key}.{which}"), &ours, &g.tensor(&format!("{key}.{which}")), tol);
        }
    }
}

/// Compares first layers for other numbers of channels than 3.
fn channels(g: &Golden, r: &mut Report) {
    let spec = ArchSpec::classifier(&resnet18(), 3, 1000);
    let mut base = spec.build(Device::Cpu, Seed(0)).unwrap();
    fill(&mut base, str::to_owned, salt(g));
    let weight = base.params()[0].tensor.detach();
    for case in g.cases("n_in") {
        r.case();
        let n_in = case["n_in"].as_i64().unwrap();
        let new = ArchSpec::new(&resnet18(), n_in as usize, 2, HeadOptions::new());
        let new = new.build(Device::Cpu, Seed(0)).unwrap();
        let first = &new.params()[0].tensor;
        let layer = &case["layer"];
        let kernel = shape(&layer["kernel_size"]);
        let [n_out, n_in_theirs] =
            ["out_channels", "in_channels"].map(|k| layer[k].as_i64().unwrap());
        let size = [n_out, n_in_theirs, kernel[0], kernel[1]];
        r.exact(format!("n_in{n_in}.shape"), first.size().as_slice(), &size);
        r.exact(format!("n_in{n_in}.bias"), &layer["bias"], &Value::Bool(false));
        if case["pretrained"] == Value::Bool(false) {
            let absmax = stats(first).absmax;
            let bound = number(&case["bound"]);
            r.holds("a new first layer is within its bound", absmax <= bound);
            r.holds("a new first layer reaches its bound", absmax > 0.99 * bound);
            continue;
        }
        let key = text(&case["key"]);
        let ours = adapt_first_layer(&weight, n_in).unwrap();
        r.tensor(key, &ours, &g.tensor(key), Tol { rtol: 1e-6, atol: 1e-7 });
    }
}

fn norm_bias_params(g: &Golden, r: &mut Report) {
    r.case();
    let vars = VarStore::new(Device::Cpu);
    let root = vars.root();
    let net = nn::seq_t()
        .add(nn::conv2d(&root / "0", 3, 4, 3, Default::default()))
        .add(nn::batch_norm2d(&root / "1", 4, Default::default()))
        .add(nn::linear(&root / "2", 4, 2, Default::default()))
        .add(nn::layer_norm(&root / "3", vec![4], Default::default()))
        .add(nn::conv2d(&root / "4" / "0", 4, 4, 1, Default::default()));
    let m = Model::from_module(vars, net).unwrap();
    for (with_bias, theirs) in g.json["norm_bias_params"].as_object().unwrap() {
        let wanted =
            |kind| kind == ParamKind::Norm || (kind == ParamKind::Bias && with_bias == "True");
        let ours: Vec<&str> =
            m.params().iter().filter(|p| wanted(p.kind)).map(|p| p.name.as_str()).collect();
        r.exact(format!("norm_bias_params({with_bias})"), &serde_json::json!(ours), theirs);
    }
}
