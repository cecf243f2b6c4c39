//! Snapshots of texts for people, so that they change only intentionally.
//! `INSTA_UPDATE=always cargo test --test it texts` updates them.

use super::pets::photos;
use finetune::{
    data::{Cache, LoaderOptions},
    learner::{LrFinder, Predictions, Progress, Steps},
    prelude::*,
    sample::{Target, Task},
    transform::RandomResizedCropGpu,
};
use ndarray::Array2;
use regex::Regex;
use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

fn unsized_pets() -> Result<DataBlock<CategoryBlock>> {
    Ok(DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(|folder: &std::path::Path| {
            Ok(get_image_files(folder)?.into_iter().step_by(6).collect())
        })
        .splitter(RandomSplitter::new(0.2).seed(42))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .bs(8)
        .num_workers(0)
        .device(Device::Cpu))
}

fn pets() -> Result<DataBlock<CategoryBlock>> {
    Ok(unsized_pets()?.item_tfms(Resize::new(48)).batch_tfms(aug_transforms().size(32)))
}

/// Removes the path of this checkout.
fn placeless(text: &str) -> String {
    text.replace(&format!("{}/", env!("CARGO_MANIFEST_DIR")), "")
}

#[test]
fn summary() -> Result<()> {
    insta::assert_snapshot!(placeless(&pets()?.summary(photos())?));
    Ok(())
}

#[test]
fn a_summary_of_several_passes_has_the_sizes_of_all_of_them() -> Result<()> {
    // A batch can be cropped once per pass.
    let block = unsized_pets()?.item_tfms(Resize::new(48));
    let block = block.batch_tfms(RandomResizedCropGpu::new(40));
    let text = block.batch_tfms(RandomResizedCropGpu::hw(24, 32)).summary(photos())?;
    let crops: Vec<&str> = text.lines().filter(|l| l.contains("RandomResizedCropGpu")).collect();
    assert_eq!(crops.len(), 2, "{text}");
    assert!(crops[0].ends_with(": 8x3x40x40") && crops[1].ends_with(": 8x3x24x32"), "{text}");
    assert!(text.contains("x: [8, 3, 24, 32] Float on Cpu"), "{text}");
    Ok(())
}

/// A writer with shared access.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn table_of_epochs() -> Result<()> {
    let written = Written::default();
    let dls = pets()?.dataloaders(photos())?;
    let learner = vision_learner(dls, resnet18()).pretrained(false).metric(accuracy()).build()?;
    let mut learn = learner.progress(Progress::to_writer(written.clone()));
    learn.fit_one_cycle(2, 1e-4)?;
    // Values depend on the processor; columns do not.
    let numbers = written.text().replace(|c: char| c.is_ascii_digit(), "0");
    insta::assert_snapshot!(numbers);
    Ok(())
}

/// The log of a fit, a validation and a sweep. The cache fills in the first epoch.
#[test]
fn lines_of_a_log() -> Result<()> {
    let (table, log) = (Written::default(), Written::default());
    let lines = Progress::to_writer(table.clone()).steps(Steps::Lines(Duration::ZERO));
    let dls = pets()?.cache(Cache::memory(64 << 20)).dataloaders(photos())?;
    let dls = dls.with(LoaderOptions::new().val_bs(3))?;
    let learner = vision_learner(dls, resnet18()).pretrained(false).build()?;
    let mut learn = learner.progress(lines.log_to(log.clone()));
    learn.fit_one_cycle(2, 1e-4)?;
    learn.validate()?;
    let _curve = learn.lr_find_with(LrFinder::new().steps(6))?;
    // Losses and times depend on the processor, and so does waiting for data.
    let text = [
        (r"loss (\d+\.\d+|NaN)", "loss 0.0000"),
        (r"\d+\.\d+/s", "0.00/s"),
        (r"(\d+:)?\d\d:\d\d left", "00:00 left"),
        // After a loss, or alone in a validation.
        (r"(, |  )waits \d+ % for data", ""),
    ]
    .iter()
    .fold(log.text(), |text, (number, zero)| {
        Regex::new(number).unwrap().replace_all(&text, *zero).into_owned()
    });
    insta::assert_snapshot!(text);
    assert_eq!(table.text().lines().filter(|l| l.starts_with(['0', '1'])).count(), 2);
    Ok(())
}

/// `Steps::Hidden` keeps only the table, and a quiet learner prints nothing.
#[test]
fn quiet() -> Result<()> {
    let (table, log) = (Written::default(), Written::default());
    let hidden = Progress::to_writer(table.clone()).steps(Steps::Hidden).log_to(log.clone());
    let dls = pets()?.dataloaders(photos())?;
    let learner = vision_learner(dls, resnet18()).pretrained(false).build()?;
    let mut learn = learner.progress(hidden);
    learn.fit_one_cycle(1, 1e-4)?;
    assert_eq!((table.text().lines().count(), log.text()), (2, String::new()));
    let shown = table.text();
    let mut learn = learn.quiet();
    learn.fit_one_cycle(1, 1e-4)?;
    assert_eq!((table.text(), log.text()), (shown, String::new()));
    Ok(())
}

fn interpreted() -> Result<ClassificationInterpretation> {
    let vocab: Vec<String> = ["Abyssinian", "Bengal", "beagle", "unseen"].map(str::to_owned).into();
    let pairs = [(0, 0), (0, 0), (0, 1), (0, 1), (1, 1), (1, 1), (1, 0), (2, 2), (2, 2), (2, 2)];
    let (targets, decoded) =
        pairs.map(|(t, d)| (Target::Category(t), Target::Category(d))).into_iter().unzip();
    let mut preds = Array2::from_elem((10, 4), 0.05);
    for (i, (_, d)) in pairs.iter().enumerate() {
        preds[(i, *d)] = 0.85 - i as f32 / 30.0;
    }
    let losses = (0..10).map(|i| (i * 7 % 10) as f32 / 3.0).collect();
    let task = Task::Category { vocab: vocab.into() };
    let items = (0..10).map(|i| i + 100).collect();
    let p = Predictions::new(items, preds, targets, decoded, losses, task);
    ClassificationInterpretation::from_predictions(p)
}

#[test]
fn interpretation() -> Result<()> {
    let interp = interpreted()?;
    insta::assert_snapshot!("accuracy", interp.accuracy().to_string());
    insta::assert_snapshot!("classification_report", interp.classification_report().to_string());
    for bins in [0, usize::MAX] {
        let e = interp.calibration(bins).unwrap_err().to_string();
        assert!(e.contains(&format!("`bins` is {bins}; it must be from 1 to 1000000")), "{e}");
    }
    assert!(interp.calibration(10)?.ece.is_finite());
    // Logits have no calibration.
    for logit in [2.5, -0.5] {
        let mut logits = interp.predictions().clone();
        logits.preds[(3, 2)] = logit;
        let logits = ClassificationInterpretation::from_predictions(logits)?;
        let e = logits.calibration(10).unwrap_err();
        assert!(matches!(e, Error::Mismatch { .. }), "{e}");
        assert!(e.to_string().contains(&format!("an output is {logit}, not a probability")), "{e}");
        assert_eq!(logits.accuracy(), interp.accuracy());
    }
    Ok(())
}

/// A width of the standard formatter has 16 bits.
#[test]
fn names_that_are_wider_than_the_formatter_allows_are_written_in_full() -> Result<()> {
    let name = "x".repeat(70_000);
    let targets = vec![Target::Category(0)];
    let task = Task::Category { vocab: [name.clone(), "b".to_owned()].into() };
    let preds = Array2::from_elem((1, 2), 0.5);
    let p = Predictions::new(vec![0], preds, targets.clone(), targets, vec![], task);
    let interp = ClassificationInterpretation::from_predictions(p)?;
    assert!(interp.classification_report().to_string().contains(&name));

    let written = Written::default();
    let dls = pets()?.dataloaders(photos())?;
    let named = finetune::metric::named(name.clone(), accuracy());
    let learner = vision_learner(dls, resnet18()).pretrained(false).metric(named).build()?;
    learner.progress(Progress::to_writer(written.clone())).fit_one_cycle(1, 1e-4)?;
    assert!(written.text().lines().next().unwrap().contains(&name));
    Ok(())
}

#[cfg(feature = "show")]
#[test]
fn tables() -> Result<()> {
    let interp = interpreted()?;
    let top = interp.as_ref().top_losses_table(3, |item| format!("photo_{item}.jpg"));
    use finetune::learner::{EpochRow, History};
    let row = |epoch, values: [f64; 3]| {
        let mut row = EpochRow::default();
        (row.epoch, row.values, row.seconds) = (epoch, values.map(Some).to_vec(), 61.2);
        row
    };
    let names = ["train_loss", "valid_loss", "accuracy"].map(str::to_owned).to_vec();
    let rows = vec![row(0, [1.25, 0.98, 0.61]), row(1, [0.75, 0.5, 0.8125])];
    let mut history = History::default();
    (history.names, history.rows) = (names, rows);
    let all = [
        ("per category", interp.table()),
        ("most confused", interp.most_confused_table(1)),
        ("calibration", interp.calibration(10)?.table()),
        ("top losses", top),
        ("report", interp.classification_report().table()),
        ("epochs", history.table()),
    ];
    let text: String = all.iter().map(|(name, table)| format!("{name}\n{table}\n")).collect();
    insta::assert_snapshot!(text);
    insta::assert_snapshot!("table_html", interp.most_confused_table(1).html());
    Ok(())
}

#[test]
fn errors() -> Result<()> {
    let message = |r: Result<()>| placeless(&r.unwrap_err().to_string());
    let interp = interpreted()?;
    let mut learn = {
        let dls = pets()?.dataloaders(photos())?;
        vision_learner(dls, resnet18()).pretrained(false).build()?.quiet()
    };
    let values = Predictions::new(
        vec![0],
        Array2::zeros((1, 1)),
        vec![Target::Values(vec![1.0])],
        vec![Target::Values(vec![1.0])],
        vec![],
        Task::Values { n: 1 },
    );
    let sizes = unsized_pets()?.dataloaders(photos())?.train().one_batch();
    let text = [
        message(interp.roc("cow").map(drop)),
        message(interp.calibration(0).map(drop)),
        message(ClassificationInterpretation::from_predictions(values).map(drop)),
        message(learn.load("nowhere")),
        message(learn.predict("nowhere.jpg").map(drop)),
        message(pets()?.bs(500).dataloaders(photos()).map(drop)),
        message(RegexLabeller::new("(").map(drop)),
        message(sizes.map(drop)),
    ]
    .join("\n");
    insta::assert_snapshot!(text);
    Ok(())
}
