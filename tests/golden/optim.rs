//! Twelve steps of every optimizer on the same gradients.
use crate::frame::{Golden, Report, Tol, flat, number, numbers};
use finetune::{
    Result,
    model::{Model, Param, ParamKind},
    optim::{Adam, Hyper, Lamb, Larc, Lr, Optimizer, QhAdam, RAdam, RmsProp, Rule, Sgd, ranger},
};
use serde_json::Value;
use std::collections::BTreeMap;
use tch::{
    Device, Kind, Tensor,
    nn::{Init, VarStore},
};

const EXACTLY: Tol = Tol { rtol: 2e-6, atol: 2e-7 };
/// For optimizers that compute norms.
const NORMS: Tol = Tol { rtol: 1e-5, atol: 2e-7 };

pub(crate) fn check(golden: &Golden, report: &mut Report) {
    for case in golden.cases("cases") {
        report.case();
        let opt = text(&case["opt"]);
        let ours = run(golden, case, None);
        let tol = if ["Lamb", "Larc"].contains(&opt) { NORMS } else { EXACTLY };
        if opt == "RMSProp" && case["params"].get("eps").is_some() {
            // fastai ignores `eps` and divides by 1e-8. With that value, the results are equal.
            let as_fastai = run(golden, case, Some(1e-8));
            compare(golden, case, &as_fastai, tol, report);
            let name = format!("{} {opt}{}", text(&case["key"]), case["params"]);
            rms_prop_in_doubles(golden, case, &ours, &name, report);
            report.differs(name, "`eps` has an effect; with 1e-8 the steps are fastai's");
        } else {
            compare(golden, case, &ours, tol, report);
        }
        hypers(case, report);
    }
    learning_rates(golden, report);
    freezing(golden, report);
    clearing(golden, report);
    defaults(golden, report);
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_else(|| panic!("{v} is not a string"))
}

/// Returns the parameters under fastai's names, `p0_1`. Parameters without decay in fastai are biases
/// here.
fn params(golden: &Golden) -> Vec<Param> {
    let no_decay: Vec<&str> = golden.cases("do_wd_false").iter().map(text).collect();
    let mut all = vec![];
    for (group, shapes) in golden.cases("groups").iter().enumerate() {
        for j in 0..shapes.as_array().unwrap().len() {
            let name = format!("p{group}_{j}");
            let tensor = golden.tensor(&format!("{name}.init")).copy().set_requires_grad(true);
            let decays = !no_decay.contains(&name.as_str());
            let kind = if decays { ParamKind::Weight } else { ParamKind::Bias };
            all.push(Param { name, tensor, group, kind });
        }
    }
    all
}

/// Creates the optimizer for fastai's name and arguments.
fn optimizer(name: &str, args: &Value, all: &[Param], eps: Option<f64>) -> Result<Optimizer> {
    let given = |key: &str| args.get(key).and_then(Value::as_f64);
    let flag = |key: &str| args.get(key).and_then(Value::as_bool);
    macro_rules! rule {
        ($new:expr; $($key:ident)*; $($flag:ident)*) => {{
            let mut rule = $new;
            $(if let Some(v) = given(stringify!($key)) { rule = rule.$key(v); })*
            $(if let Some(v) = flag(stringify!($flag)) { rule = rule.$flag(v); })*
            rule
        }};
    }
    match name {
        "SGD" => Optimizer::new(all, rule!(Sgd::new(); mom wd; decouple_wd)),
        "Adam" => Optimizer::new(all, rule!(Adam::new(); mom sqr_mom eps wd; decouple_wd)),
        "RMSProp" => {
            let rule = rule!(RmsProp::new(); mom sqr_mom eps wd; decouple_wd);
            Optimizer::new(all, eps.map_or(rule.clone(), |eps| rule.eps(eps)))
        }
        "RAdam" => Optimizer::new(all, rule!(RAdam::new(); mom sqr_mom eps wd beta; decouple_wd)),
        "QHAdam" => {
            let rule = rule!(QhAdam::new(); mom sqr_mom eps wd nu_1 nu_2; decouple_wd);
            Optimizer::new(all, rule)
        }
        "Larc" => {
            let rule = rule!(Larc::new(); mom eps wd trust_coeff; clip decouple_wd);
            Optimizer::new(all, rule)
        }
        "Lamb" => Optimizer::new(all, rule!(Lamb::new(); mom sqr_mom eps wd; decouple_wd)),
        "ranger" if args.as_object().is_some_and(serde_json::Map::is_empty) => ranger(all),
        "ranger" => {
            let start = RAdam::new().mom(0.95).wd(0.01).eps(1e-6);
            let rule = rule!(start; mom sqr_mom eps wd beta; decouple_wd);
            let k = given("k").unwrap_or(6.0) as usize;
            Optimizer::new(all, rule)?.lookahead(k, given("alpha").unwrap_or(0.5))
        }
        "Lookahead(SGD)" | "Lookahead(Adam)" => {
            // The inner optimizer is text, such as `SGD(mom=.9)`.
            let (inner, rest) = text(&args["inner"]).split_once('(').unwrap();
            let inner_args: serde_json::Map<String, Value> = rest
                .trim_end_matches(')')
                .split(',')
                .filter_map(|arg| arg.split_once('='))
                .map(|(k, v)| (k.trim().to_owned(), format!("0{v}").parse::<f64>().unwrap().into()))
                .collect();
            let inner = optimizer(inner, &inner_args.into(), all, None)?;
            inner.lookahead(given("k").unwrap() as usize, given("alpha").unwrap())
        }
        other => panic!("no optimizer for `{other}`"),
    }
}

/// The results of a run.
struct Run {
    /// The parameters after every step.
    path: BTreeMap<String, Vec<Tensor>>,
    state: BTreeMap<String, Tensor>,
    /// The gradient of `p1_0` after step 1.
    grad: Tensor,
}

/// Runs the steps of the golden file's protocol. Halfway, `state` and `load_state` move the state into a
/// new optimizer, which must not change the result.
fn run(golden: &Golden, case: &Value, eps: Option<f64>) -> Run {
    let all = params(golden);
    let make = || optimizer(text(&case["opt"]), &case["params"], &all, eps).unwrap();
    let mut opt = make();
    let steps = golden.json["steps"].as_u64().unwrap() as usize;
    let row = |name: &str, k: usize| flat(&golden.tensor(name).get(k as i64));
    opt.set(Hyper::Lr, &[row("lr", 0)[0]; 2]).unwrap();
    let mut path: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
    let mut grad = Tensor::new();
    for k in 0..steps {
        if k == steps / 2 {
            let (state, hypers) = (opt.state(), opt.hypers().to_vec());
            opt = make();
            opt.load_state(&state).unwrap();
            opt.set_hypers(&hypers).unwrap();
        }
        if case["scheduled_lr"] == true {
            opt.set(Hyper::Lr, &row("lr", k)).unwrap();
        }
        if case["scheduled_mom"] == true {
            opt.set(Hyper::Mom, &row("mom", k)).unwrap();
        }
        if let Some(change) = case["wd_change"].as_array()
            && change[0] == k
        {
            opt.set(Hyper::Wd, &[number(&change[1]); 2]).unwrap();
        }
        for p in &all {
            let none = golden.json["no_grad_at"].get(&p.name).and_then(Value::as_array);
            if none.is_some_and(|at| at.iter().any(|i| *i == k)) {
                continue;
            }
            let g = golden.tensor(&format!("{}.grads", p.name)).get(k as i64);
            (&p.tensor * g).sum(Kind::Float).backward();
        }
        opt.step().unwrap();
        if k == 1 {
            grad = all.iter().find(|p| p.name == "p1_0").unwrap().tensor.grad().copy();
        }
        opt.zero_grad();
        for p in &all {
            path.entry(p.name.clone()).or_default().push(p.tensor.detach().copy());
        }
    }
    Run { path, state: opt.state().into_iter().collect(), grad }
}

fn compare(golden: &Golden, case: &Value, ours: &Run, tol: Tol, report: &mut Report) {
    let key = text(&case["key"]);
    let name = |what: &str| format!("{key} {}{} {what}", text(&case["opt"]), case["params"]);
    for (p, path) in &ours.path {
        let theirs = golden.tensor(&format!("{key}.{p}"));
        report.tensor(name(p), &Tensor::stack(path, 0), &theirs, tol);
    }
    let grad = golden.tensor(&format!("{key}.grad_p1_0_after_step1"));
    report.tensor(name("gradient after a step"), &ours.grad, &grad, tol);
    let mut counted = 0;
    for (state, theirs) in golden.tensors(&format!("{key}.state.")) {
        // Larc's rate of the last step is not part of the state; the parameters show it.
        if !state.ends_with(".local_lr") {
            counted += 1;
            report.tensor(name(&state), &ours.state[&state], &theirs, tol);
        }
    }
    for (p, theirs) in golden.tensors(&format!("{key}.slow.")) {
        counted += 1;
        report.tensor(name(&p), &ours.state[&format!("{p}.slow")], &theirs, tol);
    }
    for (state, theirs) in case["scalar_state_after"].as_object().unwrap() {
        // `do_wd` corresponds to the kind of a parameter here.
        if state.ends_with(".step") {
            counted += 1;
            let steps = flat(&ours.state[state]);
            report.exact(name(state), &steps, &vec![number(theirs)]);
        }
    }
    let extra = ours.state.keys().filter(|k| *k != "lookahead.count").count();
    report.exact(name("number of states"), &extra, &counted);
}

/// RMSProp with its `eps`, in double precision.
fn rms_prop_in_doubles(golden: &Golden, case: &Value, ours: &Run, name: &str, report: &mut Report) {
    let arg = |key: &str, default: f64| case["params"].get(key).map_or(default, number);
    let decoupled = case["params"].get("decouple_wd").is_none_or(|v| v == true);
    assert!(arg("mom", 0.0) == 0.0 && decoupled, "written down for these alone");
    for p in params(golden) {
        let mut x = flat(&p.tensor);
        let mut squares = vec![0.0; x.len()];
        let none = golden.json["no_grad_at"].get(&p.name).map(numbers).unwrap_or_default();
        for (k, after) in ours.path[&p.name].iter().enumerate() {
            let lr = if case["scheduled_lr"] == true { k } else { 0 };
            let lr = flat(&golden.tensor("lr").get(lr as i64))[p.group];
            let wd = if p.kind == ParamKind::Weight { arg("wd", 0.0) } else { 0.0 };
            let grads = flat(&golden.tensor(&format!("{}.grads", p.name)).get(k as i64));
            if !none.contains(&(k as f64)) {
                let sqr_mom = arg("sqr_mom", 0.99);
                for ((x, s), g) in x.iter_mut().zip(&mut squares).zip(&grads) {
                    *s = sqr_mom * *s + (1.0 - sqr_mom) * g * g;
                    *x = *x * (1.0 - lr * wd) - lr * g / (s.sqrt() + arg("eps", 1e-8));
                }
            }
            report.close(format!("{name} {} in doubles", p.name), &flat(after), &x, NORMS);
        }
    }
}

fn hypers(case: &Value, report: &mut Report) {
    let tensor = Tensor::zeros([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let p = Param { name: "p".into(), tensor, group: 0, kind: ParamKind::Weight };
    let opt = optimizer(text(&case["opt"]), &case["params"], &[p], None).unwrap();
    let heeded = case["opt"] == "RMSProp" && case["params"].get("eps").is_some();
    let name = format!("{} initial", text(&case["key"]));
    initial(&name, &opt, &case["initial_hypers"][0], heeded, report);
}

/// Compares the initial hyperparameters with those of fastai's rule.
fn initial(name: &str, opt: &Optimizer, theirs: &Value, but_eps: bool, report: &mut Report) {
    let h = opt.hypers()[0];
    for (key, ours) in [("mom", h.mom), ("sqr_mom", h.sqr_mom), ("eps", h.eps), ("wd", h.wd)] {
        if let (Some(v), false) = (theirs.get(key), key == "eps" && but_eps) {
            report.exact(format!("{name} {key}"), &ours, &number(v));
        }
    }
}

/// Compares `set_hyper` for a number, a range and a list.
fn learning_rates(golden: &Golden, report: &mut Report) {
    for case in golden.cases("set_hyper") {
        report.case();
        let (value, groups) = (&case["value"], case["groups"].as_u64().unwrap() as usize);
        let lr = match value {
            Value::Number(_) => Lr::from(number(value)),
            Value::Array(_) => Lr::from(numbers(value)),
            slice => {
                let end = number(&slice["slice"][1]);
                slice["slice"][0].as_f64().map_or(Lr::from(..=end), |a| Lr::from(a..=end))
            }
        };
        let name = format!("set_hyper({value}) for {groups}");
        match (lr.for_groups(groups), case["result"].as_array()) {
            (Ok(ours), Some(_)) => {
                let tol = Tol { rtol: 1e-12, atol: 0.0 };
                report.close(name, &ours, &numbers(&case["result"]), tol);
            }
            (Err(e), None) => report.holds(&name, e.to_string().contains(&groups.to_string())),
            (ours, _) => report.fail(format!("{name}: {ours:?}, not {}", case["result"])),
        }
    }
}

/// Compares the trained parameters after `freeze_to`. Parameters with fastai's `force_train` are
/// normalizations here.
fn freezing(golden: &Golden, report: &mut Report) {
    for case in golden.cases("freeze_to") {
        report.case();
        let vars = VarStore::new(Device::Cpu);
        let mut tensors = vec![];
        for group in 0..3 {
            let path = (vars.root() / format!("g{group}")).set_group(group);
            let norm = group == 0 && case["force_train_p0_1"] == true;
            tensors.push(path.var("weight", &[1, 1], Init::Const(0.0)));
            // A parameter with one dimension and the name `weight` is a normalization.
            let path = &path / "last";
            tensors.push(path.var(if norm { "weight" } else { "bias" }, &[1], Init::Const(0.0)));
        }
        let mut model = Model::from_module(vars, tch::nn::func(Tensor::shallow_clone)).unwrap();
        let n = number(&case["n"]);
        // Counted from the end, as `len - n`; beyond the end everything is frozen.
        let first = if n < 0.0 { 3.0 + n } else { n } as usize;
        report.exact(format!("freeze_to({n})"), &(first as f64), &number(&case["frozen_idx"]));
        model.freeze_to(first, true);
        let ours: Vec<bool> = tensors.iter().map(Tensor::requires_grad).collect();
        let theirs = case["requires_grad"].as_array().unwrap().iter();
        let theirs: Vec<bool> = theirs
            .flat_map(|g| g.as_array().unwrap().iter().map(|b| b.as_bool().unwrap()))
            .collect();
        report.exact(format!("freeze_to({n}) {}", case["force_train_p0_1"]), &ours, &theirs);
    }
}

/// Compares `clear_state`, which resets moments and counts, and keeps the kinds of parameters.
fn clearing(golden: &Golden, report: &mut Report) {
    report.case();
    let tensor = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let p = Param { name: "p".into(), tensor, group: 0, kind: ParamKind::Norm };
    let mut opt = Optimizer::new(std::slice::from_ref(&p), Adam::new()).unwrap();
    let step = |opt: &mut Optimizer| {
        p.tensor.sum(Kind::Float).backward();
        opt.step().unwrap();
        opt.zero_grad();
    };
    step(&mut opt);
    let stated = |opt: &Optimizer| -> Vec<String> {
        // `do_wd` and `force_train` correspond to the kind of a parameter here.
        let of = |(n, _): &(String, Tensor)| n.trim_start_matches("p.").to_owned();
        let kind = ["do_wd", "force_train"].map(ToOwned::to_owned);
        let mut all: Vec<String> = opt.state().iter().map(of).chain(kind).collect();
        all.sort();
        all
    };
    let theirs = |key: &str| -> Vec<String> {
        let list = golden.json["clear_state"][key].as_array().unwrap();
        list.iter().map(|v| text(v).to_owned()).collect()
    };
    report.exact("clear_state before", &stated(&opt), &theirs("before"));
    opt.clear_state();
    report.exact("clear_state after", &stated(&opt), &theirs("after"));
    // The parameter still has no decay: the length of a step is the learning rate.
    opt.set(Hyper::Wd, &[100.0]).unwrap();
    let before = p.tensor.detach().copy();
    step(&mut opt);
    let moved = flat(&(before - p.tensor.detach()));
    let lr = opt.hypers()[0].lr;
    report.close("step without decay", &moved, &[lr, lr], Tol { rtol: 1e-3, atol: 0.0 });
}

fn defaults(golden: &Golden, report: &mut Report) {
    let rules = golden.json["defaults"].as_object().unwrap();
    for (name, theirs) in rules {
        report.case();
        let tensor = Tensor::zeros([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let p = Param { name: "p".into(), tensor, group: 0, kind: ParamKind::Weight };
        let none = Value::Object(serde_json::Map::new());
        let opt = optimizer(name, &none, std::slice::from_ref(&p), None).unwrap();
        initial(&format!("{name} default"), &opt, theirs, false, report);
    }
    let shown = |rule: &dyn Rule| format!("{rule:?}");
    let parts = [
        (shown(&Larc::new()), "Larc", "trust_coeff"),
        (shown(&QhAdam::new()), "QHAdam", "nu_1"),
        (shown(&QhAdam::new()), "QHAdam", "nu_2"),
        (shown(&RAdam::new()), "RAdam", "beta"),
    ];
    for (ours, rule, key) in parts {
        let theirs = format!("{key}: {:?}", number(&rules[rule][key]));
        report.holds(format!("{rule} default {theirs}"), ours.contains(&theirs));
    }
}
