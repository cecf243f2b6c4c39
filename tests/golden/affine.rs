//! Batch transforms that move pixels, with the draws that fastai made.

use crate::frame::{Golden, Report, Tol, flat, numbers};
use finetune::{
    image::PadMode,
    sample::Split,
    seed::{Seed, Stream},
    transform::{self, BatchTransform, Dihedral, Flip, Matrix, Mode, Plan, Rotate, Warp, Zoom},
};
use serde_json::Value;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

const MATRIX: Tol = Tol { rtol: 0.0, atol: 1e-6 };
const GRID: Tol = Tol { rtol: 0.0, atol: 2e-6 };
const COEFFICIENTS: Tol = Tol { rtol: 0.0, atol: 1e-5 };
const PIXELS: Tol = Tol { rtol: 0.0, atol: 2e-5 };

pub(crate) fn check(golden: &Golden, report: &mut Report) {
    for case in golden.cases("cases") {
        report.case();
        if case["kind"] == "affine_coord" {
            resize(golden, report, case);
        } else {
            one(golden, report, case);
        }
    }
    deterministic(golden, report);
    matrices(golden, report);
}

/// Compares a plan, and the results of both executors.
fn one(golden: &Golden, report: &mut Report, case: &Value) {
    let key = case["key"].as_str().unwrap();
    let what = |of: &str| format!("{key} {} {of}", case["kind"].as_str().unwrap());
    let mask = case["input"] == "input.mask";
    let x = if mask { golden.tensor("input.small") } else { input(golden, case) };
    let split = if case["split_idx"] == 1 { Split::Valid } else { Split::Train };
    let tfms = transforms(golden, case, mask);
    let plan = plan(&tfms, &x, split);
    if golden.has(&format!("{key}.mat3")) {
        let ours: Vec<f64> =
            plan.images.iter().flat_map(|i| i.affine.0.into_iter().flatten()).collect();
        let theirs = golden.tensor(&format!("{key}.mat3"));
        report.close(what("mat3"), &ours, &flat(&theirs), MATRIX);
    }
    if golden.has(&format!("{key}.coeffs")) && split == Split::Train {
        let ours: Vec<f64> =
            plan.images.iter().flat_map(|i| i.warp.0.into_iter().flatten().take(8)).collect();
        let theirs = golden.tensor(&format!("{key}.coeffs"));
        report.close(what("coeffs"), &ours, &flat(&theirs), COEFFICIENTS);
    }
    let grid = golden.tensor(&format!("{key}.grid"));
    if let Some(ours) = plan.grid(Device::Cpu).unwrap() {
        // Near the horizon of a perspective, the single precision of fastai's coefficients moves
        // positions in proportion to their squared distance.
        let warped = plan.images.iter().any(|i| i.warp != Matrix::ONE);
        let near = grid.abs().le(if warped { 2.0 } else { f64::INFINITY });
        report.exact(what("grid shape"), &ours.size(), &grid.size());
        let least = |t: &Tensor| t.where_self(&near, &t.zeros_like());
        report.tensor(what("grid"), &least(&ours), &least(&grid), GRID);
        let relative = ((&ours - &grid).abs() / (&grid * &grid + 1.0)).max().double_value(&[]);
        report.holds(what("grid far away"), relative < 2e-6);
    }
    let x = if mask { golden.tensor("input.mask").to_kind(Kind::Float).unsqueeze(1) } else { x };
    let plan = if mask { self::plan(&tfms, &x, split) } else { plan };
    let options = &case["params"];
    let nearest = mask || options["mode"] == "nearest";
    let pad = options["pad_mode"].as_str().unwrap_or("reflection");
    let align = options["align_corners"].as_bool().unwrap_or(true);
    let expected = Expected { key, grid, nearest, pad, align };
    compare(golden, report, &what("pixels"), &plan, &x, &x, &expected);
}

/// fastai's inputs of the resampling.
pub(crate) struct Expected<'a> {
    pub(crate) key: &'a str,
    pub(crate) grid: Tensor,
    pub(crate) nearest: bool,
    pub(crate) pad: &'a str,
    pub(crate) align: bool,
}

/// Compares both executors with fastai, or with libtorch's sampler with correct shrinking where fastai
/// measures it along the wrong sides. `seen` is the part of `x` that is sampled.
pub(crate) fn compare(
    golden: &Golden,
    report: &mut Report,
    what: &str,
    plan: &Plan,
    x: &Tensor,
    seen: &Tensor,
    expected: &Expected<'_>,
) {
    let Expected { key, grid, nearest, pad, align } = expected;
    let mut theirs = golden.tensor(&format!("{key}.expected")).to_kind(Kind::Float);
    if theirs.dim() == 3 {
        theirs = theirs.unsqueeze(1);
    }
    let ours_shrunk = plan.shrunk_size();
    let pre = format!("{key}.pre");
    let their_shrunk = golden.has(&pre).then(|| {
        let size = golden.tensor(&pre).size();
        (size[3] as u32, size[2] as u32)
    });
    if ours_shrunk != their_shrunk {
        report.differs(
            what,
            format!(
                "the input shrinks to {ours_shrunk:?} first, measured along its own sides; fastai \
                 measures along others and has {their_shrunk:?}"
            ),
        );
        // Check the rule with the sizes and the grid that fastai used.
        let size = grid.size();
        let (h, w) = (seen.size()[2] as f64, seen.size()[3] as f64);
        let by = (h / size[1] as f64).min(w / size[2] as f64) / 2.0;
        let zoom = 2.0 / (grid.max() - grid.min()).double_value(&[]);
        let right = (!nearest && by > 1.0 && by > zoom).then(|| {
            let less = |n: f64| (n * (1.0 / by)).floor() as u32;
            (less(w), less(h))
        });
        report.exact(format!("{what}: shrunk"), &ours_shrunk, &right);
        let x = match ours_shrunk {
            Some((w, h)) => seen.adaptive_avg_pool2d([i64::from(h), i64::from(w)]),
            None => seen.shallow_clone(),
        };
        let pad = ["zeros", "border", "reflection"].iter().position(|p| p == pad).unwrap();
        theirs = x.grid_sampler(grid, i64::from(*nearest), pad as i64, *align);
    }
    let kernel = by_kernel(plan, x);
    let tensor = plan.execute_tensor(x).unwrap();
    if *nearest {
        for (name, ours) in [("kernel", kernel), ("tensor", tensor)] {
            report.exact(format!("{what} {name} shape"), &ours.size(), &theirs.size());
            // A position halfway between two pixels may round either way.
            let far = (&ours - &theirs).abs().gt(1e-6).to_kind(Kind::Float).mean(Kind::Float);
            let part = far.double_value(&[]);
            report.holds(format!("{what} {name}: {part} of the pixels differ"), part <= 0.005);
        }
    } else {
        // Only positions close enough to the image that fastai's rounding does not move them too far.
        let warped = plan.images.iter().any(|i| i.warp != Matrix::ONE);
        let far = grid.abs().amax([-1], false).gt(2.0).unsqueeze(1);
        let n = if warped { far.to_kind(Kind::Int64).sum(Kind::Int64).int64_value(&[]) } else { 0 };
        if n > 0 {
            let all = far.numel();
            let why = "the picture's horizon is near, where the single precision of fastai's own \
                       coefficients moves places by more than the tolerance";
            report.differs(what, format!("{n} of {all} pixels are not compared: {why}"));
        }
        let near = |t: &Tensor| {
            if n > 0 {
                t.where_self(&far.logical_not(), &t.zeros_like())
            } else {
                t.shallow_clone()
            }
        };
        report.tensor(format!("{what} kernel"), &near(&kernel), &near(&theirs), PIXELS);
        report.tensor(format!("{what} tensor"), &near(&tensor), &near(&theirs), PIXELS);
    }
}

/// Executes a plan with the kernel for a batch `[N, C, H, W]`, with all passes.
pub(crate) fn by_kernel(plan: &Plan, x: &Tensor) -> Tensor {
    let floats = Vec::<f32>::try_from(&x.permute([0, 2, 3, 1]).contiguous().view([-1])).unwrap();
    let (w, h) = plan.output_size();
    let shape = [plan.len() as i64, i64::from(h), i64::from(w), i64::from(plan.channels())];
    let out = Tensor::from_slice(&plan.execute_floats(&floats, false).unwrap()).view(shape);
    plan.tensor_steps(out.permute([0, 3, 1, 2])).unwrap()
}

/// Plans transforms for a batch `[N, C, H, W]`.
pub(crate) fn plan(tfms: &[Arc<dyn BatchTransform>], x: &Tensor, split: Split) -> Plan {
    let (n, c, h, w) = x.size4().unwrap();
    let mut rng = Seed(0).rng(Stream::Batch { pass: 0, index: 0 });
    transform::plan(tfms, n as usize, (w as u32, h as u32), c as u8, split, &mut rng).unwrap()
}

fn input(golden: &Golden, case: &Value) -> Tensor {
    golden.tensor(case["input"].as_str().unwrap())
}

/// Returns the transforms of a case with fastai's draws.
pub(crate) fn transforms(
    golden: &Golden,
    case: &Value,
    mask: bool,
) -> Vec<Arc<dyn BatchTransform>> {
    let key = case["key"].as_str().unwrap();
    let params = &case["params"];
    let drawn = |name: &str| {
        let name = format!("{key}.draw.{name}");
        if golden.has(&name) { flat(&golden.tensor(&name)) } else { vec![0.0; 64] }
    };
    let order: Vec<&str> = match params["order"].as_array() {
        Some(order) => order.iter().map(|o| o.as_str().unwrap()).collect(),
        None => vec![case["kind"].as_str().unwrap()],
    };
    macro_rules! options {
        ($tfm:expr) => {{
            let mut tfm = $tfm.p(1.0);
            if !params["size"].is_null() {
                let (h, w) = crate::replay::size(&params["size"]);
                tfm = tfm.size_hw(h, w);
            }
            match params["pad_mode"].as_str() {
                None | Some("reflection") => {}
                Some("border") => tfm = tfm.pad_mode(PadMode::Border),
                Some("zeros") => tfm = tfm.pad_mode(PadMode::Zeros),
                Some(other) => panic!("pad mode {other}"),
            }
            if mask || params["mode"] == "nearest" {
                tfm = tfm.mode(Mode::Nearest);
            }
            Arc::new(tfm.align_corners(params["align_corners"].as_bool().unwrap_or(true)))
        }};
    }
    let one = |name: &str| -> Arc<dyn BatchTransform> {
        match name {
            "Flip" => options!(Flip::new().draw(drawn("flip"))),
            "Dihedral" => options!(Dihedral::new().draw(drawn("dihedral"))),
            "Rotate" => options!(Rotate::new(10.0).draw(drawn("rotate_deg"))),
            "Zoom" => options!(
                Zoom::new(1.0, 1.1)
                    .draw(drawn("zoom"))
                    .draw_x(drawn("zoom_x"))
                    .draw_y(drawn("zoom_y"))
            ),
            "Warp" => {
                options!(Warp::new(0.2).draw_x(drawn("warp_x")).draw_y(drawn("warp_y")))
            }
            other => panic!("no transform `{other}`"),
        }
    };
    order.into_iter().map(one).collect()
}

/// Compares a resize alone, as all transforms do it in validation.
fn resize(golden: &Golden, report: &mut Report, case: &Value) {
    let key = case["key"].as_str().unwrap();
    let x = input(golden, case);
    let (h, w) = crate::replay::size(&case["params"]["sz"]);
    let plan = plan(&[Arc::new(Flip::new().size_hw(h, w))], &x, Split::Valid);
    let grid = golden.tensor(&format!("{key}.grid"));
    let what = format!("{key} affine_coord");
    if let Some(ours) = plan.grid(Device::Cpu).unwrap() {
        report.tensor(format!("{what} grid"), &ours, &grid, GRID);
    }
    let expected = Expected { key, grid, nearest: false, pad: "reflection", align: true };
    compare(golden, report, &what, &plan, &x, &x, &expected);
}

/// Compares fastai's deterministic flips and rotations, with given draws.
fn deterministic(golden: &Golden, report: &mut Report) {
    let x = golden.tensor("input.square");
    for (name, ways) in [("DeterministicFlip", 2), ("DeterministicDihedral", 8)] {
        for (key, theirs) in golden.tensors(&format!("{name}.call")) {
            report.case();
            let k = key.parse::<usize>().unwrap() % ways;
            let tfm: Arc<dyn BatchTransform> = match ways {
                2 => Arc::new(Flip::new().p(1.0).draw(k as f64)),
                _ => Arc::new(Dihedral::new().p(1.0).draw(k as f64).align_corners(false)),
            };
            let plan = plan(&[tfm], &x, Split::Train);
            let what = format!("{name} {key}");
            report.tensor(format!("{what} kernel"), &by_kernel(&plan, &x), &theirs, PIXELS);
            let ours = plan.execute_tensor(&x).unwrap();
            report.tensor(format!("{what} tensor"), &ours, &theirs, PIXELS);
        }
    }
}

/// Compares single matrices.
fn matrices(golden: &Golden, report: &mut Report) {
    let draws = &golden.json["helper_draws"];
    let of = |name: &str| numbers(&draws[name]);
    let n = of("rot").len();
    let mut compare = |name: &str, ours: Vec<Matrix>| {
        report.case();
        let ours: Vec<f64> = ours.iter().flat_map(|m| m.0.into_iter().flatten()).collect();
        report.close(name, &ours, &flat(&golden.tensor(name)), MATRIX);
    };
    let flips = of("flip").into_iter().map(|f| if f == 0.0 { Matrix::ONE } else { Matrix::flip() });
    compare("helper.flip_mat", flips.collect());
    compare("helper.rotate_mat", of("rot").into_iter().map(Matrix::rotation).collect());
    compare("helper.dihedral_mat", (0..n).map(Matrix::dihedral).collect());
    let (zoom, x, y) = (of("zoom"), of("zx"), of("zy"));
    compare("helper.zoom_mat", (0..n).map(|i| Matrix::zoom(zoom[i], (x[i], y[i]))).collect());
}
