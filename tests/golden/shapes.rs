//! Points and boxes: transforms, a data block with its loaders, COCO annotations.

use crate::{
    frame::{Golden, Report, Tol, flat, ints, numbers},
    replay::{Replay, image, size},
    spatial::{augmented, plan, split, text, transformed},
};
use finetune::{
    data::{
        BBoxBlock, BBoxLblBlock, DataBlock, DataLoaders, ImageBlock, IndexSplitter, NA, PointBlock,
        TargetBlock, get_annotations,
    },
    image::Image,
    loss::{Loss, PointMse},
    sample::{BBox, Point, Sample, Split, Target},
    transform::{Plan, Resize, aug_transforms, clip_boxes},
};
use serde_json::{Value, json};
use std::sync::Arc;
use tch::{Device, Tensor};

const ITEMS: Tol = Tol { rtol: 0.0, atol: 2e-6 };
const BATCH: Tol = Tol { rtol: 0.0, atol: 5e-6 };
const WARPED: Tol = Tol { rtol: 2e-6, atol: 2e-5 };
const CLOSE: Tol = Tol { rtol: 1e-5, atol: 1e-6 };

/// Points or boxes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Points,
    Boxes,
}

pub(crate) fn check_points(golden: &Golden, report: &mut Report) {
    both(golden, report, What::Points);
    points_block(golden, report);
    report.case();
    let (pred, y) =
        (golden.tensor("loss.input").set_requires_grad(true), golden.tensor("loss.target"));
    let loss = PointMse.mean(&pred, &y).unwrap();
    report.tensor("loss", &loss, &golden.tensor("loss.expected"), CLOSE);
    loss.backward();
    report.tensor("loss gradient", &pred.grad(), &golden.tensor("loss.grad"), CLOSE);
}

pub(crate) fn check_boxes(golden: &Golden, report: &mut Report) {
    both(golden, report, What::Boxes);
    clipping(golden, report);
    annotations(golden, report);
    boxes_block(golden, report);
}

/// Converts rows of coordinates in pixels to a target.
fn target(what: What, rows: &[f64]) -> Target {
    let rows: Vec<f32> = rows.iter().map(|&v| v as f32).collect();
    match what {
        What::Points => {
            Target::Points(rows.chunks_exact(2).map(|p| Point::new(p[0], p[1])).collect())
        }
        What::Boxes => Target::Boxes(
            rows.chunks_exact(4).map(|b| BBox::new([b[0], b[1], b[2], b[3]], 0)).collect(),
        ),
    }
}

fn coordinates(target: &Target) -> Vec<f64> {
    let all: Vec<f32> = match target {
        Target::Points(points) => points.iter().flat_map(|p| [p.x, p.y]).collect(),
        Target::Boxes(boxes) => boxes.iter().flat_map(BBox::corners).collect(),
        other => panic!("{other:?}"),
    };
    all.into_iter().map(f64::from).collect()
}

/// Converts pixels of an image of (width, height) to -1..1.
fn scaled(pixels: &[f64], (w, h): (u32, u32)) -> Vec<f64> {
    let sides = [f64::from(w), f64::from(h)];
    pixels.iter().enumerate().map(|(i, v)| v * 2.0 / sides[i % 2] - 1.0).collect()
}

fn pixels(scaled: &[f64], (w, h): (u32, u32)) -> Vec<f64> {
    let sides = [f64::from(w), f64::from(h)];
    scaled.iter().enumerate().map(|(i, v)| (v + 1.0) * sides[i % 2] / 2.0).collect()
}

fn both(golden: &Golden, report: &mut Report, what: What) {
    for case in golden.cases("items") {
        report.case();
        item(golden, report, what, case);
    }
    for case in golden.cases("batch") {
        report.case();
        batch(golden, report, what, case);
    }
}

/// Returns the steps of a case: the names of the transforms with their arguments.
fn steps(case: &Value) -> Vec<(&str, Value)> {
    let params = &case["params"];
    let kinds: Vec<&str> = text(&case["kind"]).split('+').filter(|k| *k != "PointScaler").collect();
    let one = |(i, kind): (usize, &&str)| match params.get("sizes") {
        Some(sizes) => json!({ "size": sizes[i] }),
        None if kinds.len() > 1 && *kind == "DihedralItem" => json!({}),
        None => params.clone(),
    };
    let all: Vec<Value> = kinds.iter().enumerate().map(one).collect();
    kinds.into_iter().zip(all).collect()
}

fn item(golden: &Golden, report: &mut Report, what: What, case: &Value) {
    let (key, kind) = (text(&case["key"]), text(&case["kind"]));
    let name = format!("{key} {kind}{}", case["params"]);
    let set = if what == What::Points { "points" } else { "boxes" };
    let of = text(&case["image"]);
    let rows = flat(&golden.tensor(&format!("{set}.{of}")));
    let from = image(golden, &format!("img.{of}"));
    let whole = (from.width(), from.height());
    let mut sample = Sample::new(from, target(what, &rows));
    let mut replay = Replay::new(&case["draws"]);
    for (kind, params) in steps(case) {
        sample = transformed(kind, &params, split(case), sample, &mut replay).unwrap();
    }
    let after = (sample.image.width(), sample.image.height());
    let ours = scaled(&coordinates(&sample.target), after);
    // The placement maps the result back to the original points.
    let placement = sample.placement().unwrap();
    if what == What::Points {
        let back: Vec<f64> = coordinates(&sample.target)
            .chunks(2)
            .flat_map(|p| <[f64; 2]>::from(placement.to_original(p[0], p[1])))
            .collect();
        report.close(format!("{name} back"), &back, &rows, Tol { rtol: 1e-5, atol: 1e-4 });
        report.exact(format!("{name} original"), &placement.original_size(), &whole);
    }
    let scaled_first = case["scaled"] == true;
    let wrong_size = matches!(
        kind,
        "Resize+Resize" | "Resize+CropPad" | "FlipItem+Resize" | "DihedralItem+Resize"
    ) || (kind == "RandomResizedCrop" && split(case) == Split::Valid);
    // fastai draws again for the target, which then gets another part than the image.
    let redrawn = kind == "RatioResize";
    let unsorted = what == What::Boxes && kind == "FlipItem";
    if case.get("raises").is_some() || !scaled_first || wrong_size || unsorted || redrawn {
        // The correct result follows from the placement: the corners of the image are at the corners of
        // the part that is shown.
        let right = |v: &[f64]| {
            let (x, y) = placement.from_original(v[0], v[1]);
            [x, y]
        };
        let moved: Vec<f64> = match what {
            What::Points => rows.chunks(2).flat_map(right).collect(),
            What::Boxes => rows
                .chunks(4)
                .flat_map(|b| {
                    let (p, q) = (right(&b[..2]), right(&b[2..]));
                    [p[0].min(q[0]), p[1].min(q[1]), p[0].max(q[0]), p[1].max(q[1])]
                })
                .collect(),
        };
        report.close(format!("{name} right"), &ours, &scaled(&moved, after), ITEMS);
        let why = match () {
            () if unsorted => "the corners of a mirrored box stay in order",
            () if redrawn => "one draw is for the image and its target",
            () if wrong_size => "each transform knows the size of its own input",
            () => "pixels and scaled coordinates cannot be confused",
        };
        report.differs(name, why);
        return;
    }
    for wrong in replay.wrong() {
        report.fail(format!("{name} draws: {wrong}"));
    }
    let theirs = flat(&golden.tensor(&format!("{key}.expected")));
    report.close(&name, &ours, &theirs, ITEMS);
}

fn warped(plan: &Plan) -> bool {
    plan.images.iter().any(|i| i.warp != finetune::transform::Matrix::ONE)
}

fn batch(golden: &Golden, report: &mut Report, what: What, case: &Value) {
    let key = text(&case["key"]);
    let name = format!("{key} {}{}", text(&case["kind"]), case["params"]);
    let x = golden.tensor("batch.image");
    let set = if what == What::Points { "batch.points" } else { "batch.boxes" };
    let rows = golden.tensor(set);
    let (n, _, h, w) = x.size4().unwrap();
    let from = (w as u32, h as u32);
    let plan = plan(golden, case, &x);
    let to = plan.size_so_far();
    let mut ours: Vec<f64> = vec![];
    for i in 0..n {
        let own = pixels(&flat(&rows.get(i)), from);
        let moved = match target(what, &own) {
            Target::Points(mut points) => {
                plan.move_points(i as usize, &mut points);
                Target::Points(points)
            }
            Target::Boxes(boxes) => Target::Boxes(plan.move_boxes(i as usize, boxes)),
            other => other,
        };
        ours.extend(scaled(&coordinates(&moved), to));
    }
    if let Some(part) = plan.part() {
        // The corners of the image come from the corners of the part.
        let corner =
            |x: f64, y: f64| [x * f64::from(part.width) / 2.0, y * f64::from(part.height) / 2.0];
        let mut right: Vec<f64> = vec![];
        for i in 0..n {
            let own = pixels(&flat(&rows.get(i)), from);
            let shift = |v: &[f64]| {
                let half = corner(1.0, 1.0);
                [
                    (v[0] - f64::from(part.left) - half[0]) / half[0],
                    (v[1] - f64::from(part.top) - half[1]) / half[1],
                ]
            };
            match what {
                What::Points => right.extend(own.chunks(2).flat_map(shift)),
                What::Boxes => {
                    for b in own.chunks(4) {
                        let (p, q) = (shift(&b[..2]), shift(&b[2..]));
                        let cut = [p[0], p[1], q[0], q[1]].map(|v| v.clamp(-1.0, 1.0));
                        if cut[2] > cut[0] && cut[3] > cut[1] {
                            right.extend(cut);
                        }
                    }
                }
            }
        }
        report.close(format!("{name} right"), &ours, &right, BATCH);
        report.differs(
            name,
            "crops of batches move points and boxes; fastai's slices the coordinates",
        );
        return;
    }
    let theirs = flat(&golden.tensor(&format!("{key}.expected")));
    report.close(&name, &ours, &theirs, if warped(&plan) { WARPED } else { BATCH });
}

/// Returns the images of the data block, and its validation indices.
fn pictures(golden: &Golden) -> (Vec<Image>, Vec<usize>) {
    let db = &golden.json["datablock"];
    let n = db["n"].as_u64().unwrap();
    let images = (0..n).map(|i| image(golden, &format!("db.img{i}"))).collect();
    (images, numbers(&db["valid_idx"]).iter().map(|&i| i as usize).collect())
}

fn loaders<Y: TargetBlock>(
    golden: &Golden,
    block: Y,
    labels: Vec<Y::Label>,
    resize: Resize,
    augment: bool,
) -> DataLoaders
where
    Y::Label: Clone,
{
    let (images, valid) = pictures(golden);
    let n = images.len();
    let (h, w) = size(&golden.json["datablock"]["size"]);
    let (images, labels) = (Arc::new(images), Arc::new(labels));
    let block = DataBlock::rows(ImageBlock::rgb(), block)
        .get_x(move |&i: &usize| Ok(images[i].clone()))
        .get_y(move |&i| Ok(labels[i].clone()))
        .splitter(IndexSplitter::new(valid))
        .item_tfms(resize)
        .bs(4)
        .num_workers(0)
        .drop_last(false)
        .device(Device::Cpu);
    let block = if augment { block.batch_tfms(aug_transforms().size_hw(h, w)) } else { block };
    block.dataloaders_from((0..n).collect()).unwrap()
}

/// Returns the samples of one split after `Resize`, with fastai's draws, and the plan of their batch.
fn drawn_side(
    golden: &Golden,
    report: &mut Report,
    side: &str,
    target: impl Fn(usize) -> Target,
) -> (Vec<Sample>, Plan) {
    let db = &golden.json["datablock"];
    let (images, _) = pictures(golden);
    let split = if side == "train" { Split::Train } else { Split::Valid };
    let (rh, rw) = size(&db["resize"]);
    let resize = Resize::hw(rh, rw);
    let mut replay = Replay::new(&db[side]["item_draws"]);
    let ids = numbers(&db[side]["item_ids"]);
    let samples: Vec<Sample> = ids
        .iter()
        .map(|&i| {
            let i = i as usize;
            resize.sample(Sample::new(images[i].clone(), target(i)), split, &mut replay).unwrap()
        })
        .collect();
    for wrong in replay.wrong() {
        report.fail(format!("db {side} draws: {wrong}"));
    }
    let mut plan = Plan::new(samples.len(), (rw, rh), 3);
    let (h, w) = size(&db["size"]);
    let kwargs = json!({ "size": [h, w] });
    augmented(golden, &format!("db.{side}"), &kwargs, split, None, &mut plan);
    (samples, plan)
}

fn points_block(golden: &Golden, report: &mut Report) {
    let db = &golden.json["datablock"];
    let labels: Vec<Vec<f64>> = db["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|points| points.as_array().unwrap().iter().flat_map(numbers).collect())
        .collect();
    for side in ["train", "valid"] {
        report.case();
        let of = |i: usize| target(What::Points, &labels[i]);
        let (samples, plan) = drawn_side(golden, report, side, of);
        let mut all = vec![];
        for (j, sample) in samples.into_iter().enumerate() {
            let size = (sample.image.width(), sample.image.height());
            let ours = scaled(&coordinates(&sample.target), size);
            let theirs = flat(&golden.tensor(&format!("db.{side}.item{j}.coords")));
            report.close(format!("db {side} item {j}"), &ours, &theirs, ITEMS);
            let Target::Points(mut points) = sample.target else { panic!() };
            plan.move_points(j, &mut points);
            all.extend(scaled(&coordinates(&Target::Points(points)), plan.size_so_far()));
        }
        let theirs = flat(&golden.tensor(&format!("db.{side}.y")));
        report.close(format!("db {side} y"), &all, &theirs, WARPED);
    }
    report.case();
    let points = |row: &Vec<f64>| match target(What::Points, row) {
        Target::Points(points) => points,
        other => panic!("{other:?}"),
    };
    let n = labels[0].len() / 2;
    let all: Vec<Vec<Point>> = labels.iter().map(points).collect();
    let (rh, rw) = size(&db["resize"]);
    let dls = loaders(golden, PointBlock::new(n), all, Resize::hw(rh, rw), true);
    report.exact("db outputs", &(dls.task().n_out() as u64), &db["get_c"].as_u64().unwrap());
    let batch = dls.valid().one_batch().unwrap();
    let y = batch.y.unwrap();
    report.tensor("db valid loader", &y, &golden.tensor("db.valid.y"), BATCH);
    // In pixels of the file; fastai's decoding returns pixels of the network's input.
    for (i, (&item, placement)) in batch.items.iter().zip(&batch.placements).enumerate() {
        let placement = placement.as_ref().unwrap();
        let own = pixels(&flat(&y.get(i as i64)), placement.size());
        let back: Vec<f64> = own
            .chunks(2)
            .flat_map(|p| <[f64; 2]>::from(placement.to_original(p[0], p[1])))
            .collect();
        report.close(
            format!("db original {i}"),
            &back,
            &labels[item],
            Tol { rtol: 0.0, atol: 1e-3 },
        );
        let theirs = flat(&golden.tensor(&format!("db.valid.decoded{i}.coords")));
        report.close(format!("db decoded {i}"), &own, &theirs, Tol { rtol: 0.0, atol: 1e-4 });
    }
}

fn clipping(golden: &Golden, report: &mut Report) {
    for case in golden.cases("clip_remove_empty") {
        report.case();
        let key = text(&case["key"]);
        let of = |name: &str| flat(&golden.tensor(&format!("{key}.{name}")));
        let labels = of("labels");
        let (rows, size) = (of("boxes"), (2, 2));
        let boxes: Vec<BBox> = pixels(&rows, size)
            .chunks(4)
            .zip(&labels)
            .map(|(b, &l)| {
                BBox::new([b[0] as f32, b[1] as f32, b[2] as f32, b[3] as f32], l as usize)
            })
            .collect();
        let ours = clip_boxes(boxes, size);
        // fastai keeps boxes with both corners exchanged; here they are label errors.
        let (mut theirs, mut names) = (vec![], vec![]);
        for (b, &l) in of("out_boxes").chunks(4).zip(&of("out_labels")) {
            if b[2] > b[0] && b[3] > b[1] {
                theirs.extend_from_slice(b);
                names.push(l as usize);
            } else {
                report.differs(format!("{key} {b:?}"), "inverted boxes are errors");
            }
        }
        let kept: Vec<usize> = ours.iter().map(|b| b.class).collect();
        report.exact(format!("{key} classes"), &kept, &names);
        let ours = scaled(&coordinates(&Target::Boxes(ours)), size);
        report.close(format!("{key} boxes"), &ours, &theirs, ITEMS);
    }
}

fn annotations(golden: &Golden, report: &mut Report) {
    report.case();
    let about = &golden.json["get_annotations"];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coco.json");
    std::fs::write(&file, text(&about["json"])).unwrap();
    let ours = get_annotations(&file, "").unwrap();
    let names: Vec<&str> = about["files"].as_array().unwrap().iter().map(text).collect();
    let own: Vec<String> = ours.iter().map(|a| a.file.display().to_string()).collect();
    report.exact("get_annotations files", &own, &names.iter().map(ToString::to_string).collect());
    for (a, theirs) in ours.iter().zip(about["labelled_boxes"].as_array().unwrap()) {
        let labels: Vec<&str> = theirs["labels"].as_array().unwrap().iter().map(text).collect();
        report.exact(
            "get_annotations labels",
            &a.labels.iter().map(String::as_str).collect(),
            &labels,
        );
        let boxes: Vec<f64> = theirs["bbox"].as_array().unwrap().iter().flat_map(numbers).collect();
        let own: Vec<f64> = a.boxes.iter().flatten().map(|&v| f64::from(v)).collect();
        report.close("get_annotations boxes", &own, &boxes, CLOSE);
    }
    let with = get_annotations(&file, "train/").unwrap();
    let own: Vec<String> = with.iter().map(|a| a.file.display().to_string()).collect();
    let theirs: Vec<String> =
        about["files_with_prefix"].as_array().unwrap().iter().map(|v| text(v).to_owned()).collect();
    report.exact("get_annotations prefix", &own, &theirs);
}

fn boxes_block(golden: &Golden, report: &mut Report) {
    let db = &golden.json["datablock"];
    let boxes: Vec<Vec<f64>> = db["boxes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|all| all.as_array().unwrap().iter().flat_map(numbers).collect())
        .collect();
    let names: Vec<Vec<String>> = db["labels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|all| all.as_array().unwrap().iter().map(|v| text(v).to_owned()).collect())
        .collect();
    let labels: Vec<(Vec<[f32; 4]>, Vec<String>)> = boxes
        .iter()
        .zip(&names)
        .map(|(b, l)| {
            let corners = b.chunks(4).map(|b| [b[0] as f32, b[1] as f32, b[2] as f32, b[3] as f32]);
            (corners.collect(), l.clone())
        })
        .collect();
    for side in ["train", "valid"] {
        report.case();
        let of = |i: usize| target(What::Boxes, &boxes[i]);
        let (samples, plan) = drawn_side(golden, report, side, of);
        let theirs = golden.tensor(&format!("db.{side}.y"));
        for (j, sample) in samples.into_iter().enumerate() {
            let size = (sample.image.width(), sample.image.height());
            let item = flat(&golden.tensor(&format!("db.{side}.item{j}.coords")));
            let ours = scaled(&coordinates(&sample.target), size);
            report.close(format!("db {side} item {j}"), &ours, &item, ITEMS);
            let Target::Boxes(boxes) = sample.target else { panic!() };
            let moved = plan.move_boxes(j, clip_boxes(boxes, size));
            let n = moved.len();
            let ours = scaled(&coordinates(&Target::Boxes(moved)), plan.size_so_far());
            // fastai moves the padding; here it stays zero.
            let own = flat(&theirs.get(j as i64).narrow(0, 0, n as i64));
            report.close(format!("db {side} boxes {j}"), &ours, &own, WARPED);
        }
    }
    let resize = |size_of: &Value| {
        let (h, w) = size(size_of);
        Resize::hw(h, w)
    };
    report.case();
    let block = (BBoxBlock::new(), BBoxLblBlock::new());
    let dls = loaders(golden, block, labels.clone(), resize(&db["resize"]), true);
    let vocab: Vec<String> =
        db["vocab"].as_array().unwrap().iter().map(|v| text(v).to_owned()).collect();
    report.exact("db vocab", &dls.task().vocab().to_vec(), &vocab);
    let batch = dls.valid().one_batch().unwrap();
    let theirs = golden.tensor("db.valid.z");
    let classes = batch.labels.unwrap();
    report.exact("db valid classes", &ints(&classes), &ints(&theirs));
    let y = batch.y.unwrap();
    let real = classes.ne(0).unsqueeze(-1).to_kind(tch::Kind::Float);
    let padding: Tensor = &y * (real.ones_like() - &real);
    let padding = padding.abs().max().double_value(&[]);
    report.holds("db padding is zero", padding == 0.0);
    report.tensor("db valid boxes", &(y * &real), &(golden.tensor("db.valid.y") * &real), BATCH);
    report.differs("db padding", "rows of padding stay zeros, where fastai's transforms move them");
    for variant in db["variants"].as_array().unwrap() {
        report.case();
        variant_of(golden, report, variant, &labels);
    }
}

/// Compares other vocabularies, paddings and transforms, in validation, which makes no draws.
fn variant_of(
    golden: &Golden,
    report: &mut Report,
    variant: &Value,
    labels: &[(Vec<[f32; 4]>, Vec<String>)],
) {
    let (key, what) = (text(&variant["key"]), text(&variant["what"]));
    if variant["loader"] != "valid" {
        return;
    }
    let classes = match what {
        "add_na_false" => BBoxLblBlock::new().add_na(false),
        "given_vocab" => {
            let given = variant["vocab"].as_array().unwrap().iter().map(text);
            BBoxLblBlock::new().vocab(given.filter(|name| *name != NA))
        }
        _ => BBoxLblBlock::new(),
    };
    let resize = match what {
        "pad_zeros" => Resize::new(24)
            .method(finetune::transform::Method::Pad)
            .pad_mode(finetune::image::PadMode::Zeros),
        "add_na_false" | "given_vocab" | "FlipItem_Resize" => Resize::new(24),
        _ => {
            let why =
                "item flips, crops of batches and second sizes: fastai's boxes vanish or fail";
            report.differs(format!("{key} {what}"), why);
            return;
        }
    };
    let dls = loaders(golden, (BBoxBlock::new(), classes), labels.to_vec(), resize, false);
    let vocab: Vec<String> =
        variant["vocab"].as_array().unwrap().iter().map(|v| text(v).to_owned()).collect();
    report.exact(format!("{key} vocab"), &dls.task().vocab().to_vec(), &vocab);
    let batch = dls.valid().one_batch().unwrap();
    let theirs = golden.tensor(&format!("{key}.labels"));
    report.exact(format!("{key} {what} classes"), &ints(&batch.labels.unwrap()), &ints(&theirs));
    let theirs: Tensor = golden.tensor(&format!("{key}.boxes"));
    report.tensor(format!("{key} {what} boxes"), &batch.y.unwrap(), &theirs, ITEMS);
}
