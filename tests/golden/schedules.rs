use crate::{
    frame::{Golden, Report, Tol, flat, number, numbers},
    tiny::{Watch, classes, loaders, tiny},
};
use finetune::{
    learner::{Defaults, FineTune, Flat, FlatCos, Learner, OneCycle, ParamScheduler, Sgdr},
    loss::CrossEntropy,
    optim::{Anneal, Hyper, Hypers, Lr, Optimizer, Schedule, Sgd},
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

pub(crate) fn check(g: &Golden, r: &mut Report) {
    single(g, r);
    combined(g, r);
    for case in g.cases("even_mults") {
        r.case();
        let n = case["n"].as_u64().unwrap() as usize;
        let ours = Lr::from(number(&case["start"])..=number(&case["stop"])).for_groups(n).unwrap();
        let theirs = match &case["value"] {
            Value::Array(_) => numbers(&case["value"]),
            one => vec![number(one)],
        };
        r.close("even_mults", &ours, &theirs, Tol { rtol: 1e-9, atol: 0.0 });
    }
    fits(g, r);
}

fn anneal(case: &Value) -> Anneal {
    match case["fn"].as_str().unwrap() {
        "SchedLin" => Anneal::Linear,
        "SchedCos" => Anneal::Cos,
        "SchedNo" => Anneal::Const,
        "SchedExp" => Anneal::Exp,
        "SchedPoly" => Anneal::Poly(number(&case["power"])),
        other => panic!("no schedule {other}"),
    }
}

/// Parses an annealing such as `cos .3->.6`.
fn way(text: &Value) -> (Anneal, f64, f64) {
    let text = text.as_str().unwrap();
    let (name, ends) = text.split_once(' ').unwrap();
    let (a, b) = ends.split_once("->").unwrap();
    let anneal = match name {
        "lin" => Anneal::Linear,
        "cos" => Anneal::Cos,
        "no" => Anneal::Const,
        "exp" => Anneal::Exp,
        other => panic!("no schedule {other}"),
    };
    (anneal, a.parse().unwrap(), b.parse().unwrap())
}

fn single(g: &Golden, r: &mut Report) {
    let at = flat(&g.tensor("pos"));
    for case in g.cases("scheds") {
        r.case();
        let (a, b) = (number(&case["start"]), number(&case["end"]));
        let way = anneal(case);
        let ours: Vec<f64> = at.iter().map(|p| way.at(a, b, *p)).collect();
        let key = case["key"].as_str().unwrap();
        r.close(key, &ours, &flat(&g.tensor(key)), Tol { rtol: 1e-12, atol: 1e-15 });
    }
}

fn combined(g: &Golden, r: &mut Report) {
    let at = flat(&g.tensor("grid"));
    for case in g.cases("combined") {
        let key = case["key"].as_str().unwrap();
        r.case();
        let schedule = match case.get("middle") {
            Some(middle) => {
                let (a, c) = (number(&case["start"]), number(&case["end"]));
                Schedule::cos_cos(number(&case["pct"]), a, number(middle), c)
            }
            None => {
                let parts = numbers(&case["pcts"]).into_iter();
                let ways = case["scheds"].as_array().unwrap().iter().map(way);
                Schedule::combine(parts.zip(ways).map(|(p, (w, a, b))| (p, w, a, b)).collect())
                    .unwrap()
            }
        };
        let ours: Vec<f64> = at.iter().map(|p| schedule.at(*p)).collect();
        let scale = flat(&g.tensor(key)).into_iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let theirs = flat(&g.tensor(key));
        // The end of an empty last part is NaN in fastai; here it is its end value.
        let numbers = theirs.iter().take_while(|v| !v.is_nan()).count();
        if numbers < theirs.len() {
            r.differs(key, "the end of an empty last part is its end value, not NaN");
            r.holds(
                format!("{key} ends in a number"),
                ours[numbers..].iter().all(|v| v.is_finite()),
            );
        }
        let tol = Tol { rtol: 5e-6, atol: 1e-6 * scale };
        r.close(key, &ours[..numbers], &theirs[..numbers], tol);
    }
}

/// Compares hyperparameters at every step of complete fits.
fn fits(g: &Golden, r: &mut Report) {
    for case in g.cases("fits") {
        r.case();
        let key = case["key"].as_str().unwrap();
        let watch = Watch::new(false);
        let mut learn = fit_learner(case, n_iter(g)).callback(watch.clone());
        let done = run_fit(&mut learn, case);
        if case.get("raises").is_some() {
            r.holds(format!("{key} is an error"), done.is_err());
            continue;
        }
        done.unwrap();
        let seen = watch.0.lock().unwrap();
        let theirs = |name: &str| flat(&g.tensor(&format!("{key}.{name}")));
        if case["name"] == "fit_flat_cos" && case["desc"]["start_epoch"].is_u64() {
            let start = case["desc"]["start_epoch"].as_u64().unwrap() as usize;
            let skipped = start * case["n_iter"].as_u64().unwrap() as usize;
            let rates = theirs("lr");
            let groups = rates.len() / case["steps"].as_u64().unwrap() as usize;
            let lr_max = rates.iter().copied().fold(0.0, f64::max);
            let tol = Tol { rtol: 5e-6, atol: 1e-6 * lr_max };
            r.close(format!("{key}.lr"), &seen.lr, &rates[skipped * groups..], tol);
            r.differs(key, "fit_flat_cos begins at `start_epoch`; fastai ignores it");
            continue;
        }
        let lr_max = theirs("lr").into_iter().fold(0.0, f64::max);
        let tol = |scale: f64| Tol { rtol: 5e-6, atol: 1e-6 * scale };
        r.close(format!("{key}.lr"), &seen.lr, &theirs("lr"), tol(lr_max));
        r.close(format!("{key}.pct_train"), &seen.done, &theirs("pct_train"), tol(1.0));
        for (name, ours) in
            [("mom", &seen.mom), ("wd", &seen.wd), ("eps", &seen.eps), ("sqr_mom", &seen.sqr_mom)]
        {
            if g.has(&format!("{key}.{name}")) {
                r.close(format!("{key}.{name}"), ours, &theirs(name), tol(1.0));
            }
        }
        let recorded = &learn.recorder().lrs;
        r.close(format!("{key}.recorder_lrs"), recorded, &theirs("recorder_lrs"), tol(lr_max));
        let after = case["hypers_after"].as_array().unwrap();
        for (name, of) in HYPERS {
            let theirs: Vec<f64> = after.iter().filter_map(|h| h.get(name).map(number)).collect();
            let ours: Vec<f64> = learn.training_mut().opt.hypers().iter().map(of).collect();
            if !theirs.is_empty() {
                let scale = if name == "lr" { lr_max } else { 1.0 };
                r.close(format!("{key}.{name} after"), &ours, &theirs, tol(scale));
            }
        }
    }
}

/// Returns a hyperparameter by fastai's name.
type Named = (&'static str, fn(&Hypers) -> f64);

const HYPERS: [Named; 5] = [
    ("lr", |h| h.lr),
    ("mom", |h| h.mom),
    ("wd", |h| h.wd),
    ("eps", |h| h.eps),
    ("sqr_mom", |h| h.sqr_mom),
];

/// Returns the number of training batches of an epoch.
fn n_iter(g: &Golden) -> i64 {
    g.cases("fits").iter().find_map(|c| c["n_iter"].as_i64()).unwrap()
}

/// Creates the tiny network on noise: only the hyperparameters matter here.
fn fit_learner(case: &Value, n_iter: i64) -> Learner {
    let noise = |n: i64| Tensor::arange(n * 3 * 8 * 8, (Kind::Float, Device::Cpu)).sin();
    let x = |n: i64| noise(n).view([n, 3, 8, 8]);
    let y = |n: i64| Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(2);
    let n = 2 * n_iter;
    let dls = loaders((&x(n), &y(n)), (&x(2), &y(2)), 2, &classes(2));
    let mut learn = Learner::new(dls, tiny(2, 0), CrossEntropy::new()).unwrap().quiet();
    if case["learner"]["opt_func"] == "SGD" {
        learn = learn.opt_func(|p| Optimizer::new(p, Sgd::new())).unwrap();
    }
    let of = &case["learner"];
    let mut defaults = Defaults::default();
    if let Some(lr) = of.get("lr") {
        defaults.lr = number(lr).into();
    }
    if let Some(moms) = of.get("moms") {
        let m = numbers(moms);
        defaults.moms = (m[0], m[1], m[2]);
    }
    defaults.wd = of.get("wd").map(number);
    learn.defaults(defaults)
}

/// Converts a rate of a golden file: a number, a list, or a slice.
fn rate(v: &Value) -> Lr {
    if let Some(slice) = v.get("slice") {
        return match (&slice[0], &slice[1]) {
            (Value::Null, stop) => (..=number(stop)).into(),
            (start, stop) => (number(start)..=number(stop)).into(),
        };
    }
    if v.is_array() { numbers(v).into() } else { number(v).into() }
}

fn run_fit(learn: &mut Learner, case: &Value) -> finetune::Result<()> {
    let d = &case["desc"];
    let arg = |name: &str| d.get(name).filter(|v| !v.is_null());
    let num = |name: &str| arg(name).map(number);
    let count = |name: &str| num(name).unwrap_or(0.0) as usize;
    let moms = arg("moms").map(numbers);
    macro_rules! set {
        ($policy:ident, $($name:literal => $method:ident),*) => {
            $(if let Some(v) = num($name) { $policy = $policy.$method(v); })*
        };
    }
    match case["name"].as_str().unwrap() {
        "fit_one_cycle" | "fit_sgd" => {
            let epochs = if arg("n_epoch").is_some() { count("n_epoch") } else { 1 };
            let mut p = OneCycle::new(epochs).start_epoch(count("start_epoch"));
            set!(p, "div" => div, "div_final" => div_final, "pct_start" => pct_start, "wd" => wd);
            if let Some(lr) = arg("lr_max") {
                p = p.lr(rate(lr));
            }
            if let Some(m) = moms {
                p = p.moms(m[0], m[1], m[2]);
            }
            learn.fit_with(&p, &mut [])
        }
        "fit_flat_cos" => {
            let mut p = FlatCos::new(count("n_epoch")).start_epoch(count("start_epoch"));
            set!(p, "div_final" => div_final, "pct_start" => pct_start);
            learn.fit_with(&p.lr(rate(&d["lr"])), &mut [])
        }
        "fit_sgdr" => {
            let p = Sgdr::new(count("n_cycles"), count("cycle_len"));
            let p = p.cycle_mult(count("cycle_mult")).lr(rate(&d["lr_max"]));
            learn.fit_with(&p, &mut [])
        }
        "fit" => {
            let mut p = Flat::new(count("n_epoch"));
            set!(p, "wd" => wd);
            if let Some(lr) = arg("lr") {
                p = p.lr(rate(lr));
            }
            learn.fit_with(&p, &mut [])
        }
        "fine_tune" => {
            let mut p = FineTune::new(count("epochs"));
            set!(p, "base_lr" => base_lr, "lr_mult" => lr_mult, "pct_start" => pct_start,
                 "div" => div, "wd" => wd);
            if arg("freeze_epochs").is_some() {
                p = p.freeze_epochs(count("freeze_epochs"));
            }
            if let Some(m) = moms {
                p = p.moms(m[0], m[1], m[2]);
            }
            learn.fine_tune(p)
        }
        "fit_then" => {
            let lm = num("lm").unwrap();
            d["sequence"].as_array().unwrap().iter().try_for_each(|text| {
                match text.as_str().unwrap() {
                    "fit_one_cycle(1, lm)" => learn.fit_one_cycle(1, lm),
                    "fit(1, lm)" => learn.fit(1, lm),
                    "fit(1, lm, wd=.5)" => learn.fit_with(&Flat::new(1).lr(lm).wd(0.5), &mut []),
                    "fit(1, lm, reset_opt=True)" => {
                        learn.fit_with(&Flat::new(1).lr(lm).reset_opt(true), &mut [])
                    }
                    "fit_flat_cos(1, lm)" => learn.fit_flat_cos(1, lm),
                    other => panic!("no step {other}"),
                }
            })
        }
        "freeze_one_cycle_unfreeze" => {
            learn.freeze();
            learn.fit_one_cycle(1, ..=num("lm").unwrap())?;
            learn.unfreeze();
            learn.fit_one_cycle(1, num("a").unwrap()..=num("b").unwrap())
        }
        "ParamScheduler" => {
            let text = d["lr"].as_str().unwrap();
            let ends: Vec<f64> =
                text.trim_start_matches("lin ").split(" -> ").map(|n| n.parse().unwrap()).collect();
            let each = |anneal, a, b| vec![Schedule::single(anneal, a, b); 3];
            let mut scheduler = ParamScheduler::new(vec![
                (Hyper::Lr, each(Anneal::Linear, ends[0], ends[1])),
                (Hyper::Wd, each(Anneal::Linear, 0.0, 0.1)),
                (Hyper::Mom, each(Anneal::Cos, 0.9, 0.5)),
            ]);
            learn.fit_with(&Flat::new(count("n_epoch")).lr(ends[0]), &mut [&mut scheduler])
        }
        other => panic!("no fit {other}"),
    }
}
