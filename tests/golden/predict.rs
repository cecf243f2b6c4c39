//! Predictions of real files with a data block: on any loader, augmented, for every kind of target.

use crate::{
    frame::{Golden, Report, Tol, flat, ints, number, numbers},
    tiny::{classes, tiny},
};
use finetune::{
    Result,
    data::{
        Arrays, CategoryBlock, DataBlock, DataLoaders, ImageBlock, IndexSplitter, LoaderOptions,
        MultiCategoryBlock, RegexLabeller, RegressionBlock, TargetBlock, using_name,
    },
    image::Image,
    learner::{Learner, OneCycle, PredictOptions, Predictions, Tta},
    loss::{BceWithLogits, CrossEntropy, Loss, Mse},
    metric::{Mean, accuracy},
    sample::{Sample, Split, Target},
    seed::Rng,
    transform::{ItemTransform, Normalize, Resize, aug_transforms},
};
use serde_json::Value;
use std::{fs, path::PathBuf};
use tch::{Device, Kind, Tensor};

const PREDS: Tol = Tol { rtol: 0.0, atol: 1e-5 };
const INPUTS: Tol = Tol { rtol: 0.0, atol: 2e-5 };

pub(crate) fn check(g: &Golden, r: &mut Report) {
    let set = Set::new(g);
    set.valid(r);
    set.get_preds(r);
    set.predict(r);
    set.test_dl(r);
    set.tta(r);
    set.multi(r);
    set.regression(r);
    set.end_to_end(r);
    batching(g, r);
    orders(r);
}

/// The files of the topic, written to a folder.
struct Set<'a> {
    g: &'a Golden,
    _folder: tempfile::TempDir,
    /// Training and validation items, followed by test items.
    files: Vec<PathBuf>,
    n_items: usize,
    valid: Vec<usize>,
    n_classes: i64,
    salt: u32,
}

/// Returns the numbers in a text, in order.
fn inside(text: &str) -> Vec<f64> {
    let number = regex::Regex::new(r"\d*\.?\d+").unwrap();
    number.find_iter(text).map(|m| m.as_str().parse().unwrap()).collect()
}

fn texts(v: &Value) -> Vec<String> {
    serde_json::from_value(v.clone()).unwrap()
}

impl<'a> Set<'a> {
    fn new(g: &'a Golden) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let items = texts(&g.json["items"]);
        let (n_items, all) = (items.len(), [items, texts(&g.json["test_items"])].concat());
        let write = |(i, name): (usize, &String)| {
            let pixels = g.tensor(&format!("img.{i:02}"));
            let (h, w, _) = pixels.size3().unwrap();
            let bytes: Vec<u8> = Vec::try_from(&pixels.contiguous().view([-1])).unwrap();
            let path = folder.path().join(name);
            let rgb = image::ColorType::Rgb8;
            image::save_buffer(&path, &bytes, w as u32, h as u32, rgb).unwrap();
            path
        };
        Self {
            files: all.iter().enumerate().map(write).collect(),
            n_items,
            valid: serde_json::from_value(g.json["valid_idx"].clone()).unwrap(),
            n_classes: g.json["vocab"].as_array().unwrap().len() as i64,
            salt: g.json["salt"].as_u64().unwrap() as u32,
            g,
            _folder: folder,
        }
    }

    fn items(&self) -> Vec<PathBuf> {
        self.files[..self.n_items].to_vec()
    }

    fn resize(&self) -> Resize {
        Resize::new(inside(self.g.json["item_tfms"].as_str().unwrap())[0] as u32)
    }

    fn bs(&self) -> usize {
        self.g.json["batch_size"].as_u64().unwrap() as usize
    }

    fn block(&self) -> DataBlock<CategoryBlock> {
        let pattern = self.g.json["label_pattern"].as_str().unwrap();
        DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
            .splitter(IndexSplitter::new(self.valid.clone()))
            .get_y(using_name(RegexLabeller::new(pattern).unwrap()))
            .bs(self.bs())
            .num_workers(0)
            .device(Device::Cpu)
    }

    fn learner(&self, dls: DataLoaders) -> Learner {
        let model = tiny(self.n_classes, self.salt);
        Learner::new(dls, model, CrossEntropy::new()).unwrap().metric(accuracy()).quiet()
    }

    /// Creates a learner with the augmentation of the topic.
    fn augmented(&self) -> Learner {
        let says = inside(self.g.json["batch_tfms"].as_str().unwrap());
        let augment = aug_transforms().size(says[0] as u32).min_scale(says[1]);
        let block = self.block().item_tfms(self.resize()).batch_tfms(augment);
        let dls = block.batch_tfms(Normalize::imagenet()).dataloaders_from(self.items()).unwrap();
        self.learner(dls)
    }

    fn close(&self, r: &mut Report, key: &str, preds: &Predictions) {
        let ours: Vec<f64> = preds.preds.iter().map(|v| f64::from(*v)).collect();
        r.close(key, &ours, &flat(&self.g.tensor(key)), PREDS);
    }

    fn valid(&self, r: &mut Report) {
        r.case();
        let mut learn = self.augmented();
        r.exact("vocab", learn.dls().task().vocab(), texts(&self.g.json["vocab"]).as_slice());
        let batches: Vec<_> = learn.dls().valid().batches(0).map(Result::unwrap).collect();
        r.exact(
            "valid batches",
            &(batches.len() as u64),
            &self.g.json["valid_n_batches"].as_u64().unwrap(),
        );
        for (i, batch) in batches.iter().enumerate() {
            let of = |what: &str| self.g.tensor(&format!("valid.batch{i}.{what}"));
            r.tensor(format!("valid.batch{i}.x"), &batch.x, &of("x"), INPUTS);
            r.exact(format!("valid.batch{i}.y"), &ints(batch.y.as_ref().unwrap()), &ints(&of("y")));
        }
        let ours: Vec<f64> = learn.validate().unwrap().iter().filter_map(|(_, v)| *v).collect();
        r.close("validate", &ours, &numbers(&self.g.json["validate"]), PREDS);
        let defaults = &self.g.json["dataloaders_defaults"];
        for (name, loader) in [("train", learn.dls().train()), ("valid", learn.dls().valid())] {
            let theirs = |what: &str| defaults[name][what].as_u64().unwrap() as usize;
            r.exact(format!("{name} batches"), &loader.num_batches(), &theirs("n_batches"));
            r.exact(format!("{name} bs"), &loader.bs(), &theirs("bs"));
        }
    }

    fn get_preds(&self, r: &mut Report) {
        r.case();
        let mut learn = self.augmented();
        let kept = learn.get_preds_with(&PredictOptions::new().inputs(true)).unwrap();
        self.close(r, "get_preds.preds", &kept);
        let inputs: Vec<f64> = kept.inputs.iter().flatten().map(|v| f64::from(*v)).collect();
        r.close("get_preds.inputs", &inputs, &flat(&self.g.tensor("get_preds.inputs")), INPUTS);
        let losses: Vec<f64> = kept.losses.iter().map(|v| f64::from(*v)).collect();
        r.close("get_preds.losses", &losses, &flat(&self.g.tensor("get_preds.losses")), PREDS);
        for (key, ours) in [("targs", &kept.targets), ("decoded", &kept.decoded)] {
            let theirs = ints(&self.g.tensor(&format!("get_preds.{key}")));
            r.exact(format!("get_preds.{key}"), &classes_of(ours), &theirs);
        }
        let raw = learn.get_preds_with(&PredictOptions::new().activation(false)).unwrap();
        let theirs = flat(&self.g.tensor("get_preds.raw_act_noop"));
        let ours: Vec<f64> = raw.preds.iter().map(|v| f64::from(*v)).collect();
        r.close("get_preds.raw_act_noop", &ours, &theirs, PREDS);
        r.exact("decoded without activation", &raw.decoded, &kept.decoded);

        r.case();
        let shuffled = learn.dls().valid().with(LoaderOptions::new().shuffle(true)).unwrap();
        let reordered = learn.get_preds_on(&shuffled).unwrap();
        self.close(r, "get_preds.preds", &reordered);
        r.exact("a shuffling loader is put back into order", &reordered.targets, &kept.targets);

        r.case();
        let train = learn.dls().train().clone();
        let (a, b) = (learn.get_preds_on(&train).unwrap(), learn.get_preds_on(&train).unwrap());
        let theirs = &self.g.json["get_preds_on_train_set_is_augmented"];
        r.exact("train items", &(a.len() as u64), &theirs["n"].as_u64().unwrap());
        r.exact("train order", a.items.as_slice(), train.items());
        r.exact("two calls", &a.preds, &b.preds);
        let plain = train.with(LoaderOptions::new().split(Split::Valid)).unwrap();
        let plain = learn.get_preds_on(&plain).unwrap();
        r.holds("the training loader augments", a.preds != plain.preds);
        r.differs("get_preds on the training set", "augmented as there, but the same each time");
    }

    fn predict(&self, r: &mut Report) {
        let mut learn = self.augmented();
        for case in self.g.cases("predict") {
            r.case();
            let key = case["key"].as_str().unwrap();
            let path =
                self.files.iter().find(|f| f.ends_with(case["item"].as_str().unwrap())).unwrap();
            let (picture, said) = learn.predict_with_input(path).unwrap();
            let probs: Vec<f64> = said.probs.iter().map(|v| f64::from(*v)).collect();
            let of = |what: &str| self.g.tensor(&format!("{key}.{what}"));
            r.close(format!("{key}.probs"), &probs, &flat(&of("probs")), PREDS);
            r.exact(format!("{key}.label"), said.label.as_str(), case["label"].as_str().unwrap());
            r.exact(format!("{key}.index"), &(said.index as u64), &case["index"].as_u64().unwrap());
            let theirs = of("with_input.decoded_image").permute([1, 2, 0]);
            let pixels: Vec<f64> = picture.pixels().iter().map(|v| f64::from(*v)).collect();
            let level = Tol { rtol: 0.0, atol: 1.0 };
            r.close(format!("{key}.decoded_image"), &pixels, &flat(&theirs), level);
            let bytes = fs::read(path).unwrap();
            r.exact(format!("{key} of bytes"), &learn.predict(bytes).unwrap(), &said);
            let image = g_image(self.g, case["image"].as_str().unwrap());
            r.exact(format!("{key} of an image"), &learn.predict(image).unwrap(), &said);
        }
    }

    fn test_dl(&self, r: &mut Report) {
        let mut learn = self.augmented();
        let theirs = &self.g.json["test_dl"];
        let test = &self.files[self.n_items..];
        r.case();
        let loader = learn.dls().test_dl(test).unwrap();
        let batches: Vec<_> = loader.batches(0).map(Result::unwrap).collect();
        for (i, batch) in batches.iter().enumerate() {
            let name = format!("test_dl.batch{i}.x");
            r.tensor(&name, &batch.x, &self.g.tensor(&name), INPUTS);
            r.holds("no targets", batch.y.is_none() == theirs["targs_is_none"].as_bool().unwrap());
        }
        r.exact(
            "test_dl batches",
            &(loader.num_batches() as u64),
            &theirs["n_batches"].as_u64().unwrap(),
        );
        r.exact("test_dl bs", &(loader.bs() as u64), &theirs["bs"].as_u64().unwrap());
        let preds = learn.get_preds_on(&loader).unwrap();
        self.close(r, "test_dl.preds", &preds);
        r.holds(
            "no targets and losses",
            preds.losses.is_empty() && preds.targets[0] == Target::None,
        );
        r.differs("test_dl, losses", "items without labels have none; fastai raises IndexError");
        let two = loader.with(LoaderOptions::new().bs(2)).unwrap();
        let decoded = classes_of(&learn.get_preds_on(&two).unwrap().decoded);
        r.exact("test_dl_bs2.decoded", &decoded, &ints(&self.g.tensor("test_dl_bs2.decoded")));
        let images =
            (self.n_items..self.files.len()).map(|i| g_image(self.g, &format!("img.{i:02}")));
        let loader = learn.dls().test_dl(images).unwrap();
        self.close(r, "test_dl.preds", &learn.get_preds_on(&loader).unwrap());
        r.case();
        let n = self.g.tensor("test_dl_labelled.targs").size()[0] as usize;
        let labeled = learn.dls().test_dl_labeled(self.files[..n].to_vec()).unwrap();
        let preds = learn.get_preds_on(&labeled).unwrap();
        self.close(r, "test_dl_labelled.preds", &preds);
        let targets = ints(&self.g.tensor("test_dl_labelled.targs"));
        r.exact("test_dl_labelled.targs", &classes_of(&preds.targets), &targets);
        let values = learn.validate_on(&labeled).unwrap();
        let mean = preds.losses.iter().map(|l| f64::from(*l)).sum::<f64>() / n as f64;
        r.close("validate on any loader", &[values[0].1.unwrap()], &[mean], PREDS);
    }

    fn tta(&self, r: &mut Report) {
        let mut learn = self.augmented();
        for case in self.g.cases("tta") {
            r.case();
            let key = case["key"].as_str().unwrap();
            let kwargs = &case["kwargs"];
            let default = |name: &str| number(&case["defaults"][name]);
            let n = kwargs.get("n").map_or_else(|| default("n"), number) as usize;
            let beta = kwargs.get("beta").filter(|b| !b.is_null()).map(number);
            let how = Tta::new().n(n).beta(beta.unwrap_or_else(|| default("beta")));
            let how = how.use_max(kwargs.get("use_max") == Some(&Value::Bool(true)));
            let passes = case["n_passes"].as_u64().unwrap() as usize;
            r.exact(format!("{key}: passes"), &passes, &(n + 1));
            let mut said = vec![];
            for i in 0..passes {
                let x = self.g.tensor(&format!("{key}.pass{i}.x"));
                let pred = tch::no_grad(|| learn.model().forward(&x, false)).unwrap();
                let name = format!("{key}.pass{i}.preds");
                r.tensor(
                    &name,
                    &CrossEntropy::new().activation(&pred).unwrap(),
                    &self.g.tensor(&name),
                    PREDS,
                );
                said.push(matrix(&self.g.tensor(&name)));
            }
            let plain = said.pop().unwrap();
            let close = |r: &mut Report, name: &str, ours: &ndarray::Array2<f32>| {
                let ours: Vec<f64> = ours.iter().map(|v| f64::from(*v)).collect();
                let name = format!("{key}.{name}");
                r.close(&name, &ours, &flat(&self.g.tensor(&name)), PREDS);
            };
            if self.g.has(&format!("{key}.preds")) {
                close(r, "preds", &how.combine(&said, &plain).unwrap());
            } else {
                close(r, "aug_preds", &how.augmented(&said).unwrap());
                close(r, "plain_preds", &plain);
            }
            let (ours, own_plain) = learn.tta_passes(&how).unwrap();
            r.exact(format!("{key}: own passes"), &ours.len(), &n);
            self.close(r, "get_preds.preds", &own_plain);
            let targets = ints(&self.g.tensor(&format!("{key}.targs")));
            r.exact(format!("{key}.targs"), &classes_of(&own_plain.targets), &targets);
            r.holds(format!("{key}: passes differ"), ours[0] != own_plain.preds);
            let whole = learn.tta_with(&how).unwrap();
            r.exact(
                format!("{key}: whole"),
                &whole.preds,
                &how.combine(&ours, &own_plain.preds).unwrap(),
            );
        }
        r.case();
        let train = learn.dls().train().clone();
        let said = learn.tta_with(&Tta::new().n(1).on(&train)).unwrap();
        r.exact("tta on the training items", said.items.as_slice(), train.items());
    }

    /// Returns the items with targets of another kind, normalized and not augmented.
    fn plain<Y: TargetBlock>(&self, block: DataBlock<Y>) -> DataLoaders {
        block
            .splitter(IndexSplitter::new(self.valid.clone()))
            .item_tfms(self.resize())
            .batch_tfms(Normalize::imagenet())
            .bs(self.bs())
            .num_workers(0)
            .device(Device::Cpu)
            .dataloaders_from(self.items())
            .unwrap()
    }

    fn multi(&self, r: &mut Report) {
        for case in self.g.cases("multi") {
            r.case();
            let key = case["key"].as_str().unwrap();
            let labels = case["labels"].clone();
            let get_y = move |path: &PathBuf| {
                let name = path.file_name().unwrap().to_str().unwrap();
                Ok(texts(&labels[name]))
            };
            let block = DataBlock::blocks(ImageBlock::rgb(), MultiCategoryBlock::new());
            let dls = self.plain(block.get_y(get_y));
            let right = |pred: &Tensor, y: &Tensor| {
                let right = pred.sigmoid().gt(0.5).to_kind(Kind::Float).eq_tensor(y);
                Ok(f64::try_from(right.to_kind(Kind::Float).mean(Kind::Float))?)
            };
            let loss = BceWithLogits::new().thresh(number(&case["thresh"]));
            let learn = Learner::new(dls, tiny(self.n_classes, self.salt), loss).unwrap();
            let mut learn = learn.quiet().metric(Mean::new("accuracy_multi", right));
            let preds = learn.get_preds().unwrap();
            self.close(r, &format!("{key}.preds"), &preds);
            for (what, ours) in [("targs", &preds.targets), ("decoded", &preds.decoded)] {
                let theirs = ints(&self.g.tensor(&format!("{key}.{what}")));
                let ours: Vec<i64> = ours.iter().flat_map(|t| hot(t, self.n_classes)).collect();
                r.exact(format!("{key}.{what}"), &ours, &theirs);
            }
            let item = case["predict_item"].as_str().unwrap();
            let path = self.files.iter().find(|f| f.ends_with(item)).unwrap();
            let prediction = learn.predict(path).unwrap();
            let probs: Vec<f64> = prediction.probs.iter().map(|v| f64::from(*v)).collect();
            r.close(
                format!("{key}.predict"),
                &probs,
                &flat(&self.g.tensor(&format!("{key}.predict.probs"))),
                PREDS,
            );
            r.exact(
                format!("{key}.labels"),
                &prediction.label,
                &match &texts(&case["predict_labels"])[..] {
                    [] => "none".to_owned(),
                    labels => labels.join("; "),
                },
            );
            let ours: Vec<f64> = learn.validate().unwrap().iter().filter_map(|(_, v)| *v).collect();
            r.close(format!("{key}.validate"), &ours, &numbers(&case["validate"]), PREDS);
        }
    }

    fn regression(&self, r: &mut Report) {
        r.case();
        let case = &self.g.json["regression"];
        let targets = case["targets"].clone();
        let get_y = move |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            Ok(number(&targets[name]) as f32)
        };
        let block = DataBlock::blocks(ImageBlock::rgb(), RegressionBlock::one());
        let dls = self.plain(block.get_y(get_y));
        let mae = |pred: &Tensor, y: &Tensor| {
            Ok(f64::try_from((pred.view([-1]) - y.view([-1])).abs().mean(Kind::Float))?)
        };
        let mut learn = Learner::new(dls, tiny(1, self.salt), Mse).unwrap().quiet();
        learn = learn.metric(Mean::new("mae", mae));
        let preds = learn.get_preds().unwrap();
        self.close(r, "regression.preds", &preds);
        let values = |all: &[Target]| -> Vec<f64> {
            all.iter()
                .flat_map(|t| match t {
                    Target::Values(v) => v.iter().map(|v| f64::from(*v)).collect(),
                    _ => vec![],
                })
                .collect()
        };
        r.close(
            "regression.targs",
            &values(&preds.targets),
            &flat(&self.g.tensor("regression.targs")),
            PREDS,
        );
        let item = case["predict_item"].as_str().unwrap();
        let said = learn.predict(self.files.iter().find(|f| f.ends_with(item)).unwrap()).unwrap();
        let theirs = flat(&self.g.tensor("regression.predict.value"));
        r.close("regression.predict", &values(&[said.target]), &theirs, PREDS);
        let ours: Vec<f64> = learn.validate().unwrap().iter().filter_map(|(_, v)| *v).collect();
        r.close("regression.validate", &ours, &numbers(&case["validate"]), PREDS);
    }

    fn end_to_end(&self, r: &mut Report) {
        let dls = |centered| {
            let block = self.block().shuffle(false).batch_tfms(Normalize::imagenet());
            let block = match centered {
                true => block.item_tfms(Centered(self.resize())),
                false => block.item_tfms(self.resize()),
            };
            block.dataloaders_from(self.items()).unwrap()
        };
        r.case();
        let preds = self.learner(dls(false)).get_preds().unwrap();
        self.close(r, "noaug.preds", &preds);
        r.exact("noaug.targs", &classes_of(&preds.targets), &ints(&self.g.tensor("noaug.targs")));

        r.case();
        let mut learn = self.learner(dls(true));
        let says = inside(self.g.json["e2e"]["what"].as_str().unwrap().split_once('(').unwrap().1);
        learn.fit_with(&OneCycle::new(says[0] as usize).lr(1e-2), &mut []).unwrap();
        let near = Tol { rtol: 0.0, atol: 1e-4 };
        let theirs = flat(&self.g.tensor("e2e.losses"));
        r.close("e2e.losses", &learn.recorder().losses, &theirs, near);
        for (ours, theirs) in
            learn.recorder().rows.iter().zip(self.g.json["e2e"]["values"].as_array().unwrap())
        {
            let ours: Vec<f64> = ours.values.iter().flatten().copied().collect();
            r.close("e2e.values", &ours, &numbers(theirs), near);
        }
        let preds = learn.get_preds().unwrap();
        let ours: Vec<f64> = preds.preds.iter().map(|v| f64::from(*v)).collect();
        r.close("e2e.preds", &ours, &flat(&self.g.tensor("e2e.preds")), near);
        let after = learn.recorder();
        r.exact("the history outlives a prediction", &after.losses.len(), &theirs.len());
        r.exact("and so do the rates", &after.lrs.len(), &theirs.len());
        r.differs("recorder_after_get_preds", "prediction does not wipe what a fit recorded");
    }
}

/// Crops at the center, also in training.
#[derive(Debug)]
struct Centered(Resize);

impl ItemTransform for Centered {
    fn apply(&self, sample: Sample, _: Split, rng: &mut Rng) -> Result<Sample> {
        self.0.apply(sample, Split::Valid, rng)
    }
}

fn g_image(g: &Golden, name: &str) -> Image {
    let pixels = g.tensor(name);
    let (h, w, c) = pixels.size3().unwrap();
    let bytes = Vec::try_from(&pixels.contiguous().view([-1])).unwrap();
    Image::new(w as u32, h as u32, c as u8, bytes).unwrap()
}

fn matrix(t: &Tensor) -> ndarray::Array2<f32> {
    let (n, m) = t.size2().unwrap();
    let numbers = flat(t).into_iter().map(|v| v as f32).collect();
    ndarray::Array2::from_shape_vec((n as usize, m as usize), numbers).unwrap()
}

fn classes_of(targets: &[Target]) -> Vec<i64> {
    let class = |t: &Target| match t {
        Target::Category(c) => *c as i64,
        other => panic!("{other:?} is not a category"),
    };
    targets.iter().map(class).collect()
}

fn hot(target: &Target, n: i64) -> Vec<i64> {
    let Target::Categories(set) = target else { panic!("{target:?} is not a set") };
    (0..n).map(|c| i64::from(set.contains(&(c as usize)))).collect()
}

/// Compares the number and sizes of batches.
fn batching(g: &Golden, r: &mut Report) {
    for case in g.cases("batching") {
        r.case();
        let of = |name: &str| case[name].as_u64().unwrap() as usize;
        let (n, bs, drop) = (of("n"), of("bs"), case["drop_last"].as_bool().unwrap());
        let name = format!("{n} items by {bs}, dropping {drop}");
        let x = Tensor::arange(n as i64, (Kind::Float, Device::Cpu)).view([-1, 1]);
        let y = Tensor::zeros([n as i64], (Kind::Int64, Device::Cpu));
        let rows = Arrays::from_tensors(&x, &y, classes(2)).unwrap();
        let options = LoaderOptions::new().bs(bs).drop_last(drop).shuffle(false);
        let made = DataLoaders::from_arrays(rows.clone(), rows, options.device(Device::Cpu));
        if of("len") == 0 {
            r.holds(format!("{name}: is an error"), made.is_err());
            r.differs(name, "no batch at all is an error that says what to choose");
            continue;
        }
        let train = made.unwrap().train().clone();
        let sizes: Vec<i64> = train.batches(0).map(|b| b.unwrap().x.size()[0]).collect();
        let theirs: Vec<i64> = serde_json::from_value(case["sizes"].clone()).unwrap();
        r.exact(format!("{name}: sizes"), &sizes, &theirs);
        r.exact(format!("{name}: len"), &train.num_batches(), &of("len"));
    }
}

/// Checks that our orders depend on the seed and the pass.
fn orders(r: &mut Report) {
    r.case();
    let x = Tensor::arange(23, (Kind::Float, Device::Cpu)).view([-1, 1]);
    let rows = Arrays::from_tensors(&x, &x.view([-1]).fmod(2).to_kind(Kind::Int64), classes(2));
    let rows = rows.unwrap();
    let order = |seed, pass| {
        let options = LoaderOptions::new().bs(23).seed(seed).device(Device::Cpu);
        let dls = DataLoaders::from_arrays(rows.clone(), rows.clone(), options).unwrap();
        dls.train().batches(pass).next().unwrap().unwrap().items
    };
    let mut sorted = order(1, 0);
    sorted.sort_unstable();
    r.exact("each item once", &sorted, &(0..23).collect::<Vec<_>>());
    r.holds("a pass has its own order", order(1, 0) != order(1, 1));
    r.holds("so has a seed", order(1, 0) != order(2, 0));
    r.exact("the same address, the same order", &order(1, 2), &order(1, 2));
    r.differs("shuffle_orders", "from the seed and the pass, not from Python's `random`");
}
