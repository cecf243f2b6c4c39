//! The whole workflow on a few real photos: data, training, interpretation, export, prediction.

use super::pets::{BREEDS, block, first_of, learner, photos};
use finetune::{learner::ExportOptions, prelude::*};

#[test]
fn from_photos_to_a_served_model() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let summary = block()?.summary(photos())?;
    assert!(summary.contains("Resize"), "{summary}");

    let mut learn = learner()?;
    assert_eq!((learn.dls().train().len(), learn.dls().valid().len()), (27, 9));
    assert_eq!(learn.dls().task().vocab(), ["Abyssinian", "Bengal", "american_bulldog"]);
    let batch = learn.dls().train().one_batch()?;
    assert_eq!(batch.x.size(), [8, 3, 64, 64]);
    assert_eq!(batch.y.unwrap().size(), [8]);

    let before: f64 = f64::try_from(learn.model().params()[0].tensor.sum(None)).unwrap();
    let found = learn.lr_find()?;
    let (first, last) = (found.lrs[0], found.lrs[found.lrs.len() - 1]);
    let valley = found.valley()?;
    assert!(found.lrs.len() > 20 && first < valley && valley < last, "{valley} in {found:?}");
    let after: f64 = f64::try_from(learn.model().params()[0].tensor.sum(None)).unwrap();
    assert_eq!(before, after, "lr_find leaves no trace");

    learn.fine_tune(1)?;
    let history = learn.recorder();
    assert_eq!(history.names, ["train_loss", "valid_loss", "accuracy", "error_rate"]);
    assert_eq!(history.rows.len(), 1);
    let (a, e) = (history.last("accuracy").unwrap(), history.last("error_rate").unwrap());
    assert!((a + e - 1.0).abs() < 1e-6);

    let preds = learn.get_preds()?;
    assert_eq!(preds.preds.dim(), (9, 3));
    assert!(preds.preds.rows().into_iter().all(|r| (r.sum() - 1.0).abs() < 1e-5));
    let interp = ClassificationInterpretation::from_learner(&mut learn)?;
    assert_eq!(interp.confusion_matrix().sum() as usize, 9);

    let file = folder.path().join("pets.safetensors");
    learn.export(&file)?;
    let served = Predictor::load(&file, Device::Cpu)?;
    let photo = &first_of(&BREEDS, 12)(&photos())?[0];
    let (ours, theirs) = (learn.predict(photo)?, served.predict(photo)?);
    assert_eq!(ours.label, theirs.label);
    for (a, b) in ours.probs.iter().zip(&theirs.probs) {
        assert!((a - b).abs() < 1e-5, "{ours:?} {theirs:?}");
    }
    Ok(())
}

#[test]
fn invalid_input_is_an_error() -> Result<()> {
    let empty = tempfile::tempdir().unwrap();
    let e = block()?.dataloaders(empty.path()).unwrap_err().to_string();
    let folder = empty.path().display().to_string();
    assert!(e.contains(&folder) && e.contains("jpg"), "{e}");

    let e = block()?.bs(500).dataloaders(photos()).map(|_| ()).unwrap_err().to_string();
    assert!(e.starts_with("`bs`") && e.contains("27") && e.contains("500"), "{e}");

    let one_class = |folder: &std::path::Path| Ok(first_of(&BREEDS, 12)(folder)?[..12].to_vec());
    let e = block()?.get_items(one_class).dataloaders(photos()).map(|_| ()).unwrap_err();
    assert!(e.to_string().contains("Abyssinian"), "{e}");

    let e = block()?.item_tfms(Resize::new(0)).dataloaders(photos());
    let e = e.and_then(|dls| dls.train().one_batch()).unwrap_err();
    assert!(e.to_string().starts_with("`Resize`: the size is 0x0"), "{e}");

    let mut learn = learner()?;
    let e = learn.fit(1, 1e30).unwrap_err();
    assert!(matches!(e, finetune::Error::NonFiniteLoss { epoch: 0, .. }), "{e}");

    // The weights are NaN now.
    let nowhere = ExportOptions::new("/dev/null/nowhere.safetensors");
    let e = learn.export(nowhere.clone()).unwrap_err();
    assert!(matches!(e, finetune::Error::NonFiniteWeights { .. }), "{e}");
    let e = learn.export(nowhere.allow_non_finite(true)).unwrap_err().to_string();
    assert!(e.contains("/dev/null"), "{e}");
    Ok(())
}
