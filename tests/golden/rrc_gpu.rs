//! The crop of whole batches, `aug_transforms` and complete pipelines, with the draws that fastai made.

use crate::{
    affine::{Expected, by_kernel, compare},
    frame::{Golden, Report, Tol, flat, number, numbers},
    replay::{Replay, size},
};
use finetune::{
    image::PadMode,
    sample::Split,
    transform::{
        Augment, BatchSpec, BatchTransform, Brightness, Contrast, Dihedral, Flip, Hue, Mode,
        Normalize, Plan, RandomErasing, RandomResizedCropGpu, Rotate, Saturation, Warp, Zoom,
        aug_transforms,
    },
};
use serde_json::{Value, json};
use std::sync::Arc;
use tch::{Device, Tensor};

const GRID: Tol = Tol { rtol: 0.0, atol: 2e-6 };
const NORMALIZED: Tol = Tol { rtol: 0.0, atol: 1e-4 };

pub(crate) fn check(golden: &Golden, report: &mut Report) {
    for case in golden.cases("cases") {
        report.case();
        crop(golden, report, case);
    }
    for (name, variant) in golden.json["aug_transforms"].as_object().unwrap() {
        report.case();
        options(report, name, variant);
    }
    for case in golden.cases("pipelines") {
        report.case();
        pipeline(golden, report, case);
    }
}

fn split(case: &Value) -> Split {
    if case["split_idx"] == 1 { Split::Valid } else { Split::Train }
}

fn crop(golden: &Golden, report: &mut Report, case: &Value) {
    let key = case["key"].as_str().unwrap();
    let x = golden.tensor(case["input"].as_str().unwrap());
    let (n, c, h, w) = x.size4().unwrap();
    let params = &case["params"];
    let to = size(&params["size"]);
    let mut tfm = RandomResizedCropGpu::hw(to.0, to.1);
    let mut mode = Mode::Bilinear;
    for (name, value) in params.as_object().unwrap() {
        tfm = match name.as_str() {
            "size" => tfm,
            "min_scale" => tfm.min_scale(number(value)),
            "max_scale" => tfm.max_scale(number(value)),
            "valid_scale" => tfm.valid_scale(number(value)),
            "ratio" => tfm.ratio(number(&value[0]), number(&value[1])),
            "mode" => {
                mode = if value == "nearest" { Mode::Nearest } else { Mode::Bilinear };
                tfm.mode(mode)
            }
            other => panic!("option {other}"),
        };
    }
    let mut replay = Replay::new(&case["raw_draws"]);
    let part = tfm.part((w as u32, h as u32), split(case), &mut replay);
    for wrong in replay.wrong() {
        report.fail(format!("{key} draws: {wrong}"));
    }
    let pair = |v: &Value| numbers(v).into_iter().map(|v| v as u32).collect::<Vec<_>>();
    report.exact(format!("{key} start"), &vec![part.top, part.left], &pair(&case["tl_row_col"]));
    let ours = vec![part.height, part.width];
    report.exact(format!("{key} part"), &ours, &pair(&case["cp_size_h_w"]));
    let mut plan = Plan::new(n as usize, (w as u32, h as u32), c as u8);
    plan.crop(part, (to.1, to.0), mode).unwrap();
    let grid = golden.tensor(&format!("{key}.grid"));
    if let Some(ours) = plan.grid(Device::Cpu).unwrap() {
        report.tensor(format!("{key} grid"), &ours, &grid, GRID);
    }
    // fastai samples from the part alone.
    let seen = x.narrow(2, i64::from(part.top), i64::from(part.height)).narrow(
        3,
        i64::from(part.left),
        i64::from(part.width),
    );
    let nearest = mode == Mode::Nearest;
    let expected = Expected { key, grid, nearest, pad: "reflection", align: true };
    compare(golden, report, key, &plan, &x, &seen, &expected);
}

/// Compares the transforms of `aug_transforms` with fastai's composed transforms, function by function.
fn options(report: &mut Report, name: &str, variant: &Value) {
    let ours: Vec<Value> = augment(&variant["kwargs"], Some(&variant["as_returned"]))
        .transforms()
        .iter()
        .map(|t| serde_json::to_value(t.spec().unwrap()).unwrap())
        .collect();
    let theirs = expected(&variant["as_returned"]);
    report.exact(format!("aug_transforms {name}"), &ours, &theirs);
}

pub(crate) fn augment(kwargs: &Value, returned: Option<&Value>) -> Augment {
    let mut augment = aug_transforms();
    for (name, value) in kwargs.as_object().unwrap() {
        let yes = value.as_bool().unwrap_or_default();
        augment = match name.as_str() {
            "mult" => augment.mult(number(value)),
            "do_flip" => augment.do_flip(yes),
            "flip_vert" => augment.flip_vert(yes),
            "max_rotate" => augment.max_rotate(number(value)),
            "min_zoom" => augment.min_zoom(number(value)),
            "max_zoom" => augment.max_zoom(number(value)),
            "max_lighting" => augment.max_lighting(number(value)),
            "max_warp" => augment.max_warp(number(value)),
            "p_affine" => augment.p_affine(number(value)),
            "p_lighting" => augment.p_lighting(number(value)),
            "size" => augment.size_hw(size(value).0, size(value).1),
            "mode" => augment.mode(mode(value)),
            "pad_mode" => augment.pad_mode(pad_mode(value)),
            "align_corners" => augment.align_corners(yes),
            "batch" => augment.batch(yes),
            "min_scale" => augment.min_scale(number(value)),
            "xtra_tfms" => value.as_array().unwrap().iter().fold(augment, |augment, name| {
                xtra(augment, name.as_str().unwrap(), returned.expect("options of the others"))
            }),
            other => panic!("option {other}"),
        };
    }
    augment
}

/// Adds an extra transform with the options that fastai prints for it.
fn xtra(augment: Augment, name: &str, returned: &Value) -> Augment {
    let all = returned.as_array().unwrap();
    let function = |name: &str| {
        let fs = all.iter().filter_map(|t| t["fs"].as_array()).flatten();
        fs.clone().find(|f| f["fn"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    };
    match name {
        "RandomErasing" => {
            let t = all.iter().find(|t| t["cls"] == "RandomErasing").unwrap();
            let erase = RandomErasing::new().p(number(&t["p"])).sl(number(&t["sl"]));
            augment.xtra_tfms(erase.sh(number(&t["sh"])).min_aspect(number(&t["min_aspect"])))
        }
        "Saturation" => {
            let f = function("_SaturationLogit");
            augment.xtra_tfms(Saturation::new(number(&f["max_lighting"])).p(number(&f["p"])))
        }
        "Hue" => {
            let f = function("_Hue");
            augment.xtra_tfms(Hue::new(number(&f["max_hue"])).p(number(&f["p"])))
        }
        other => panic!("no transform `{other}`"),
    }
}

fn mode(v: &Value) -> Mode {
    if v == "nearest" { Mode::Nearest } else { Mode::Bilinear }
}

fn pad_mode(v: &Value) -> PadMode {
    match v.as_str().unwrap() {
        "zeros" => PadMode::Zeros,
        "border" => PadMode::Border,
        "reflection" => PadMode::Reflection,
        other => panic!("pad mode {other}"),
    }
}

/// Converts fastai's transforms to our specs, with each function of a composed one as its own spec.
fn expected(returned: &Value) -> Vec<Value> {
    let mut all: Vec<(i64, BatchSpec)> = vec![];
    for t in returned.as_array().unwrap() {
        let order = t["order"].as_i64().unwrap();
        let coordinates = t["coord_fs"].as_array().into_iter().flatten();
        // The warp is in a separate list, but runs second, after the flip.
        let functions: Vec<&Value> = t["aff_fs"].as_array().into_iter().flatten().collect();
        let (flips, others): (Vec<_>, Vec<_>) =
            functions.into_iter().partition(|f| f["fn"] == "flip_mat" || f["fn"] == "dihedral_mat");
        for f in flips.into_iter().chain(coordinates).chain(others) {
            all.push((order, geometry(t, f)));
        }
        for f in t["fs"].as_array().into_iter().flatten() {
            all.push((order, color(f)));
        }
        match t["cls"].as_str().unwrap() {
            "RandomResizedCropGPU" => {
                let (h, w) = size(&t["size"]);
                let crop = RandomResizedCropGpu::hw(h, w)
                    .mode(mode(&t["mode"]))
                    .min_scale(number(&t["min_scale"]))
                    .max_scale(number(&t["max_scale"]))
                    .ratio(number(&t["ratio"][0]), number(&t["ratio"][1]))
                    .valid_scale(number(&t["valid_scale"]));
                all.push((order, crop.spec().unwrap()));
            }
            "RandomErasing" => {
                let erase = RandomErasing::new().p(number(&t["p"])).sl(number(&t["sl"]));
                let erase = erase.sh(number(&t["sh"])).min_aspect(number(&t["min_aspect"]));
                let n = t["max_count"].as_u64().unwrap() as u32;
                all.push((order, erase.max_count(n).spec().unwrap()));
            }
            _ => {}
        }
    }
    all.sort_by_key(|(order, _)| *order);
    all.into_iter().map(|(_, spec)| serde_json::to_value(spec).unwrap()).collect()
}

/// Returns the spec of one function of a composed transform, with the options of the whole.
fn geometry(t: &Value, f: &Value) -> BatchSpec {
    macro_rules! with {
        ($tfm:expr) => {{
            let mut tfm = $tfm.p(number(&f["p"])).batch(f["batch"].as_bool().unwrap());
            if !t["size"].is_null() {
                let (h, w) = size(&t["size"]);
                tfm = tfm.size_hw(h, w);
            }
            tfm = tfm.mode(mode(&t["mode"])).pad_mode(pad_mode(&t["pad_mode"]));
            tfm.align_corners(t["align_corners"].as_bool().unwrap()).spec().unwrap()
        }};
    }
    match f["fn"].as_str().unwrap() {
        "flip_mat" => with!(Flip::new()),
        "dihedral_mat" => with!(Dihedral::new()),
        "rotate_mat" => with!(Rotate::new(number(&f["max_deg"]))),
        "zoom_mat" => with!(Zoom::new(number(&f["min_zoom"]), number(&f["max_zoom"]))),
        "_WarpCoord" => with!(Warp::new(number(&f["magnitude"]))),
        other => panic!("no function `{other}`"),
    }
}

fn color(f: &Value) -> BatchSpec {
    let (p, batch) = (number(&f["p"]), f["batch"].as_bool().unwrap());
    let max = || number(&f["max_lighting"]);
    let spec = match f["fn"].as_str().unwrap() {
        "_BrightnessLogit" => Brightness::new(max()).p(p).batch(batch).spec(),
        "_ContrastLogit" => Contrast::new(max()).p(p).batch(batch).spec(),
        "_SaturationLogit" => Saturation::new(max()).p(p).batch(batch).spec(),
        "_Hue" => Hue::new(number(&f["max_hue"])).p(p).batch(batch).spec(),
        other => panic!("no function `{other}`"),
    };
    spec.unwrap()
}

/// Compares a complete pipeline from bytes, in fastai's order.
fn pipeline(golden: &Golden, report: &mut Report, case: &Value) {
    let key = case["key"].as_str().unwrap();
    let bytes = golden.tensor("pipe.input_u8").permute([0, 2, 3, 1]).contiguous();
    let (n, h, w, c) = bytes.size4().unwrap();
    let split = split(case);
    // The transforms of the options, with fastai's draws instead of their own.
    let drawn = |name: &str| json!(flat(&golden.tensor(&format!("{key}.draw.{name}"))));
    let given: &[(&str, &[(&str, &str)])] = &[
        ("flip", &[("draw", "flip")]),
        ("dihedral", &[("draw", "dihedral")]),
        ("rotate", &[("draw", "rotate_deg")]),
        ("zoom", &[("draw", "zoom"), ("draw_x", "zoom_x"), ("draw_y", "zoom_y")]),
        ("warp", &[("draw_x", "warp_x"), ("draw_y", "warp_y")]),
        ("brightness", &[("draw", "brightness")]),
        ("contrast", &[("draw", "contrast")]),
    ];
    let mut plan = Plan::new(n as usize, (w as u32, h as u32), c as u8);
    let mut rng = finetune::seed::Seed(0).rng(finetune::seed::Stream::Init);
    let mut tfms = augment(&case["kwargs"], None).transforms();
    tfms.push(Arc::new(Normalize::imagenet()));
    for tfm in tfms {
        let mut spec = serde_json::to_value(tfm.spec().unwrap()).unwrap();
        let name = spec["transform"].as_str().unwrap().to_owned();
        if name == "random_resized_crop_gpu" {
            let number = |of: &str, i: usize| case["rrc"][of][i].as_u64().unwrap() as u32;
            let part = finetune::transform::Crop {
                top: number("tl_row_col", 0),
                left: number("tl_row_col", 1),
                height: number("cp_size_h_w", 0),
                width: number("cp_size_h_w", 1),
            };
            if split == Split::Valid {
                let crop: BatchSpec = serde_json::from_value(spec.clone()).unwrap();
                let mut own = plan.clone();
                crop.build().plan(&mut own, split, &mut rng).unwrap();
                let mut given = plan.clone();
                let to = size(&case["kwargs"]["size"]);
                given.crop(part, (to.1, to.0), Mode::Bilinear).unwrap();
                report.exact(format!("{key} part"), &format!("{own:?}"), &format!("{given:?}"));
            }
            let to = size(&case["kwargs"]["size"]);
            plan.crop(part, (to.1, to.0), Mode::Bilinear).unwrap();
            continue;
        }
        if split == Split::Train
            && let Some((_, draws)) = given.iter().find(|(n, _)| *n == name)
        {
            for (option, draw) in *draws {
                spec[option] = drawn(draw);
            }
            let chance = if spec["geometry"].is_null() { &mut spec } else { &mut spec["geometry"] };
            chance["chance"] = json!({ "p": 1.0, "batch": false });
        }
        let spec: BatchSpec = serde_json::from_value(spec).unwrap();
        spec.build().plan(&mut plan, split, &mut rng).unwrap();
    }
    let fused = plan.clone();
    let plan = plan.unfused();
    for (i, pass) in plan.passes().enumerate() {
        let name = if i == 0 { format!("{key}.grid") } else { format!("{key}.grid.{i}") };
        if let Some(ours) = pass.grid(Device::Cpu).unwrap() {
            report.tensor(&name, &ours, &golden.tensor(&name), GRID);
        }
    }
    let theirs = golden.tensor(&format!("{key}.expected"));
    let pixels = Vec::<u8>::try_from(&bytes.view([-1])).unwrap();
    let (ow, oh) = plan.output_size();
    let first = Tensor::from_slice(&plan.execute(&pixels, false).unwrap())
        .view([n, i64::from(oh), i64::from(ow), c])
        .permute([0, 3, 1, 2]);
    let kernel = plan.tensor_steps(first).unwrap();
    report.tensor(format!("{key} kernel"), &kernel, &theirs, NORMALIZED);
    let tensor = plan.execute_tensor(&bytes).unwrap();
    report.tensor(format!("{key} tensor"), &tensor, &theirs, NORMALIZED);
    // All passes by the kernel.
    let x = golden.tensor("pipe.input_u8").to_kind(tch::Kind::Float) / 255.0;
    let all = plan.passes().fold(x, |x, pass| {
        let alone = pass.first_pass();
        by_kernel(&alone, &x)
    });
    report.tensor(format!("{key} passes"), &all, &theirs, NORMALIZED);
    if case["rrc"].is_null() {
        // fastai also resamples once here.
        let floats = golden.tensor("pipe.input_u8").to_kind(tch::Kind::Float) / 255.0;
        report.tensor(format!("{key} fused"), &by_kernel(&fused, &floats), &theirs, NORMALIZED);
    } else if split == Split::Valid {
        let floats = golden.tensor("pipe.input_u8").to_kind(tch::Kind::Float) / 255.0;
        report.tensor(format!("{key} fused"), &by_kernel(&fused, &floats), &theirs, NORMALIZED);
    } else {
        report.differs(
            format!("{key} fused"),
            "one resampling in place of fastai's two; it is compared with libtorch's sampler in \
             tests/it/plan.rs",
        );
    }
}
