//! Helpers for masks, points and boxes: transforms of samples, and plans with recorded draws.

use crate::{
    affine,
    frame::{Golden, flat, number, numbers},
    replay::{Replay, size},
    rrc_gpu,
};
use finetune::{
    Result,
    image::PadMode,
    sample::{Sample, Split},
    seed::{Seed, Stream},
    transform::{
        BatchSpec, Crop, CropPad, DihedralItem, FlipItem, Method, Mode, Normalize, Plan,
        RandomCrop, RandomResizedCrop, RatioResize, Resize,
    },
};
use serde_json::{Value, json};
use tch::Tensor;

pub(crate) fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_else(|| panic!("{v} is not a string"))
}

pub(crate) fn split(case: &Value) -> Split {
    if case["split_idx"] == 1 { Split::Valid } else { Split::Train }
}

/// Applies one item transform of a case to a sample.
pub(crate) fn transformed(
    kind: &str,
    params: &Value,
    split: Split,
    sample: Sample,
    draw: &mut Replay,
) -> Result<Sample> {
    let p = |or: f64| params["p"].as_f64().unwrap_or(or);
    let pad_mode = |or: PadMode| match params["pad_mode"].as_str() {
        None => or,
        Some("zeros") => PadMode::Zeros,
        Some("border") => PadMode::Border,
        Some("reflection") => PadMode::Reflection,
        Some(other) => panic!("pad mode {other}"),
    };
    match kind {
        "Resize" => {
            let (h, w) = size(&params["size"]);
            let method = match params["method"].as_str() {
                None | Some("crop") => Method::Crop,
                Some("pad") => Method::Pad,
                Some("squish") => Method::Squish,
                Some(other) => panic!("method {other}"),
            };
            let resize = Resize::hw(h, w).method(method);
            // fastai accepts the option with any method; only padding uses it.
            let resize = if method == Method::Pad {
                resize.pad_mode(pad_mode(PadMode::Reflection))
            } else {
                resize
            };
            resize.sample(sample, split, draw)
        }
        "RandomResizedCrop" => {
            let (h, w) = size(&params["size"]);
            let mut crop = RandomResizedCrop::hw(h, w);
            if let Some(part) = params["min_scale"].as_f64() {
                crop = crop.min_scale(part);
            }
            crop.sample(sample, split, draw)
        }
        "CropPad" => {
            let (h, w) = size(&params["size"]);
            CropPad::hw(h, w).pad_mode(pad_mode(PadMode::Zeros)).sample(sample)
        }
        "RandomCrop" => {
            let (h, w) = size(&params["size"]);
            RandomCrop::hw(h, w).sample(sample, split, draw)
        }
        "RatioResize" => {
            RatioResize::new(number(&params["max_sz"]) as u32).sample(sample, split, draw)
        }
        "FlipItem" => FlipItem::new().p(p(0.5)).sample(sample, split, draw),
        "DihedralItem" => DihedralItem::new().p(p(1.0)).sample(sample, split, draw),
        other => panic!("no transform `{other}`"),
    }
}

/// Returns the part that fastai's crop of a batch kept.
pub(crate) fn part(case: &Value) -> Option<Crop> {
    let of = |name: &str| numbers(&case["rrc"][name]);
    if case["rrc"].is_null() {
        return None;
    }
    let (start, part) = (of("tl_row_col"), of("cp_size_h_w"));
    let [top, left] = [start[0] as u32, start[1] as u32];
    Some(Crop { top, left, height: part[0] as u32, width: part[1] as u32 })
}

/// Plans a case for a batch like `x`, with fastai's draws.
pub(crate) fn plan(golden: &Golden, case: &Value, x: &Tensor) -> Plan {
    let (n, c, h, w) = x.size4().unwrap();
    let (key, params, split) = (text(&case["key"]), &case["params"], split(case));
    let mut plan = Plan::new(n as usize, (w as u32, h as u32), c as u8);
    let crop = |plan: &mut Plan| {
        let (h, w) = size(&params["size"]);
        plan.crop(part(case).unwrap(), (w, h), Mode::Bilinear).unwrap();
    };
    match text(&case["kind"]) {
        "RandomResizedCropGPU" => crop(&mut plan),
        "aug_transforms" => augmented(golden, key, params, split, part(case), &mut plan),
        _ => return affine::plan(&affine::transforms(golden, case, false), x, split),
    }
    plan
}

/// Plans `aug_transforms` with the given arguments, and the draws recorded for `key`.
pub(crate) fn augmented(
    golden: &Golden,
    key: &str,
    kwargs: &Value,
    split: Split,
    part: Option<Crop>,
    plan: &mut Plan,
) {
    let given: &[(&str, &[(&str, &str)])] = &[
        ("flip", &[("draw", "flip")]),
        ("dihedral", &[("draw", "dihedral")]),
        ("rotate", &[("draw", "rotate_deg")]),
        ("zoom", &[("draw", "zoom"), ("draw_x", "zoom_x"), ("draw_y", "zoom_y")]),
        ("warp", &[("draw_x", "warp_x"), ("draw_y", "warp_y")]),
        ("brightness", &[("draw", "brightness")]),
        ("contrast", &[("draw", "contrast")]),
    ];
    let mut rng = Seed(0).rng(Stream::Init);
    for tfm in rrc_gpu::augment(kwargs, None).transforms() {
        let mut spec = serde_json::to_value(tfm.spec().unwrap()).unwrap();
        let name = spec["transform"].as_str().unwrap().to_owned();
        if name == "random_resized_crop_gpu" {
            let (h, w) = size(&kwargs["size"]);
            plan.crop(part.unwrap(), (w, h), Mode::Bilinear).unwrap();
            continue;
        }
        if split == Split::Train
            && let Some((_, draws)) = given.iter().find(|(n, _)| *n == name)
        {
            for (option, draw) in *draws {
                spec[option] = json!(flat(&golden.tensor(&format!("{key}.draw.{draw}"))));
            }
            let chance = if spec["geometry"].is_null() { &mut spec } else { &mut spec["geometry"] };
            chance["chance"] = json!({ "p": 1.0, "batch": false });
        }
        let spec: BatchSpec = serde_json::from_value(spec).unwrap();
        spec.build().plan(plan, split, &mut rng).unwrap();
    }
}

/// Adds the normalization of the golden data blocks.
pub(crate) fn normalized(plan: &mut Plan) {
    use finetune::transform::BatchTransform as _;
    let mut rng = Seed(0).rng(Stream::Init);
    Normalize::imagenet().plan(plan, Split::Valid, &mut rng).unwrap();
}

/// Converts `[N, H, W, C]` bytes to `[N, C, H, W]` floats between 0 and 1.
pub(crate) fn floats(bytes: &Tensor) -> Tensor {
    bytes.to_kind(tch::Kind::Float) / 255.0
}
