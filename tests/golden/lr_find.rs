//! The learning rate sweep, and the suggestions for given curves.

use crate::{
    frame::{Golden, Report, Tol, flat, number},
    tiny::{Watch, cross_entropy},
};
use finetune::{
    Result,
    learner::{Learner, LrCurve, LrFinder},
    optim::{Optimizer, Sgd},
};
use serde_json::Value;

const SAME: Tol = Tol { rtol: 1e-6, atol: 0.0 };

pub(crate) fn check(g: &Golden, r: &mut Report) {
    for case in g.cases("runs") {
        r.case();
        run(g, r, case);
    }
    let curve = |name: &str| {
        let of = |what: &str| flat(&g.tensor(&format!("synthetic.{name}.{what}")));
        LrCurve::new(of("lrs"), of("losses")).unwrap()
    };
    for case in g.cases("synthetic") {
        r.case();
        let name = case["name"].as_str().unwrap();
        suggestions(r, name, &curve(name), |what| case[what].clone());
    }
    for case in g.cases("slide_params") {
        r.case();
        let arg = |name: &str, default: f64| case["kwargs"].get(name).map_or(default, number);
        let found = curve(case["curve"].as_str().unwrap());
        let lr = found.slide_with(
            arg("lr_diff", 15.0) as usize,
            arg("thresh", 0.005),
            arg("adjust_value", 1.0),
        );
        r.close(
            format!("slide {}", case["kwargs"]),
            &[lr.unwrap()],
            &[number(&case["suggestion"])],
            SAME,
        );
    }
    for case in g.cases("post") {
        r.case();
        let name = case["name"].as_str().unwrap();
        let recorded = |what: &str| flat(&g.tensor(&format!("post.{name}.{what}")));
        let steps = case["num_it"].as_u64().unwrap() as usize;
        let found = LrCurve::trimmed(&recorded("lrs"), &recorded("losses"), steps);
        suggestions(r, name, &found, |what| case[what].clone());
    }
}

/// Returns the suggestion with fastai's name.
type Suggestion = (&'static str, fn(&LrCurve) -> Result<f64>);

const ALL: [Suggestion; 4] = [
    ("valley", LrCurve::valley),
    ("slide", LrCurve::slide),
    ("minimum", LrCurve::minimum),
    ("steep", LrCurve::steep),
];

fn suggestions(r: &mut Report, name: &str, found: &LrCurve, theirs: impl Fn(&str) -> Value) {
    for (what, suggest) in ALL {
        let theirs = theirs(what);
        let ours = suggest(found);
        if theirs.get("raises").is_some() {
            r.holds(format!("{name}.{what} is an error"), ours.is_err());
            continue;
        }
        let theirs = theirs.get("suggestion").unwrap_or(&theirs);
        match ours {
            Ok(lr) => r.close(format!("{name}.{what}"), &[lr], &[number(theirs)], SAME),
            Err(e) => r.fail(format!("{name}.{what}: {e}")),
        }
    }
}

fn run(g: &Golden, r: &mut Report, case: &Value) {
    let key = case["key"].as_str().unwrap();
    let arg = |name: &str| case["kwargs"].get(name).map(number);
    let mut sweep = LrFinder::new();
    if let Some(lr) = arg("start_lr") {
        sweep = sweep.start_lr(lr);
    }
    if let Some(lr) = arg("end_lr") {
        sweep = sweep.end_lr(lr);
    }
    if let Some(steps) = arg("num_it") {
        // fastai uses 6 for fewer points, which is an error here.
        sweep = sweep.steps((steps as usize).max(6));
    }
    sweep = sweep.stop_diverging(case["kwargs"]["stop_div"] != Value::Bool(false));
    let watch = Watch::new(false);
    let mut learn = cross_entropy(g);
    match case["name"].as_str().unwrap() {
        "sgd" => {
            learn = learn.opt_func(|p| Optimizer::new(p, Sgd::new().mom(0.9))).unwrap();
        }
        "frozen" => learn.freeze(),
        "after_fit" => learn.fit_one_cycle(1, 1e-2).unwrap(),
        _ => {}
    }
    let mut learn = learn.callback(watch.clone());
    let before = weights(&learn);
    let found = learn.lr_find_with(sweep).unwrap();
    r.exact(format!("{key}.weights"), &weights(&learn), &before);
    r.holds(format!("{key}: the history is kept"), learn.recorder().lrs.len() != found.lrs.len());

    let seen = watch.0.lock().unwrap();
    let lrs = flat(&g.tensor(&format!("{key}.lr")));
    let groups = lrs.len() / seen.done.len().max(1);
    let ours: Vec<f64> = seen.lr.clone();
    r.exact(format!("{key}.steps"), &(ours.len() / groups.max(1)), &(lrs.len() / groups.max(1)));
    let exact = Tol { rtol: 1e-12, atol: 0.0 };
    r.close(format!("{key}.lr"), &ours, &lrs, exact);
    let mom = Tol { rtol: 5e-6, atol: 1e-6 };
    r.close(format!("{key}.mom"), &seen.mom, &flat(&g.tensor(&format!("{key}.mom"))), mom);
    // While the rate is small, the losses agree; later the training may be chaotic.
    let recorded = flat(&g.tensor(&format!("{key}.lrs")));
    let calm = recorded.iter().take_while(|lr| **lr < 1e-2).count();
    let losses = flat(&g.tensor(&format!("{key}.losses")));
    let near = Tol { rtol: 0.0, atol: 1e-4 };
    let n = calm.min(seen.smooth_loss.len());
    r.close(format!("{key}.losses"), &seen.smooth_loss[..n], &losses[..n], near);
    // The curve that fastai recorded, with fastai's trimming and suggestions.
    let steps = arg("num_it").unwrap_or(100.0) as usize;
    let theirs = LrCurve::trimmed(&recorded, &losses, steps);
    if case.get("raises").is_none() {
        suggestions(r, key, &theirs, |what| case["suggestions"][what].clone());
    }
}

fn weights(learn: &Learner) -> Vec<(String, Vec<f64>)> {
    learn.model().state_dict().into_iter().map(|(n, w)| (n, flat(&w))).collect()
}
