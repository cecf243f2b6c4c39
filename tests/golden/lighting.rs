//! Batch transforms that change colors, with the draws that fastai made.

use crate::{
    affine::{by_kernel, plan},
    frame::{Golden, Report, Tol, flat, number, numbers},
    replay::Replay,
};
use finetune::{
    sample::Split,
    transform::{
        BatchTransform, Brightness, Contrast, Erased, Hue, Noise, Normalize, Plan, RandomErasing,
        Saturation,
    },
};
use serde_json::Value;
use std::sync::Arc;
use tch::{Kind, Tensor};

const COLORS: Tol = Tol { rtol: 0.0, atol: 2e-6 };
const HUES: Tol = Tol { rtol: 0.0, atol: 1e-5 };
const NORMALIZED: Tol = Tol { rtol: 0.0, atol: 1e-5 };
const EXACT: Tol = Tol { rtol: 0.0, atol: 0.0 };

pub(crate) fn check(golden: &Golden, report: &mut Report) {
    let x = golden.tensor("input");
    for case in golden.cases("cases") {
        report.case();
        let kind = case["kind"].as_str().unwrap();
        let key = case["key"].as_str().unwrap();
        let theirs = golden.tensor(&format!("{key}.expected"));
        let split = if case["split_idx"] == 1 { Split::Valid } else { Split::Train };
        let plan = plan(&transforms(golden, case), &x, split);
        let tol = if kind == "Hue" { HUES } else { COLORS };
        both(report, &format!("{key} {kind}"), &plan, &x, &theirs, tol);
    }
    int_to_float(golden, report);
    normalize(golden, report, &x);
    for case in golden.cases("erase") {
        report.case();
        erase(golden, report, case);
    }
}

fn both(report: &mut Report, what: &str, plan: &Plan, x: &Tensor, theirs: &Tensor, tol: Tol) {
    report.tensor(format!("{what} kernel"), &by_kernel(plan, x), theirs, tol);
    report.tensor(format!("{what} tensor"), &plan.execute_tensor(x).unwrap(), theirs, tol);
}

/// Returns the transforms of a case with fastai's draws.
fn transforms(golden: &Golden, case: &Value) -> Vec<Arc<dyn BatchTransform>> {
    let key = case["key"].as_str().unwrap();
    let drawn = |name: &str| {
        let name = format!("{key}.draw.{name}");
        // Validation must not draw.
        if golden.has(&name) { flat(&golden.tensor(&name)) } else { vec![0.9; 64] }
    };
    let order: Vec<&str> = match case["params"]["order"].as_array() {
        Some(order) => order.iter().map(|o| o.as_str().unwrap()).collect(),
        None => vec![case["kind"].as_str().unwrap()],
    };
    let one = |name: &str| -> Arc<dyn BatchTransform> {
        match name {
            "Brightness" => Arc::new(Brightness::new(0.2).p(1.0).draw(drawn("brightness"))),
            "Contrast" => Arc::new(Contrast::new(0.2).p(1.0).draw(drawn("contrast"))),
            "Saturation" => Arc::new(Saturation::new(0.2).p(1.0).draw(drawn("saturation"))),
            "Hue" => Arc::new(Hue::new(0.1).p(1.0).draw(drawn("hue"))),
            other => panic!("no transform `{other}`"),
        }
    };
    order.into_iter().map(one).collect()
}

fn int_to_float(golden: &Golden, report: &mut Report) {
    report.case();
    let bytes = golden.tensor("int2float.input");
    let theirs = golden.tensor("int2float.expected");
    let bytes = bytes.permute([0, 2, 3, 1]).contiguous();
    let (n, h, w, c) = bytes.size4().unwrap();
    let plan = Plan::new(n as usize, (w as u32, h as u32), c as u8);
    let pixels = Vec::<u8>::try_from(&bytes.view([-1])).unwrap();
    let ours = Tensor::from_slice(&plan.execute(&pixels, false).unwrap()).view([n, h, w, c]);
    let ulp = Tol { rtol: 1.2e-7, atol: 0.0 };
    report.tensor("int2float kernel", &ours.permute([0, 3, 1, 2]), &theirs, ulp);
    report.tensor("int2float tensor", &plan.execute_tensor(&bytes).unwrap(), &theirs, ulp);
}

fn normalize(golden: &Golden, report: &mut Report, x: &Tensor) {
    report.case();
    let stats = &golden.json["normalize"]["imagenet_stats"];
    let floats = |v: &Value| numbers(v).into_iter().map(|v| v as f32).collect::<Vec<_>>();
    let imagenet = Normalize::imagenet();
    report.exact("imagenet mean", imagenet.mean(), &floats(&stats[0])[..]);
    report.exact("imagenet std", imagenet.std(), &floats(&stats[1])[..]);
    let tfm: Arc<dyn BatchTransform> = Arc::new(imagenet.clone());
    let plan_of = |tfm| plan(&[tfm], x, Split::Valid);
    let theirs = golden.tensor("normalize.imagenet");
    both(report, "normalize", &plan_of(tfm), x, &theirs, COLORS);
    let undone = golden.tensor("normalize.imagenet_decode");
    report.tensor("normalize undone", &imagenet.undo(&theirs).unwrap(), &undone, COLORS);

    report.case();
    let fitted = Normalize::fit(x).unwrap();
    let ours = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let theirs = |name: &str| flat(&golden.tensor(&format!("normalize.fit.{name}")));
    report.close("fitted mean", &ours(fitted.mean()), &theirs("mean"), COLORS);
    report.close("fitted std", &ours(fitted.std()), &theirs("std"), COLORS);
    let expected = golden.tensor("normalize.fit.expected");
    both(report, "fitted", &plan_of(Arc::new(fitted)), x, &expected, NORMALIZED);

    report.case();
    let halved = plan_of(Arc::new(imagenet.clone())).execute_tensor(x).unwrap() * 0.5 + 0.1;
    let theirs = golden.tensor("norm_apply_denorm.half_plus_tenth");
    report.tensor(
        "half and a tenth",
        &imagenet.undo(&halved).unwrap().clamp(0.0, 1.0),
        &theirs,
        COLORS,
    );
}

fn erase(golden: &Golden, report: &mut Report, case: &Value) {
    let key = case["key"].as_str().unwrap();
    let x = golden.tensor(case["input"].as_str().unwrap());
    let (n, c, h, w) = x.size4().unwrap();
    let mut tfm = RandomErasing::new();
    for (name, value) in case["params"].as_object().unwrap() {
        tfm = match name.as_str() {
            "p" => tfm.p(number(value)),
            "sl" => tfm.sl(number(value)),
            "sh" => tfm.sh(number(value)),
            "min_aspect" => tfm.min_aspect(number(value)),
            "max_count" => tfm.max_count(value.as_u64().unwrap() as u32),
            other => panic!("option {other}"),
        };
    }
    let mut replay = Replay::new(&case["raw_draws"]);
    let areas = tfm.areas((w as u32, h as u32), &mut replay);
    for wrong in replay.wrong() {
        report.fail(format!("{key} draws: {wrong}"));
    }
    let ours: Vec<Vec<f64>> = areas
        .iter()
        .map(|(r, c)| [r.start, r.end, c.start, c.end].map(f64::from).to_vec())
        .collect();
    let theirs: Vec<Vec<f64>> = case["areas"].as_array().unwrap().iter().map(numbers).collect();
    report.exact(format!("{key} areas"), &ours, &theirs);
    report.exact(format!("{key} done"), &!areas.is_empty(), &case["did"].as_bool().unwrap());
    // fastai's noise as torch drew it: `[images, channels, rows, columns]` for each area.
    let draws = case["raw_draws"].as_array().unwrap();
    let noise = draws.iter().filter(|d| d["fn"] == "tensor.normal_");
    let mut plan = Plan::new(n as usize, (w as u32, h as u32), c as u8);
    for ((rows, columns), noise) in areas.into_iter().zip(noise) {
        let noise = golden.tensor(noise["tensor"].as_str().unwrap()).to_kind(Kind::Float);
        let noise = Vec::<f32>::try_from(&noise.contiguous().view([-1])).unwrap();
        plan.erase(Erased { rows, columns, noise: Noise::Values(noise) });
    }
    let theirs = golden.tensor(&format!("{key}.expected"));
    both(report, key, &plan, &x, &theirs, EXACT);
}
