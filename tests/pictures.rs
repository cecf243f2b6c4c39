//! Every picture and the report, of a small model that was trained on carried photos: they have the
//! size that they say, ink, and the words that belong to them. `FINETUNE_SHOW_DIR=DIR` keeps them to
//! be looked at.
#![cfg(feature = "show")]
#![allow(clippy::unwrap_used, reason = "a test fails by panics")]

#[path = "pictures/html.rs"]
mod html;

use finetune::{
    data::LoaderOptions,
    interpret::{Interpretation, MultiLabelInterpretation, RegressionInterpretation},
    learner::{LrSweep, Predictions},
    loss::CrossEntropy,
    prelude::*,
    sample::{Target, Task},
    show::{ConfusionPlot, Figure, ShowBatch, plot_policy, show_images},
};
use ndarray::Array2;
use std::path::{Path, PathBuf};

/// Where the pictures are to be kept, if anywhere.
fn kept() -> Option<PathBuf> {
    std::env::var_os("FINETUNE_SHOW_DIR").map(PathBuf::from)
}

/// A picture has its size, enough that is not background, and says `words`.
fn look(name: &str, figure: &Figure, words: &[&str]) {
    if let Some(folder) = kept() {
        figure.save(folder.join(name).with_extension("png")).unwrap();
        figure.save(folder.join(name).with_extension("svg")).unwrap();
    }
    let image = figure.image().unwrap();
    assert_eq!((image.width(), image.height()), figure.dimensions(), "{name}");
    let ink = image.pixels().chunks(3).filter(|p| p.iter().any(|v| *v < 200)).count();
    let all = image.pixels().len() / 3;
    assert!(ink * 100 > all, "{name}: {ink} of {all} pixels are dark");
    let svg = figure.svg().unwrap();
    html::balanced(&svg);
    for word in words {
        assert!(svg.contains(word), "{name} does not say {word}");
    }
}

fn photos() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/pets/images")
}

fn few(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(get_image_files(folder)?.into_iter().step_by(4).collect())
}

fn learner() -> Result<Learner> {
    let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(few)
        .splitter(RandomSplitter::new(0.4).seed(42))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(96))
        .batch_tfms(aug_transforms().size(64).min_scale(0.75))
        .bs(8)
        .num_workers(1)
        .device(Device::Cpu)
        .dataloaders(photos())?;
    let learner = vision_learner(dls, resnet18()).pretrained(false).loss(CrossEntropy::new());
    Ok(learner.metric(accuracy()).metric(error_rate()).build()?.quiet())
}

#[test]
fn data() -> Result<()> {
    let learn = learner()?;
    look("batch", &learn.dls().show_batch(9)?, &["Abyssinian", "data:image/png;base64"]);
    let unique = learn.dls().show_batch(ShowBatch::new(8).unique().columns(4))?;
    look("unique", &unique, &["data:image/png;base64"]);
    assert_eq!(unique.svg()?.matches("<image").count(), 8);
    let plain = learn.dls().valid().with(LoaderOptions::new().bs(4))?;
    // Without augmentation, one photo looks the same each time.
    let same = plain.show_batch(ShowBatch::new(2).unique())?.svg()?;
    let pictures: Vec<_> = same
        .split("<image")
        .skip(1)
        .map(|s| s.split('"').find(|s| s.starts_with("data:")))
        .collect();
    assert!(pictures.len() == 2 && pictures[0].is_some() && pictures[0] == pictures[1]);
    // More than a batch holds.
    assert_eq!(plain.show_batch(10)?.svg()?.matches("<image").count(), 10);
    let files = few(&photos())?;
    look("files", &show_images(files.iter().take(6))?, &["Abyssinian"]);
    let e = learn.dls().show_batch(0).unwrap_err().to_string();
    assert!(e.contains("show_batch"), "{e}");
    let e = show_images(["nowhere.jpg"]).unwrap_err().to_string();
    assert!(e.contains("nowhere.jpg"), "{e}");
    Ok(())
}

#[test]
fn training_and_mistakes() -> Result<()> {
    let mut learn = learner()?;
    let found = learn.lr_find_with(LrSweep::new().steps(40))?;
    look("lr_find", &found.plot()?, &["valley", "minimum / 10", "learning rate"]);
    assert!(learn.recorder().plot_loss().is_err(), "nothing was recorded yet");
    learn.fit_one_cycle(2, 1e-4..=2e-3)?;
    let history = learn.recorder();
    look("loss", &history.plot_loss()?, &["train", "valid", "step"]);
    look("sched", &history.plot_sched()?, &["learning rate", "momentum", "group 3"]);
    look("metrics", &history.plot_metrics()?, &["accuracy", "error_rate", "epoch"]);
    look("policy", &plot_policy(&OneCycle::new(3).lr(1e-5..=1e-3), 3)?, &["part of the fit"]);
    look("results", &learn.show_results(9)?, &["✗"]);

    let interp = ClassificationInterpretation::from_learner(&mut learn)?;
    let valid = learn.dls().valid().clone();
    look("top_losses", &interp.plot_top_losses(&valid, 9)?, &["loss", "Highest losses"]);
    look("chosen", &interp.show_results(&valid, &[0, 3])?, &[]);
    assert!(interp.show_results(&valid, &[100]).is_err());
    look("confusion", &interp.plot_confusion_matrix()?, &["Predicted", "Actual", "Abyssinian"]);
    let shares = ConfusionPlot::new().title("Shares").normalize(true).at_least(0.3);
    look("confusion_shares", &interp.plot_confusion_matrix_with(shares)?, &["Shares"]);
    look("calibration", &interp.plot_calibration()?, &["perfect", "Calibration"]);
    let some: Vec<_> = interp.vocab()[..3].to_vec();
    look("roc", &interp.plot_roc(&some)?, &["chance", "false-positive rate"]);

    let report = learn.report("Breeds of cats & dogs")?.lr_find(&found)?;
    let page = report.html();
    html::balanced(&page);
    html::self_contained(&page);
    for word in [
        "Breeds of cats &amp; dogs",
        "95 % interval",
        "Confusion matrix",
        "Worst mistakes",
        "data:image/jpeg;base64",
        "Learning rate finder",
        "batch transforms",
        "libtorch",
    ] {
        assert!(page.contains(word), "the report does not say {word}");
    }
    assert_eq!(page.matches("<img ").count(), valid.len());
    let folder = tempfile::tempdir().unwrap();
    let folder = kept().unwrap_or_else(|| folder.path().join("new"));
    report.save(folder.join("report.html"))?;
    assert!(std::fs::read_to_string(folder.join("report.html")).unwrap() == page);
    let e = report.save("/dev/null/report.html").unwrap_err().to_string();
    assert!(e.contains("/dev/null"), "{e}");
    Ok(())
}

/// The 37 breeds of the whole set.
const BREEDS: &str = "Abyssinian Bengal Birman Bombay British_Shorthair Egyptian_Mau Maine_Coon \
    Persian Ragdoll Russian_Blue Siamese Sphynx american_bulldog american_pit_bull_terrier \
    basset_hound beagle boxer chihuahua english_cocker_spaniel english_setter german_shorthaired \
    great_pyrenees havanese japanese_chin keeshond leonberger miniature_pinscher newfoundland \
    pomeranian pug saint_bernard samoyed scottish_terrier shiba_inu staffordshire_bull_terrier \
    wheaten_terrier yorkshire_terrier";

#[test]
fn thirty_seven_breeds_can_be_read() -> Result<()> {
    let vocab: Vec<String> = BREEDS.split_whitespace().map(str::to_owned).collect();
    let n = vocab.len();
    assert_eq!(n, 37);
    let items = 40 * n;
    let (mut targets, mut decoded) = (vec![], vec![]);
    let mut preds = Array2::from_elem((items, n), 0.1 / (n - 1) as f32);
    for i in 0..items {
        let is = i / 40;
        let said = if i * 7 % 13 == 0 { (is * 5 + i) % n } else { is };
        preds[(i, said)] = 0.9;
        targets.push(Target::Category(is));
        decoded.push(Target::Category(said));
    }
    let task = Task::Category { vocab: vocab.into() };
    let p = Predictions::new((0..items).collect(), preds, targets, decoded, vec![], task);
    let interp = ClassificationInterpretation::from_predictions(p)?;
    let all = ["yorkshire_terrier", "staffordshire_bull_terrier", "Predicted"];
    look("confusion37", &interp.plot_confusion_matrix()?, &all);
    let shares = ConfusionPlot::new().normalize(true).at_least(0.05);
    look("confusion37_shares", &interp.plot_confusion_matrix_with(shares)?, &all);
    Ok(())
}

#[test]
fn several_categories_and_numbers() -> Result<()> {
    let n = 60;
    let vocab: Vec<String> = ["person", "dog", "car"].map(str::to_owned).to_vec();
    let has = |i: usize, c: usize| (i * (c + 3)) % 7 < 3;
    let score = |i: usize, c: usize| if has(i, c) { 0.55 } else { 0.35 } + (i % 5) as f32 / 20.0;
    let set = |f: &dyn Fn(usize) -> bool| Target::Categories((0..3).filter(|c| f(*c)).collect());
    let preds = Array2::from_shape_fn((n, 3), |(i, c)| score(i, c));
    let targets = (0..n).map(|i| set(&|c| has(i, c))).collect();
    let decoded = (0..n).map(|i| set(&|c| score(i, c) > 0.5)).collect();
    let task = Task::Categories { vocab: vocab.into() };
    let p = Predictions::new((0..n).collect(), preds, targets, decoded, vec![0.1; n], task);
    let interp = MultiLabelInterpretation::from_predictions(p)?;
    look("roc_labels", &interp.plot_roc(&["person", "dog", "car"])?, &["person", "car"]);

    let value = |i: usize, j: usize| ((i * 7 + j * 3) % 30) as f32 / 10.0;
    let all = |off: f32| -> Vec<Target> {
        let off = |i: usize| off * ((i % 9) as f32 - 4.0) / 10.0;
        (0..n).map(|i| Target::Values(vec![value(i, 0) + off(i), value(i, 1) - off(i)])).collect()
    };
    let task = Task::Values { n: 2 };
    let preds = Array2::zeros((n, 2));
    let p = Predictions::new((0..n).collect(), preds, all(0.0), all(1.0), vec![0.2; n], task);
    let interp = RegressionInterpretation::from_predictions(p.clone())?;
    look("regression", &interp.plot_predictions()?, &["target", "prediction", "R²"]);

    // What has no losses has no worst items, and says so.
    let unlabelled = Predictions::new(
        p.items,
        p.preds,
        vec![Target::None; n],
        vec![Target::None; n],
        vec![],
        p.task,
    );
    let none = Interpretation::from_predictions(unlabelled)?;
    let learn = learner()?;
    let e = none.plot_top_losses(learn.dls().valid(), 3).unwrap_err().to_string();
    assert!(e.contains("no losses"), "{e}");
    Ok(())
}
