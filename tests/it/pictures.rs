//! Every figure and the report, from a small model that was trained on bundled photos: their size, ink
//! and words. `FINETUNE_SHOW_DIR=DIR` keeps them for inspection.
mod html;
pub(crate) mod look;

use super::pets::photos;
use finetune::{
    data::{DataLoader, LoaderOptions},
    interpret::{Interpretation, MultiLabelInterpretation, RegressionInterpretation},
    learner::{LrFinder, Predictions},
    loss::CrossEntropy,
    prelude::*,
    sample::{Target, Task},
    show::{ConfusionPlot, ShowBatch, plot_policy, show_images},
};
use look::{check_figure, figure_folder, words};
use ndarray::Array2;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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

/// Returns the photos of an SVG, as data URLs.
fn pictures(svg: &str) -> Vec<String> {
    let address = |s: &str| s.split('"').find(|s| s.starts_with("data:")).unwrap().to_owned();
    svg.split("<image").skip(1).map(address).collect()
}

#[test]
fn data() -> Result<()> {
    let learn = learner()?;
    check_figure("batch", &learn.dls().show_batch(9)?, &["Abyssinian", "data:image/png;base64"]);
    let unique = learn.dls().show_batch(ShowBatch::new(8).unique().columns(4))?;
    let labels = check_figure("unique", &unique, &["data:image/png;base64"]);
    // One photo, so one label; augmented, so eight different images.
    assert_eq!(labels.len(), 8);
    assert!(labels.iter().all(|l| l == &labels[0]), "{labels:?}");
    let of = pictures(&unique.svg()?);
    assert_eq!((of.len(), of.iter().collect::<BTreeSet<_>>().len()), (8, 8));
    let many = learn.dls().show_batch(8)?.svg()?;
    assert!(words(&many).iter().any(|w| w.text != words(&many)[0].text), "{many}");
    let plain = learn.dls().valid().with(LoaderOptions::new().bs(4))?;
    // Without augmentation, a photo looks the same each time.
    let same = pictures(&plain.show_batch(ShowBatch::new(2).unique())?.svg()?);
    assert!(same.len() == 2 && same[0] == same[1]);
    // More than one batch.
    assert_eq!(plain.show_batch(10)?.svg()?.matches("<image").count(), 10);
    let all = plain.show_batch(usize::MAX)?.svg()?;
    assert_eq!(all.matches("<image").count(), plain.len());
    let last = plain.show_batch(ShowBatch::new(2).unique().pass(u64::MAX))?;
    assert_eq!(last.svg()?.matches("<image").count(), 2);
    let files = few(&photos())?;
    check_figure("files", &show_images(files.iter().take(6))?, &["Abyssinian"]);
    let e = learn.dls().show_batch(0).unwrap_err().to_string();
    assert!(e.contains("show_batch"), "{e}");
    let e = show_images(["nowhere.jpg"]).unwrap_err().to_string();
    assert!(e.contains("nowhere.jpg"), "{e}");
    Ok(())
}

#[test]
fn training_and_mistakes() -> Result<()> {
    let mut learn = learner()?;
    let found = learn.lr_find_with(LrFinder::new().steps(40))?;
    check_figure("lr_find", &found.plot()?, &["valley", "minimum / 10", "learning rate"]);
    let mut uneven = found.clone();
    uneven.losses.pop();
    let e = uneven.plot().unwrap_err();
    assert!(matches!(e, Error::Mismatch { .. }), "{e}");
    let e = learn.recorder().plot_loss().unwrap_err();
    assert!(matches!(e, Error::Config { option: "recorder", .. }), "{e}");
    assert!(e.to_string().contains("nothing was recorded"), "{e}");
    learn.fit_one_cycle(2, 1e-4..=2e-3)?;
    let history = learn.recorder();
    check_figure("loss", &history.plot_loss()?, &["train", "valid", "step"]);
    let all = ["learning rate", "momentum", "momentum of squares", "epsilon", "weight decay"];
    let said = check_figure("sched", &history.plot_sched()?, &all);
    for name in all {
        assert!(said.iter().any(|w| w.text == name), "no schedule of the {name}");
    }
    // Each group has its own rate; the other hyperparameters are equal.
    assert_eq!(said.iter().filter(|w| w.text == "group 3").count(), 1, "{said:?}");
    check_figure("metrics", &history.plot_metrics()?, &["accuracy", "error_rate", "epoch"]);
    check_figure(
        "policy",
        &plot_policy(&OneCycle::new(3).lr(1e-5..=1e-3), 3)?,
        &["fraction of the fit"],
    );
    check_figure("results", &learn.show_results(9)?, &["✗"]);

    let interp = ClassificationInterpretation::from_learner(&mut learn)?;
    let valid = learn.dls().valid().clone();
    let worst = interp.plot_top_losses(&valid, 9)?;
    check_figure("top_losses", &worst, &["loss", "Highest losses", "probability"]);
    for item in interp.top_losses(9) {
        let p = interp.predictions();
        let Target::Category(is) = p.targets[item.index] else { panic!("no category") };
        assert!(worst.svg()?.contains(&format!("loss {:.2}", item.loss)), "{item:?}");
        assert!(worst.svg()?.contains(&interp.vocab()[is]));
    }
    target_above_prediction(&interp, &valid)?;
    let e = interp.show_results(&valid, &[100]).unwrap_err();
    assert!(matches!(e, Error::Config { option: "indices", .. }), "{e}");
    assert!(e.to_string().contains("100 must be below the number of predictions"), "{e}");
    check_figure(
        "confusion",
        &interp.plot_confusion_matrix()?,
        &["Predicted", "Actual", "Abyssinian"],
    );
    let shares = ConfusionPlot::new().title("Shares").normalize(true).at_least(0.3);
    check_figure("confusion_shares", &interp.plot_confusion_matrix_with(shares)?, &["Shares"]);
    // Squares are as wide as their numbers.
    let exact = ConfusionPlot::new().normalize(true).decimals(16);
    let exact = interp.plot_confusion_matrix_with(exact)?.svg()?;
    assert!(words(&exact).iter().any(|w| w.text.len() == "0.1234567890123456".len()), "{exact}");
    for (plot, told) in [
        (ConfusionPlot::new().decimals(17), "`decimals` is 17; it must be at most 16"),
        (ConfusionPlot::new().at_least(f64::NAN), "`at_least` is NaN"),
    ] {
        let e = interp.plot_confusion_matrix_with(plot).unwrap_err();
        assert!(matches!(e, Error::Config { .. }) && e.to_string().contains(told), "{e}");
    }
    check_figure("calibration", &interp.plot_calibration()?, &["perfect", "Calibration"]);
    let some: Vec<_> = interp.vocab()[..3].to_vec();
    check_figure("roc", &interp.plot_roc(&some)?, &["chance", "false-positive rate"]);

    let report = learn.report("Breeds of cats & dogs")?.lr_find(&found)?;
    let page = report.html();
    look::check_markup(&page);
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
    let folder = figure_folder().unwrap_or_else(|| folder.path().join("new"));
    report.save(folder.join("report.html"))?;
    assert!(std::fs::read_to_string(folder.join("report.html")).unwrap() == page);
    let e = report.save("/dev/null/report.html").unwrap_err().to_string();
    assert!(e.contains("/dev/null"), "{e}");
    Ok(())
}

/// The target in black above the prediction, which is green if it is correct, otherwise red.
fn target_above_prediction(
    interp: &ClassificationInterpretation,
    valid: &DataLoader,
) -> Result<()> {
    let p = interp.predictions();
    let all = || 0..p.len();
    let right = all().find(|&i| p.targets[i] == p.decoded[i]).unwrap();
    let wrong = all().find(|&i| p.targets[i] != p.decoded[i]).unwrap();
    let said = check_figure("chosen", &interp.show_results(valid, &[right, wrong])?, &[]);
    let name = |t: &Target| match t {
        Target::Category(c) => interp.vocab()[*c].clone(),
        other => panic!("{other:?} is not a category"),
    };
    let lines: Vec<_> = said.iter().map(|w| (w.text.as_str(), w.color.as_str())).collect();
    let (yes, no) =
        (format!("✓ {}", name(&p.decoded[right])), format!("✗ {}", name(&p.decoded[wrong])));
    let (first, second) = (name(&p.targets[right]), name(&p.targets[wrong]));
    let expected = [
        (first.as_str(), "#222222"),
        (yes.as_str(), "#007A5A"),
        (second.as_str(), "#222222"),
        (no.as_str(), "#C03A00"),
    ];
    assert_eq!(lines, expected);
    Ok(())
}

/// The 37 breeds of the complete data set.
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
    let counts = check_figure("confusion37", &interp.plot_confusion_matrix()?, &all);
    let shares = |least| ConfusionPlot::new().normalize(true).at_least(least);
    let few = interp.plot_confusion_matrix_with(shares(0.05))?;
    let few = check_figure("confusion37_shares", &few, &all);
    // Every name is complete on both sides, with every number that is not 0.
    for breed in interp.vocab() {
        for said in [&counts, &few] {
            assert_eq!(said.iter().filter(|w| w.text == *breed).count(), 2, "{breed}");
        }
    }
    let matrix = interp.confusion_matrix();
    let numbers = |said: &[look::Words], at_least: f64| {
        let numbers = said.iter().filter_map(|w| w.text.parse::<f64>().ok());
        assert!(numbers.clone().all(|v| v >= at_least));
        numbers.count()
    };
    assert_eq!(numbers(&counts, 1.0), matrix.iter().filter(|v| **v > 0).count());
    let normal = interp.confusion_matrix_normalized();
    assert_eq!(numbers(&few, 0.05), normal.iter().filter(|v| **v >= 0.05).count());
    let most =
        check_figure("confusion37_most", &interp.plot_confusion_matrix_with(shares(0.5))?, &all);
    assert_eq!(numbers(&most, 0.5), normal.iter().filter(|v| **v >= 0.5).count());
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
    check_figure("roc_labels", &interp.plot_roc(&["person", "dog", "car"])?, &["person", "car"]);

    let value = |i: usize, j: usize| ((i * 7 + j * 3) % 30) as f32 / 10.0;
    let all = |off: f32| -> Vec<Target> {
        let off = |i: usize| off * ((i % 9) as f32 - 4.0) / 10.0;
        (0..n).map(|i| Target::Values(vec![value(i, 0) + off(i), value(i, 1) - off(i)])).collect()
    };
    let task = Task::Values { n: 2 };
    let preds = Array2::zeros((n, 2));
    let p = Predictions::new((0..n).collect(), preds, all(0.0), all(1.0), vec![0.2; n], task);
    let interp = RegressionInterpretation::from_predictions(p.clone())?;
    check_figure("regression", &interp.plot_predictions()?, &["target", "prediction", "R²"]);

    // Without losses there are no worst items, which is an error.
    let unlabeled = Predictions::new(
        p.items,
        p.preds,
        vec![Target::None; n],
        vec![Target::None; n],
        vec![],
        p.task,
    );
    let none = Interpretation::from_predictions(unlabeled)?;
    let learn = learner()?;
    let e = none.plot_top_losses(learn.dls().valid(), 3).unwrap_err().to_string();
    assert!(e.contains("no losses"), "{e}");
    Ok(())
}
