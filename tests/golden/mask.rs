//! Masks: files, transforms, a data block, losses and metrics.

use crate::{
    affine::by_kernel,
    frame::{Golden, Report, Tol, flat, ints, number, numbers},
    losses, metrics,
    replay::{Replay, image},
    spatial::{augmented, floats, normalized, plan, split, text, transformed},
};
use finetune::{
    data::{DataBlock, ImageBlock, IndexSplitter, MaskBlock, TargetBlock},
    image::{Codes, Image},
    sample::{Sample, Split, Target, Task},
    transform::{Normalize, Plan, Resize, aug_transforms},
};
use serde_json::Value;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

const PIXELS: Tol = Tol { rtol: 0.0, atol: 2e-5 };
const NORMALIZED: Tol = Tol { rtol: 0.0, atol: 1e-4 };
const CLOSE: Tol = Tol { rtol: 1e-5, atol: 1e-6 };

pub(crate) fn check(golden: &Golden, report: &mut Report) {
    decoding(golden, report);
    divided(golden, report);
    for case in golden.cases("items") {
        report.case();
        item(golden, report, case);
    }
    for case in golden.cases("batch") {
        report.case();
        batch(golden, report, case);
    }
    datablock(golden, report);
    for case in golden.cases("losses") {
        report.case();
        loss(golden, report, case);
    }
    for case in golden.cases("metrics") {
        report.case();
        metric(golden, report, case);
    }
}

fn codes() -> impl Iterator<Item = String> {
    (0..256).map(|i| i.to_string())
}

fn mask_of(target: Target) -> Image {
    let Target::Mask(mask) = target else { panic!("{target:?}") };
    mask
}

fn decoding(golden: &Golden, report: &mut Report) {
    for case in golden.cases("decode") {
        let key = text(&case["key"]);
        if case["png_mode"].is_null() {
            continue;
        }
        report.case();
        let bytes = Vec::<u8>::try_from(&golden.tensor(&format!("{key}.png"))).unwrap();
        let theirs = image(golden, &format!("{key}.expected"));
        let ours = Codes::read(&bytes, key);
        let (mode, why) = (text(&case["png_mode"]), "masks hold codes, not shades of gray");
        match (mode, ours) {
            ("L" | "LA", Ok(Codes::Numbers(ours))) => {
                report.exact(key, ours.pixels(), theirs.pixels());
            }
            ("P", Ok(Codes::Numbers(ours))) => {
                let kept = image(golden, "decode.palette_kept.expected");
                report.exact(key, ours.pixels(), kept.pixels());
                report.differs(key, format!("a palette's positions are kept: {why}"));
            }
            ("1", Ok(Codes::Numbers(ours))) => {
                let ones: Vec<u8> = theirs.pixels().iter().map(|v| v / 255).collect();
                report.exact(key, ours.pixels(), &ones[..]);
                report.differs(key, format!("1-bit pixels are 0 and 1: {why}"));
            }
            ("RGB" | "RGBA", Ok(Codes::Colors(ours))) => {
                // With the colors of the file as the palette, each pixel gets the index of its color.
                let mut colors: Vec<[u8; 3]> =
                    ours.pixels().chunks(3).map(|p| [p[0], p[1], p[2]]).collect();
                let all = colors.clone();
                colors.sort_unstable();
                colors.dedup();
                let mut block =
                    MaskBlock::new(codes().take(colors.len())).colors(colors.iter().copied());
                block.setup(&mut std::iter::empty()).unwrap();
                let mask = mask_of(block.encode(&bytes.clone().into()).unwrap());
                let right: Vec<u8> =
                    all.iter().map(|c| colors.iter().position(|d| d == c).unwrap() as u8).collect();
                report.exact(key, mask.pixels(), &right[..]);
                let mut plain = MaskBlock::new(codes());
                plain.setup(&mut std::iter::empty()).unwrap();
                report.holds(key, plain.encode(&bytes.into()).is_err());
                report.differs(key, format!("colors need a table, or are an error: {why}"));
            }
            ("I;16", Err(_)) => {
                report.holds(key, theirs.pixels().contains(&255));
                report.differs(key, "values above 255 are an error, not cut off");
            }
            (mode, other) => report.fail(format!("{key} {mode}: {other:?}")),
        }
    }
}

fn divided(golden: &Golden, report: &mut Report) {
    let levels = Image::new(256, 1, 1, (0..=255).collect()).unwrap();
    for case in golden.json["int_to_float"]["cases"].as_array().unwrap() {
        report.case();
        let (key, div) = (text(&case["key"]), number(&case["div_mask"]) as f32);
        let theirs = ints(&golden.tensor(&format!("{key}.expected")));
        let fits = theirs.iter().take_while(|&&v| v <= 255).count();
        let levels = Image::new(fits as u32, 1, 1, levels.pixels()[..fits].to_vec()).unwrap();
        let mut block = MaskBlock::new(codes()).div_mask(div);
        block.setup(&mut std::iter::empty()).unwrap();
        let ours = mask_of(block.encode(&levels.into()).unwrap());
        let ours: Vec<i64> = ours.pixels().iter().map(|&v| v.into()).collect();
        report.exact(format!("{key} div_mask {div}"), &ours[..], &theirs[..fits]);
    }
}

fn item(golden: &Golden, report: &mut Report, case: &Value) {
    let (key, kind) = (text(&case["key"]), text(&case["kind"]));
    let of = |set: &str, name: &str| image(golden, &format!("{set}.{}", text(&case[name])));
    let mask = of("mask", "mask");
    let sample = Sample::new(of("img", "image"), Target::Mask(mask));
    let mut replay = Replay::new(&case["draws"]);
    let what = format!("{key} {kind}");
    let done = transformed(kind, &case["params"], split(case), sample, &mut replay);
    if case["mask"] != case["image"] {
        report.holds(&what, done.is_err_and(|e| e.to_string().contains("mask")));
        report.differs(what, "a mask of another size than its image is an error");
        return;
    }
    let done = done.unwrap();
    for wrong in replay.wrong() {
        report.fail(format!("{what} draws: {wrong}"));
    }
    let (ours, mask) = (done.image, mask_of(done.target));
    if case.get("raises").is_some() {
        report.exact(&what, &(ours.width(), ours.height()), &(mask.width(), mask.height()));
        // Image and mask have their corners from the same corner of the original.
        report.differs(what, "flips and turns masks with their images; fastai's fails");
        return;
    }
    report.exact(
        format!("{what} image"),
        ours.pixels(),
        image(golden, &format!("{key}.image")).pixels(),
    );
    let theirs = image(golden, &format!("{key}.mask"));
    report.exact(
        format!("{what} size"),
        &(mask.width(), mask.height()),
        &(theirs.width(), theirs.height()),
    );
    if case["params"].get("resamples").is_some() {
        let known: Vec<u8> = image(golden, &format!("mask.{}", text(&case["mask"]))).into_pixels();
        report.holds(&what, mask.pixels().iter().all(|v| known.contains(v)));
        report.differs(what, "codes are not interpolated, whatever the images are");
        return;
    }
    report.exact(format!("{what} mask"), mask.pixels(), theirs.pixels());
}

/// Moves masks `[N, H, W]` with both executors.
fn masks_by(plan: &Plan, y: &Tensor) -> [Tensor; 2] {
    let masks = plan.for_masks();
    let (n, h, w) = y.size3().unwrap();
    let by_tensor = masks.execute_tensor(&y.to_kind(Kind::Uint8)).unwrap();
    let by_kernel: Vec<Tensor> = (0..n)
        .map(|i| {
            let pixels = Vec::<u8>::try_from(&y.get(i).to_kind(Kind::Uint8).reshape([-1])).unwrap();
            let mask = Image::new(w as u32, h as u32, 1, pixels).unwrap();
            let mask = masks.execute(i as usize, &mask).unwrap();
            Tensor::from_slice(mask.pixels())
                .view([i64::from(mask.height()), i64::from(mask.width())])
                .to_kind(Kind::Int64)
        })
        .collect();
    [Tensor::stack(&by_kernel, 0), by_tensor]
}

fn same_masks(
    report: &mut Report,
    what: &str,
    plan: &Plan,
    y: &Tensor,
    theirs: &Tensor,
    part: f64,
) {
    for (road, ours) in ["kernel", "tensor"].into_iter().zip(masks_by(plan, y)) {
        report.exact(format!("{what} {road} shape"), &ours.size(), &theirs.size());
        let differ = ours.ne_tensor(theirs).to_kind(Kind::Float).mean(Kind::Float);
        let differ = differ.double_value(&[]);
        report.holds(format!("{what} {road}: {differ} of the pixels differ"), differ <= part);
    }
}

fn batch(golden: &Golden, report: &mut Report, case: &Value) {
    let key = text(&case["key"]);
    let what = format!("{key} {} {}", text(&case["kind"]), case["params"]);
    let (x, y) = (golden.tensor("batch.image"), golden.tensor("batch.mask"));
    let plan = plan(golden, case, &x).unfused();
    let theirs = golden.tensor(&format!("{key}.mask"));
    let theirs = if theirs.dim() == 4 { theirs.squeeze_dim(1) } else { theirs };
    if case["params"].get("mode_mask").is_some() {
        let differ = masks_by(&plan, &y)[0].ne_tensor(&theirs).to_kind(Kind::Float);
        report.holds(&what, differ.mean(Kind::Float).double_value(&[]) < 1.0);
        report.differs(&what, "codes are not interpolated: there is no `mode_mask`");
    } else {
        same_masks(report, &what, &plan, &y, &theirs, 0.005);
    }
    // In this case, fastai called its transforms one by one, lighting before the crop.
    let other_order = case["kind"] == "aug_transforms" && !case["rrc"].is_null();
    let image = golden.tensor(&format!("{key}.image"));
    if !other_order
        && plan.passes().all(|p| p.shrunk_size().is_none())
        && case["params"]["mode"] != "nearest"
    {
        let normalized = by_kernel(&plan, &x);
        report.tensor(format!("{what} image"), &normalized, &image, PIXELS);
    }
}

fn datablock(golden: &Golden, report: &mut Report) {
    let db = &golden.json["datablock"];
    let n = db["n"].as_u64().unwrap() as usize;
    let images: Vec<Image> = (0..n).map(|i| image(golden, &format!("db.img{i}"))).collect();
    let masks: Vec<Image> = (0..n).map(|i| image(golden, &format!("db.mask{i}"))).collect();
    let names: Vec<&str> = golden.cases("codes").iter().map(text).collect();
    let resize =
        Resize::hw(crate::replay::size(&db["resize"]).0, crate::replay::size(&db["resize"]).1);
    let (h, w) = crate::replay::size(&db["size"]);
    for side in ["train", "valid"] {
        report.case();
        let about = &db[side];
        let ids: Vec<usize> = numbers(&about["item_ids"]).iter().map(|&i| i as usize).collect();
        let split = if side == "train" { Split::Train } else { Split::Valid };
        let mut replay = Replay::new(&about["item_draws"]);
        let samples: Vec<Sample> = ids
            .iter()
            .map(|&i| {
                let sample = Sample::new(images[i].clone(), Target::Mask(masks[i].clone()));
                resize.sample(sample, split, &mut replay).unwrap()
            })
            .collect();
        for wrong in replay.wrong() {
            report.fail(format!("db {side} draws: {wrong}"));
        }
        let bytes = |of: &dyn Fn(&Sample) -> Image, c: i64| {
            let all: Vec<u8> = samples.iter().flat_map(|s| of(s).into_pixels()).collect();
            let (h, w) = (samples[0].image.height(), samples[0].image.width());
            Tensor::from_slice(&all).view([ids.len() as i64, h.into(), w.into(), c])
        };
        let x = bytes(&|s| s.image.clone(), 3).permute([0, 3, 1, 2]);
        let y = bytes(&|s| mask_of(s.target.clone()), 1).squeeze_dim(3);
        let items = golden.tensor(&format!("db.{side}.items_image"));
        report.exact(format!("db {side} images"), &ints(&x), &ints(&items));
        let items = golden.tensor(&format!("db.{side}.items_mask"));
        report.exact(format!("db {side} masks"), &ints(&y), &ints(&items));
        let (rows, columns) = (x.size()[2] as u32, x.size()[3] as u32);
        let mut plan = Plan::new(ids.len(), (columns, rows), 3);
        let kwargs = serde_json::json!({ "size": [h, w] });
        augmented(golden, &format!("db.{side}"), &kwargs, split, None, &mut plan);
        normalized(&mut plan);
        let theirs = golden.tensor(&format!("db.{side}.x"));
        report.tensor(format!("db {side} x"), &by_kernel(&plan, &floats(&x)), &theirs, NORMALIZED);
        let theirs = golden.tensor(&format!("db.{side}.y"));
        same_masks(report, &format!("db {side} y"), &plan, &y, &theirs, 0.005);
    }
    // The loader itself, which makes no draws here.
    let valid: Vec<usize> = numbers(&db["valid_idx"]).iter().map(|&i| i as usize).collect();
    let block = |mask: MaskBlock| {
        let (images, masks) = (Arc::new(images.clone()), Arc::new(masks.clone()));
        DataBlock::rows(ImageBlock::rgb(), mask)
            .get_x(move |&i: &usize| Ok(images[i].clone()))
            .get_y(move |&i| Ok(masks[i].clone().into()))
            .splitter(IndexSplitter::new(valid.clone()))
            .item_tfms(resize.clone())
            .batch_tfms(Normalize::imagenet())
            .bs(2)
            .num_workers(0)
            .device(Device::Cpu)
    };
    report.case();
    let dls = block(MaskBlock::new(names.clone())).batch_tfms(aug_transforms().size_hw(h, w));
    let dls = dls.dataloaders_from((0..n).collect()).unwrap();
    report.exact("db codes", &dls.task().vocab().iter().map(String::as_str).collect(), &names);
    report.exact("db outputs", &(dls.task().n_out() as u64), &db["get_c"].as_u64().unwrap());
    let batch = dls.valid().one_batch().unwrap();
    report.tensor("db valid loader x", &batch.x, &golden.tensor("db.valid.x"), NORMALIZED);
    let y = batch.y.unwrap();
    report.exact("db valid loader y", &ints(&y), &ints(&golden.tensor("db.valid.y")));
    report.exact("db valid loader kind", &y.kind(), &Kind::Int64);
    report.case();
    let halved = block(MaskBlock::new(names).div_mask(2.0)).dataloaders_from((0..n).collect());
    let y = halved.unwrap().valid().one_batch().unwrap().y.unwrap();
    report.exact("db div_mask", &ints(&y), &ints(&golden.tensor("db.div_mask2.y")));
    let none = MaskBlock::new(Vec::<String>::new()).setup(&mut std::iter::empty());
    report.holds("codes are needed", none.is_err());
    report.holds("the task", matches!(dls.task(), Task::Mask { ignored: None, .. }));
}

fn loss(golden: &Golden, report: &mut Report, case: &Value) {
    let (key, params) = (text(&case["key"]), &case["params"]);
    let what = format!("{key} {}{params}", text(&case["loss"]));
    if case.get("raises").is_some() {
        return;
    }
    let tensor = |name: &str| golden.tensor(&format!("{key}.{name}"));
    let loss = losses::loss(golden, case);
    let pred = tensor("input").set_requires_grad(true);
    let y = tensor("target");
    // fastai's Dice uses the sum by default.
    let default = if case["loss"] == "DiceLoss" { "sum" } else { "mean" };
    let ours = match params.get("reduction").map_or(default, text) {
        "mean" => loss.mean(&pred, &y),
        "sum" => loss.sum(&pred, &y),
        _ => loss.elements(&pred, &y),
    };
    let ours = ours.unwrap();
    let theirs = tensor("expected");
    report.close(&what, &flat(&ours), &flat(&theirs), CLOSE);
    ours.sum(Kind::Float).backward();
    report.tensor(format!("{what} gradient"), &pred.grad(), &tensor("grad_of_sum"), CLOSE);
    let pred = pred.detach();
    report.exact(
        format!("{what} each"),
        &loss.each(&pred, &y).unwrap().size(),
        &vec![pred.size()[0]],
    );
    let activated = loss.activation(&pred).unwrap();
    if golden.has(&format!("{key}.activation")) {
        report.tensor(format!("{what} activation"), &activated, &tensor("activation"), CLOSE);
        let decoded = tensor("decodes_of_activation");
        report.exact(
            format!("{what} decoded"),
            &ints(&loss.decode(&activated).unwrap()),
            &ints(&decoded),
        );
    }
    let built = loss.spec().map(|spec| spec.build());
    report.holds(format!("{what} as data"), built.is_some_and(|b| b.spec() == loss.spec()));
}

fn metric(golden: &Golden, report: &mut Report, case: &Value) {
    let (name, data) = (text(&case["metric"]), text(&case["data"]));
    let what = format!("{name}{} on {data}", case["params"]);
    let mut metric = metrics::named(name, &case["params"]);
    let batches = metrics::batches(golden, &format!("metric.{data}"));
    for (pred, y) in &batches {
        let y = if case["target_has_channel_axis"] == true {
            y.unsqueeze(1)
        } else {
            y.shallow_clone()
        };
        metric.update(pred, &y).unwrap();
    }
    let (ours, theirs) = (metric.value().unwrap(), number(&case["value"]));
    let classes = batches[0].0.size()[1];
    match name {
        "Dice" | "JaccardCoeff" if classes > 2 => {
            report.holds(&what, ours.is_some_and(|v| (0.0..=1.0).contains(&v)));
            report.differs(what, "the foreground is every class but the first, never above 1");
        }
        "foreground_acc" if theirs.is_nan() => {
            report.holds(&what, ours.is_some_and(f64::is_finite));
            report.differs(what, "batches without foreground do not count");
        }
        _ => report.close(&what, &[ours.unwrap_or(f64::NAN)], &[theirs], CLOSE),
    }
}
