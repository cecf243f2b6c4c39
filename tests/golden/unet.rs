//! U-Nets: names, outputs, gradients, two steps of Adam, and their parts.

use crate::{
    frame::{Golden, Report, Tol, flat, number},
    spatial::text,
    tiny::{fill, formula, loaders},
};
use finetune::{
    learner::Learner,
    loss::{CrossEntropy, Loss},
    model::{
        Arch, ArchSpec, ConvNormKind, Model, ParamKind, PixelShuffleIcnr, SelfAttention, UnetBlock,
        UnetOptions, batch_norm2d, by_name, fastai_unet_name, icnr,
    },
    optim::Lr,
    sample::Task,
    seed::Seed,
};
use serde_json::Value;
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor, nn, nn::ModuleT};

pub(crate) fn check(g: &Golden, r: &mut Report) {
    for case in g.cases("models") {
        r.case();
        variant(g, r, case);
    }
    learner(g, r);
    tiny(g, r);
    initial(g, r);
    parts(g, r);
}

fn salt(g: &Golden) -> u32 {
    g.json["salt"].as_u64().unwrap() as u32
}

fn arch(case: &Value) -> Arch {
    by_name(text(&case["arch"])).unwrap()
}

fn options(case: &Value) -> UnetOptions {
    let side = |i: usize| case["img_size"][i].as_u64().unwrap() as u32;
    let mut options = UnetOptions::new().size_hw(side(0), side(1));
    for (name, value) in case["kwargs"].as_object().unwrap() {
        let yes = value == true;
        options = match name.as_str() {
            "blur" => options.blur(yes),
            "blur_final" => options.blur_final(yes),
            "self_attention" => options.self_attention(yes),
            "last_cross" => options.last_cross(yes),
            "bottle" => options.bottle(yes),
            "y_range" => options.y_range(number(&value[0]), number(&value[1])),
            "norm_type" => options.norm(norm(value)),
            "n_in" => options,
            other => panic!("option {other}"),
        };
    }
    options
}

fn norm(v: &Value) -> ConvNormKind {
    match v.as_str() {
        None => ConvNormKind::None,
        Some("NormType.Batch") => ConvNormKind::Batch,
        Some("NormType.Weight") => ConvNormKind::Weight,
        Some(other) => panic!("norm {other}"),
    }
}

/// Sets the formula's weights, and then the attention: its vectors are stored, and `gamma` has its own
/// scale.
fn filled(g: &Golden, key: &str, m: &mut Model) {
    fill(m, fastai_unet_name, salt(g));
    attention(g, key, &m.state_dict());
}

fn attention(g: &Golden, key: &str, state: &[(String, Tensor)]) {
    let _guard = tch::no_grad_guard();
    for (name, tensor) in state {
        let mut own = tensor.shallow_clone();
        let stored = format!("{key}.spectral.{name}");
        if g.has(&stored) {
            own.copy_(&g.tensor(&stored));
        } else if name.ends_with("gamma") {
            // The formula of biases is a tenth of the number.
            let s = own.copy() * 2.0;
            own.copy_(&(s + 0.4));
        }
    }
}

fn wanted(case: &Value) -> BTreeSet<(String, Vec<i64>)> {
    let row = |row: &Value| {
        let shape = row[1].as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect();
        (text(&row[0]).to_owned(), shape)
    };
    let all = case["state_dict"].as_array().unwrap().iter().map(row);
    all.filter(|(name, _)| !name.ends_with("num_batches_tracked")).collect()
}

fn variant(g: &Golden, r: &mut Report, case: &Value) {
    let key = text(&case["key"]);
    let arch = arch(case);
    let n_out = case["n_out"].as_u64().unwrap() as usize;
    let n_in = case["kwargs"]["n_in"].as_u64().unwrap_or(3) as usize;
    let spec = ArchSpec::unet(&arch, n_in, n_out, options(case));
    let mut m = spec.build(Device::Cpu, Seed(1)).unwrap();
    let ours: BTreeSet<(String, Vec<i64>)> =
        m.state_dict().iter().map(|(n, t)| (fastai_unet_name(n), t.size())).collect();
    let theirs = wanted(case);
    let x = g.tensor(text(&case["input"]));
    let x = x.narrow(0, 0, case["input_first_n"].as_i64().unwrap());
    if case.get("raises").is_some() {
        // All weights except those of the last convolution, which adapts to its input.
        let differ: Vec<_> = ours.symmetric_difference(&theirs).map(|(n, _)| n.clone()).collect();
        r.holds(key, differ.iter().all(|n| n.starts_with("layers.12.")) && !differ.is_empty());
        let out = tch::no_grad(|| m.forward(&x, false)).unwrap().size();
        r.exact(key, &out, &vec![1, n_out as i64, x.size()[2], x.size()[3]]);
        r.differs(key, "`bottle`: the last convolution takes the halved channels; fastai's fails");
        return;
    }
    r.exact(format!("{key} names"), &ours, &theirs);
    filled(g, key, &mut m);
    let out = tch::no_grad(|| m.forward(&x, false)).unwrap();
    let atol = 1e-4 * number(&case["eval_absmax"]).max(1.0);
    let tol = Tol { rtol: 0.0, atol };
    r.tensor(format!("{key} eval"), &out, &g.tensor(&format!("{key}.eval")), tol);
    if case["param_names"].is_null() {
        return;
    }
    let other = g.tensor(&format!("{key}.x_other_size"));
    let out = tch::no_grad(|| m.forward(&other, false)).unwrap();
    r.tensor(format!("{key} other size"), &out, &g.tensor(&format!("{key}.eval_other_size")), tol);
    trained(g, r, key, case, &mut m, &x);
}

fn trained(g: &Golden, r: &mut Report, key: &str, case: &Value, m: &mut Model, x: &Tensor) {
    let at = |what: &str| g.tensor(&format!("{key}.{what}"));
    let logits = m.forward(x, true).unwrap();
    let theirs = at("train.logits");
    let atol = 1e-3 * theirs.abs().max().double_value(&[]).max(1.0);
    r.tensor(format!("{key} train"), &logits, &theirs, Tol { rtol: 0.0, atol });
    let loss = CrossEntropy::new().axis(1).mean(&logits, &at("y")).unwrap();
    r.tensor(format!("{key} loss"), &loss, &at("train.loss"), Tol { rtol: 1e-3, atol: 0.0 });
    loss.backward();
    let names: Vec<String> = m.params().iter().map(|p| fastai_unet_name(&p.name)).collect();
    let theirs: Vec<&str> = case["param_names"].as_array().unwrap().iter().map(text).collect();
    r.exact(format!("{key} order"), &names.iter().map(String::as_str).collect(), &theirs);
    let rows = flat(&at("train.param_grads"));
    let tol = Tol { rtol: 2e-2, atol: 1e-6 };
    for (p, row) in m.params().iter().zip(rows.chunks_exact(4)) {
        let norm = p.tensor.grad().to_kind(Kind::Double).norm().double_value(&[]);
        r.close(format!("{key} gradient {}", p.name), &[norm], &row[2..3], tol);
    }
    let mut state = m.state_dict();
    state.sort_by_key(|(n, _)| fastai_unet_name(n));
    for which in ["running_mean", "running_var"] {
        let own: Vec<Tensor> = state
            .iter()
            .filter(|(n, _)| n.ends_with(which))
            .map(|(_, t)| t.shallow_clone())
            .collect();
        let theirs = at(&format!("train.{which}_after"));
        let tol = Tol { rtol: 1e-3, atol: 2e-4 };
        r.tensor(format!("{key} {which}"), &Tensor::cat(&own, 0), &theirs, tol);
    }
    full_gradients(g, r, key, case, m, x);
}

/// Compares the gradients that are stored completely.
///
/// Gradients jump where the input of a ReLU changes its sign. Some inputs are so close to 0 that the
/// rounding of single precision decides their sign, which depends on the vector instructions of
/// libtorch's kernels. fastai's values are then those of a network that differs from ours by rounding.
/// If the gradients of `m` do not match, that network is searched in double precision: ours, or ours
/// with one bias shifted by at most 4e-6, which is less than the difference of the logits in single
/// precision.
fn full_gradients(g: &Golden, r: &mut Report, key: &str, case: &Value, m: &Model, x: &Tensor) {
    let theirs: Vec<(&str, Tensor)> = case["full_grads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| (text(name), g.tensor(&format!("{key}.train.grad.{}", text(name)))))
        .collect();
    let own = gradients(m, &theirs);
    let found = match near(&own, &theirs).iter().all(|yes| *yes) {
        true => own,
        false => in_double_precision(g, key, m, x, &theirs),
    };
    for (own, (name, theirs)) in found.iter().zip(&theirs) {
        let tol = Tol { rtol: 0.0, atol: gradient_atol(theirs) };
        r.tensor(format!("{key} {name}"), own, theirs, tol);
    }
}

/// Returns the tolerance of a gradient.
fn gradient_atol(theirs: &Tensor) -> f64 {
    1e-5 + 1e-3 * theirs.abs().max().double_value(&[])
}

/// Returns which gradients are within the tolerance.
fn near(own: &[Tensor], theirs: &[(&str, Tensor)]) -> Vec<bool> {
    let one = |(a, (_, b)): (&Tensor, &(&str, Tensor))| {
        (a - b).abs().max().double_value(&[]) <= gradient_atol(b)
    };
    own.iter().zip(theirs).map(one).collect()
}

/// Returns the gradients of the parameters that `of` names.
fn gradients(m: &Model, of: &[(&str, Tensor)]) -> Vec<Tensor> {
    let find = |name: &str| m.params().iter().find(|p| fastai_unet_name(&p.name) == name).unwrap();
    of.iter().map(|(name, _)| find(name).tensor.grad().copy()).collect()
}

/// Returns the double-precision gradients of the network whose rounding has the same signs as fastai's,
/// or those of the network itself if there is none.
fn in_double_precision(
    g: &Golden,
    key: &str,
    single: &Model,
    x: &Tensor,
    theirs: &[(&str, Tensor)],
) -> Vec<Tensor> {
    let mut m = single.spec().unwrap().build(Device::Cpu, Seed(1)).unwrap();
    filled(g, key, &mut m);
    tch::no_grad(|| {
        for (_, mut t) in m.state_dict() {
            t.set_data(&t.to_kind(Kind::Double));
        }
    });
    let (x, y) = (x.to_kind(Kind::Double), g.tensor(&format!("{key}.y")));
    let pass = || {
        m.params().iter().for_each(|p| p.tensor.shallow_clone().zero_grad());
        let logits = m.forward(&x, true).unwrap();
        CrossEntropy::new().axis(1).mean(&logits, &y).unwrap().backward();
        let own = gradients(&m, theirs);
        let matches = near(&own, theirs);
        (own, matches)
    };
    let (plain, matches) = pass();
    // A different sign changes the gradients of all layers before the ReLU and of none after it.
    let Some(last) = matches.iter().rposition(|yes| !yes) else { return plain };
    let place = |i: usize| {
        let named = |name: &str| m.params().iter().position(|p| fastai_unet_name(&p.name) == name);
        theirs.get(i).and_then(|(name, _)| named(name))
    };
    let from = place(last).unwrap();
    let to = place(last + 1).unwrap_or(m.params().len());
    let biases = m.params()[from..to].iter().filter(|p| p.name.ends_with("bias"));
    for bias in biases {
        for shift in [1e-6, -1e-6, 2e-6, -2e-6, 4e-6, -4e-6] {
            let kept = bias.tensor.detach().copy();
            let shifted = |by: f64| {
                tch::no_grad(|| bias.tensor.shallow_clone().copy_(&(&kept + by)));
            };
            shifted(shift);
            let (own, matches) = pass();
            shifted(0.0);
            if matches.iter().all(|yes| *yes) {
                return own;
            }
        }
    }
    plain
}

fn codes(n: usize) -> Task {
    Task::Mask { codes: (0..n).map(|i| i.to_string()).collect(), ignored: None }
}

/// Compares groups, freezing and two steps of Adam.
fn learner(g: &Golden, r: &mut Report) {
    r.case();
    let about = &g.json["learner"];
    let case = &g.cases("models")[0];
    let n_out = case["n_out"].as_u64().unwrap() as usize;
    let spec = ArchSpec::unet(&arch(case), 3, n_out, options(case));
    let mut m = spec.build(Device::Cpu, Seed(1)).unwrap();
    let names = |of: &dyn Fn(&finetune::model::Param) -> bool| -> Vec<String> {
        m.params().iter().filter(|p| of(p)).map(|p| fastai_unet_name(&p.name)).collect()
    };
    let listed = |v: &Value| -> Vec<String> {
        v.as_array().unwrap().iter().map(|v| text(v).to_owned()).collect()
    };
    for (group, theirs) in about["groups"].as_array().unwrap().iter().enumerate() {
        r.exact(format!("group {group}"), &names(&|p| p.group == group), &listed(theirs));
    }
    r.exact("no_wd", &names(&|p| p.kind != ParamKind::Weight), &listed(&about["no_wd"]));
    r.exact("force_train", &names(&|p| p.kind == ParamKind::Norm), &listed(&about["force_train"]));
    for (train_bn, key) in
        [(true, "requires_grad_after_freeze"), (false, "requires_grad_after_freeze_train_bn_false")]
    {
        m.freeze_to(m.groups() - 1, train_bn);
        let learns: Vec<String> = m
            .params()
            .iter()
            .filter(|p| p.tensor.requires_grad())
            .map(|p| fastai_unet_name(&p.name))
            .collect();
        r.exact(key, &learns, &listed(&about[key]));
    }
    m.freeze_to(0, true);
    filled(g, "unet0", &mut m);
    let adam = &g.json["adam"];
    let (x, y) = (g.tensor("adam.x"), g.tensor("adam.y"));
    let losses = flat(&g.tensor("adam.losses"));
    two_steps(r, "adam", m, (&x, &y), &codes(n_out), number(&adam["lr"]), |r, learn| {
        let raw = learn.recorder().raw_losses.clone();
        r.close("adam first", &raw[..1], &losses[..1], Tol { rtol: 0.0, atol: 1e-4 });
        r.close("adam second", &raw[1..], &losses[1..], Tol { rtol: 0.0, atol: 5e-3 });
        let valid = learn.recorder().rows.last().unwrap().values[1].unwrap();
        let tol = Tol { rtol: 0.0, atol: 5e-3 };
        r.close("adam valid", &[valid], &[number(&adam["valid_loss"])], tol);
    });
}

/// Compares `Learner.fit(1, lr)` on two batches of two.
fn two_steps(
    r: &mut Report,
    what: &str,
    mut m: Model,
    (x, y): (&Tensor, &Tensor),
    task: &Task,
    lr: f64,
    then: impl FnOnce(&mut Report, &mut Learner),
) {
    r.case();
    m.freeze_to(0, true);
    let valid = (x.narrow(0, 0, 2), y.narrow(0, 0, 2));
    let dls = loaders((x, y), (&valid.0, &valid.1), 2, task);
    let mut learn = Learner::new(dls, m, CrossEntropy::new().axis(1)).unwrap().quiet();
    match learn.fit(1, Lr::from(lr)) {
        Ok(_) => then(r, &mut learn),
        Err(e) => r.fail(format!("{what}: {e}")),
    }
}

/// Returns an encoder of convolutions with stride 2, each with a normalization and a ReLU.
fn encoder(widths: Vec<i64>) -> Arch {
    Arch::new("tiny", move |net, n_in| {
        let mut c_in = n_in;
        for (i, &c_out) in widths.iter().enumerate() {
            net.add(i.to_string(), move |p| {
                let conv =
                    nn::ConvConfig { stride: 2, padding: 1, bias: false, ..Default::default() };
                nn::seq_t()
                    .add(nn::conv2d(p / 0, c_in, c_out, 3, conv))
                    .add(batch_norm2d(&(p / 1), c_out, Default::default()))
                    .add_fn(|x| x.relu())
            });
            c_in = c_out;
        }
    })
}

fn tiny(g: &Golden, r: &mut Report) {
    r.case();
    let about = &g.json["tiny"];
    let widths: Vec<i64> =
        (0..3).map(|i| g.tensor(&format!("tiny.grad.layers.0.{i}.0.weight")).size()[0]).collect();
    let n_out = about["n_out"].as_u64().unwrap() as usize;
    let side = |i: usize| about["img_size"][i].as_u64().unwrap() as u32;
    let options = UnetOptions::new().size_hw(side(0), side(1));
    let spec = ArchSpec::unet(&encoder(widths), 3, n_out, options);
    let mut m = spec.build(Device::Cpu, Seed(1)).unwrap();
    filled(g, "tiny", &mut m);
    let (x, y) = (g.tensor("tiny.x"), g.tensor("tiny.y"));
    let out = tch::no_grad(|| m.forward(&x, false)).unwrap();
    r.tensor("tiny eval", &out, &g.tensor("tiny.eval"), Tol { rtol: 0.0, atol: 2e-5 });
    let out = m.forward(&x.narrow(0, 0, 2), true).unwrap();
    r.tensor("tiny train", &out, &g.tensor("tiny.train"), Tol { rtol: 0.0, atol: 1e-4 });
    let loss = CrossEntropy::new().axis(1).mean(&out, &y.narrow(0, 0, 2)).unwrap();
    r.tensor("tiny loss", &loss, &g.tensor("tiny.loss"), Tol { rtol: 0.0, atol: 1e-4 });
    loss.backward();
    for p in m.params() {
        let theirs = g.tensor(&format!("tiny.grad.{}", fastai_unet_name(&p.name)));
        let tol = Tol { rtol: 0.0, atol: 1e-4 };
        r.tensor(format!("tiny gradient {}", p.name), &p.tensor.grad(), &theirs, tol);
    }
    let mut m = spec.build(Device::Cpu, Seed(1)).unwrap();
    filled(g, "tiny", &mut m);
    let losses = flat(&g.tensor("tiny.adam.losses"));
    two_steps(r, "tiny adam", m, (&x, &y), &codes(n_out), number(&about["lr"]), |r, learn| {
        let raw = learn.recorder().raw_losses.clone();
        r.close("tiny adam losses", &raw, &losses, Tol { rtol: 0.0, atol: 1e-4 });
        for (name, own) in learn.training().model.state_dict() {
            let theirs = g.tensor(&format!("tiny.adam.final.{}", fastai_unet_name(&name)));
            let tol = Tol { rtol: 0.0, atol: 1e-3 };
            r.tensor(format!("tiny adam {name}"), &own, &theirs, tol);
        }
    });
}

/// Returns the position of the first variable of a new decoder.
fn initial(g: &Golden, r: &mut Report) {
    let case = &g.cases("models")[0];
    r.case();
    let n_out = case["n_out"].as_u64().unwrap() as usize;
    let m =
        ArchSpec::unet(&arch(case), 3, n_out, options(case)).build(Device::Cpu, Seed(3)).unwrap();
    let state = m.state_dict();
    for (name, theirs) in case["init"].as_object().unwrap() {
        let own = &state.iter().find(|(n, _)| n == name).unwrap().1;
        let std = |t: &Tensor| t.to_kind(Kind::Double).std(false).double_value(&[]);
        let n = own.numel() as f64;
        let (ours, wanted) = (std(own), number(&theirs["std"]));
        // The standard deviation of n draws has a relative error of about 1/√(2n); a repeated filter
        // counts once.
        let free = if theirs["icnr_4_consecutive_filters_equal"] == true { n / 4.0 } else { n };
        let off = (ours - wanted).abs() <= wanted * 8.0 / (2.0 * free).sqrt();
        r.holds(format!("init {name}: {ours} instead of {wanted}"), off);
        let mean = own.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        let near = (mean - number(&theirs["mean"])).abs() <= 8.0 * wanted / free.sqrt() + 1e-9;
        r.holds(format!("init {name}: mean {mean}"), near);
    }
}

/// Sets the variables of a store to the formula's weights.
fn fill_store(g: &Golden, key: &str, vars: &nn::VarStore) {
    let all: std::collections::BTreeMap<String, Tensor> = vars.variables().into_iter().collect();
    let mut names: Vec<String> = all.keys().cloned().collect();
    let counters: Vec<String> = names
        .iter()
        .filter_map(|n| Some(format!("{}.num_batches_tracked", n.strip_suffix(".running_mean")?)))
        .collect();
    names.extend(counters);
    names.sort();
    tch::no_grad(|| {
        for (name, tensor) in &all {
            let k = names.binary_search(name).unwrap();
            tensor.shallow_clone().copy_(&formula(name, &tensor.size(), k, salt(g)));
        }
    });
    attention(g, key, &all.into_iter().collect::<Vec<_>>());
}

fn parts(g: &Golden, r: &mut Report) {
    let tol = Tol { rtol: 1e-5, atol: 1e-5 };
    for case in g.json["icnr"]["cases"].as_array().unwrap() {
        r.case();
        let key = text(&case["key"]);
        let shape: Vec<i64> =
            case["shape"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
        let scale = case["scale"].as_i64().unwrap();
        tch::manual_seed(case["torch_seed"].as_i64().unwrap());
        let ours = icnr(&shape.try_into().unwrap(), scale);
        if case.get("raises").is_some() {
            r.exact(format!("{key} is an error"), &ours.is_err(), &true);
            continue;
        }
        let theirs = g.tensor(&format!("{key}.expected"));
        r.tensor(key, &ours.unwrap(), &theirs, Tol { rtol: 1e-6, atol: 1e-6 });
    }
    for case in g.json["pixel_shuffle_icnr"]["cases"].as_array().unwrap() {
        r.case();
        let (key, kwargs) = (text(&case["key"]), &case["kwargs"]);
        if kwargs.get("scale").is_some_and(|scale| *scale != 2) {
            r.differs(key, "there is no other scale than 2: fastai's initialization assumes it");
            continue;
        }
        let (ni, nf) = (case["ni"].as_i64().unwrap(), case["nf"].as_i64());
        let vars = nn::VarStore::new(Device::Cpu);
        // Without the argument, it uses weight normalization.
        let norm = match kwargs.get("norm_type") {
            None => ConvNormKind::Weight,
            Some(v) => norm(v),
        };
        let act = kwargs.get("act_cls").is_none().then_some(finetune::model::Activation::Relu);
        let blur = kwargs["blur"] == true;
        let layer = PixelShuffleIcnr::with(&vars.root(), ni, nf.unwrap_or(ni), blur, norm, act);
        fill_store(g, key, &vars);
        let out = tch::no_grad(|| layer.forward_t(&g.tensor(&format!("{key}.input")), false));
        r.tensor(key, &out, &g.tensor(&format!("{key}.expected")), tol);
    }
    for case in g.cases("unet_block") {
        r.case();
        let (key, kwargs) = (text(&case["key"]), &case["kwargs"]);
        let vars = nn::VarStore::new(Device::Cpu);
        let sides = (case["up_in_c"].as_i64().unwrap(), case["x_in_c"].as_i64().unwrap());
        let options = UnetOptions::new().norm(norm(&kwargs["norm_type"]));
        let last = kwargs["final_div"] == false;
        let (blur, attends) = (kwargs["blur"] == true, kwargs["self_attention"] == true);
        let block = UnetBlock::new(&vars.root(), sides, last, blur, attends, &options);
        let ours: BTreeSet<(String, Vec<i64>)> =
            vars.variables().into_iter().map(|(n, t)| (n, t.size())).collect();
        r.exact(format!("{key} names"), &ours, &wanted(case));
        fill_store(g, key, &vars);
        let (up, skip) = (g.tensor(&format!("{key}.up_in")), g.tensor(&format!("{key}.skip")));
        for (train, name) in [(false, "eval"), (true, "train")] {
            let theirs = format!("{key}.{name}");
            if g.has(&theirs) {
                let out = tch::no_grad(|| block.forward(&up, &skip, train));
                r.tensor(&theirs, &out, &g.tensor(&theirs), Tol { rtol: 1e-4, atol: 1e-5 });
            }
        }
    }
    r.case();
    let vars = nn::VarStore::new(Device::Cpu);
    let channels = g.json["self_attention"]["n_channels"].as_i64().unwrap();
    let attention = SelfAttention::new(&vars.root(), channels);
    let gamma = vars.variables()["gamma"].double_value(&[0]);
    r.exact("gamma", &gamma, &number(&g.json["self_attention"]["gamma_at_creation"][0]));
    fill_store(g, "sa", &vars);
    let out = tch::no_grad(|| attention.forward_t(&g.tensor("sa.input"), false));
    r.tensor("self-attention", &out, &g.tensor("sa.expected"), tol);
}
