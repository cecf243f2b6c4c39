//! The same seed gives the same run, bit for bit, also when it is stopped and resumed.
//!
//! A program of its own: libtorch has one generator for a process, which other tests would draw from.

#![allow(clippy::unwrap_used, reason = "a test fails by panics")]

use finetune::prelude::*;
use std::path::PathBuf;

fn photos() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/pets/images")
}

/// Twelve of each breed, so that the test takes seconds.
fn few(folder: &std::path::Path) -> Result<Vec<PathBuf>> {
    let files = get_image_files(folder)?;
    let breeds = ["Abyssinian", "Bengal", "american_bulldog"];
    let of = |breed: &str| {
        let breed = breed.to_owned();
        let name = move |f: &&PathBuf| {
            f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&breed))
        };
        files.iter().filter(name).take(12).cloned().collect::<Vec<_>>()
    };
    Ok(breeds.iter().flat_map(|b| of(b)).collect())
}

fn pets() -> Result<DataBlock<CategoryBlock>> {
    Ok(DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(few)
        .splitter(RandomSplitter::new(0.25).seed(42))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(80))
        .batch_tfms(aug_transforms().size(64).min_scale(0.75))
        .bs(8)
        .num_workers(2)
        .device(Device::Cpu))
}

fn learner() -> Result<Learner> {
    let learner = vision_learner(pets()?.dataloaders(photos())?, resnet18()).pretrained(false);
    Ok(learner.metric(accuracy()).metric(error_rate()).build()?.quiet())
}

#[test]
fn two_runs_and_a_resumed_one_end_with_the_same_weights() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let weights = |learn: &Learner| {
        let all = learn.model().state_dict();
        let sums = all.iter().map(|(n, w)| (n.clone(), w.to_kind(tch::Kind::Double).sum(None)));
        sums.map(|(n, s)| (n, f64::try_from(s).unwrap().to_bits())).collect::<Vec<_>>()
    };
    let whole = OneCycle::new(2).lr(1e-3);
    let mut first = learner()?;
    first.fit_with(&whole, &mut [])?;
    let mut second = learner()?;
    second.fit_with(&whole, &mut [])?;
    assert_eq!(weights(&first), weights(&second), "the same seed, the same run");

    // Stop after one epoch, begin again in another learner, end at the same place.
    #[derive(Debug)]
    struct StopAfterOne;
    impl Callback for StopAfterOne {
        fn after_epoch(&mut self, _: &mut Training) -> Step {
            Scope::Fit.cancel()
        }
    }
    let mut stopped = learner()?.model_dir(folder.path());
    stopped.fit_with(&whole, &mut [&mut StopAfterOne])?;
    stopped.save("half")?;
    let mut resumed = learner()?.model_dir(folder.path());
    resumed.load("half")?;
    resumed.fit_with(&whole.clone().start_epoch(1), &mut [])?;
    assert_eq!(weights(&first), weights(&resumed), "a resumed run, the same end");
    Ok(())
}
