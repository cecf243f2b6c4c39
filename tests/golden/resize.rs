//! Item transforms, with the draws that fastai made.

use crate::{
    frame::{Golden, Report, number},
    replay::{Replay, image, size},
};
use finetune::{
    Result,
    image::{Filter, Image, PadMode},
    sample::Split,
    transform::{
        CropPad, DihedralItem, FlipItem, Method, RandomCrop, RandomResizedCrop, RatioResize, Resize,
    },
};
use serde_json::Value;

pub(crate) fn check(golden: &Golden, report: &mut Report) {
    for case in golden.cases("cases") {
        report.case();
        let what = |of: &str| {
            let (key, kind) = (case["key"].as_str().unwrap(), case["kind"].as_str().unwrap());
            format!("{key} {kind} {of}")
        };
        let from = image(golden, &format!("img.{}", case["image"].as_str().unwrap()));
        let mut replay = Replay::new(&case["draws"]);
        let ours = match transformed(case, from, &mut replay) {
            Ok(image) => image,
            Err(e) => {
                report.fail(format!("{}: {e}", what("fails")));
                continue;
            }
        };
        for wrong in replay.wrong() {
            report.fail(format!("{}: {wrong}", what("draws")));
        }
        let theirs = image(golden, &format!("{}.expected", case["key"].as_str().unwrap()));
        let shape = |i: &Image| [i.height(), i.width(), u32::from(i.channels())];
        report.exact(what("shape"), &shape(&ours), &shape(&theirs));
        report.exact(what("pixels"), ours.pixels(), theirs.pixels());
    }
}

fn transformed(case: &Value, from: Image, draw: &mut Replay) -> Result<Image> {
    let params = &case["params"];
    // Called directly, fastai's transforms behave as in training.
    let split = if case["split_idx"] == 1 { Split::Valid } else { Split::Train };
    let p = |or: f64| params["p"].as_f64().unwrap_or(or);
    match case["kind"].as_str().unwrap() {
        "Resize" => {
            let (h, w) = size(&params["size"]);
            let method = match params["method"].as_str().unwrap() {
                "crop" => Method::Crop,
                "pad" => Method::Pad,
                "squish" => Method::Squish,
                other => panic!("method {other}"),
            };
            let filter = match params["resample"].as_str() {
                _ if params["mask"] == true => Filter::Nearest,
                None | Some("bilinear") => Filter::Bilinear,
                Some("nearest") => Filter::Nearest,
                Some("bicubic") => Filter::Bicubic,
                Some(other) => panic!("resample {other}"),
            };
            let resize = Resize::hw(h, w).method(method).filter(filter);
            // fastai accepts the option with any method; only padding uses it.
            let resize = if method == Method::Pad {
                resize.pad_mode(pad_mode(params, PadMode::Reflection))
            } else {
                resize
            };
            resize.image(&from, split, draw)
        }
        "RandomResizedCrop" => {
            let (h, w) = size(&params["size"]);
            let mut crop = RandomResizedCrop::hw(h, w);
            for (name, value) in params.as_object().unwrap() {
                crop = match name.as_str() {
                    "size" => crop,
                    "min_scale" => crop.min_scale(number(value)),
                    "max_scale" => crop.max_scale(number(value)),
                    "val_xtra" => crop.val_xtra(number(value)),
                    "ratio" => crop.ratio(number(&value[0]), number(&value[1])),
                    other => panic!("option {other}"),
                };
            }
            crop.image(&from, split, draw)
        }
        "CropPad" => {
            let (h, w) = size(&params["size"]);
            CropPad::hw(h, w).pad_mode(pad_mode(params, PadMode::Zeros)).image(&from)
        }
        "RandomCrop" => {
            let (h, w) = size(&params["size"]);
            RandomCrop::hw(h, w).image(&from, split, draw)
        }
        "RatioResize" => {
            let max_sz = params["max_sz"].as_u64().unwrap() as u32;
            RatioResize::new(max_sz).image(&from, split, draw)
        }
        "FlipItem" => FlipItem::new().p(p(0.5)).image(from, split, draw),
        "DihedralItem" => DihedralItem::new().p(p(1.0)).image(from, split, draw),
        other => panic!("no transform `{other}`"),
    }
}

fn pad_mode(params: &Value, or: PadMode) -> PadMode {
    match params["pad_mode"].as_str() {
        None => or,
        Some("zeros") => PadMode::Zeros,
        Some("border") => PadMode::Border,
        Some("reflection") => PadMode::Reflection,
        Some(other) => panic!("pad mode {other}"),
    }
}
