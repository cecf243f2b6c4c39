//! Metrics: empty batches, and the errors of invalid input.

use finetune::{
    Error, Result,
    metric::{
        Average, Mean, Metric, MultiClass, OverEpoch, accuracy, accuracy_multi, ap_score_binary,
        avg_loss, avg_smooth_loss, balanced_accuracy, dice, dice_multi, f1_score, f1_score_multi,
        foreground_acc, iou_of_class, jaccard_coeff_multi, roc_auc, roc_auc_binary, roc_auc_multi,
    },
};
use tch::{Device, Kind, Tensor};

fn outputs(size: &[i64]) -> Tensor {
    let n: i64 = size.iter().product();
    (Tensor::arange(n, (Kind::Float, Device::Cpu)) * 3.7).sin().view(size)
}

/// Returns targets from 0 to `classes` - 1.
fn targets(size: &[i64], classes: i64) -> Tensor {
    let n: i64 = size.iter().product();
    Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(classes).view(size)
}

#[track_caller]
fn mismatch<T: std::fmt::Debug>(done: Result<T>) {
    let error = done.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
}

/// Returns one metric of each kind that ranks scores, with its number of classes.
fn rankings() -> [(Box<dyn Metric>, i64); 4] {
    [
        (Box::new(roc_auc_binary(None)), 2),
        (Box::new(roc_auc_binary(Some(0.5))), 2),
        (Box::new(ap_score_binary()), 2),
        (Box::new(roc_auc(Average::Macro, MultiClass::OneVsRest)), 3),
    ]
}

#[test]
fn scores_and_targets_of_different_items_are_an_error() {
    for (mut metric, classes) in rankings() {
        mismatch(metric.update(&outputs(&[10, classes]), &targets(&[8], classes)));
        assert_eq!(metric.value().unwrap(), None, "nothing was added");
        metric.update(&outputs(&[8, classes]), &targets(&[8], classes)).unwrap();
        assert!(metric.value().unwrap().is_some());
    }
    // As many items, but more than one target of each.
    let mut metric = roc_auc_binary(None);
    metric.update(&outputs(&[10, 2]), &targets(&[10, 2], 2)).unwrap();
    mismatch(metric.value());
}

#[test]
fn a_score_that_is_nan_has_no_rank() {
    let spoiled = |size: &[i64]| {
        let pred = outputs(size);
        let _ = pred.get(3).fill_(f64::NAN);
        pred
    };
    let check = |metric: &mut dyn Metric, size: &[i64], y: &Tensor| {
        metric.update(&outputs(size), y).unwrap();
        assert!(metric.value().unwrap().unwrap().is_finite(), "{metric:?}");
        metric.reset();
        metric.update(&spoiled(size), y).unwrap();
        assert!(metric.value().unwrap().unwrap().is_nan(), "{metric:?}");
    };
    for (mut metric, classes) in rankings() {
        check(&mut *metric, &[10, classes], &targets(&[10], classes));
    }
    for average in [Average::Macro, Average::Micro, Average::Weighted, Average::Samples] {
        check(&mut roc_auc_multi(average), &[10, 3], &targets(&[10, 3], 2));
    }
}

/// The second category has no item. The values are those of scikit-learn's `roc_auc_score`.
#[test]
fn a_category_without_items_has_no_weight() {
    let scores = [0.9, 0.2, 0.7, 0.4, 0.6, 0.1, 0.6, 0.1, 0.6, 0.2, 0.8, 0.65];
    let pred = Tensor::from_slice(&scores).view([4, 3]);
    let value = |average, y: [i64; 12]| {
        let mut metric = roc_auc_multi(average);
        metric.update(&pred, &Tensor::from_slice(&y).view([4, 3])).unwrap();
        metric.value().unwrap().unwrap()
    };
    let single = [1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0];
    let several = [1, 0, 0, 0, 0, 1, 1, 0, 1, 1, 0, 0];
    assert!((value(Average::Weighted, single) - 0.25).abs() < 1e-12);
    assert!((value(Average::Weighted, several) - 0.4).abs() < 1e-12);
    assert!(value(Average::Macro, single).is_nan());
}

#[test]
fn a_batch_without_items_changes_nothing() {
    let metrics: [Box<dyn Metric>; 3] =
        [Box::new(accuracy()), Box::new(avg_loss()), Box::new(avg_smooth_loss(0.9))];
    for mut metric in metrics {
        metric.update(&outputs(&[4, 2]), &targets(&[4], 2)).unwrap();
        metric.update_loss(&Tensor::from(0.5_f32), 4).unwrap();
        let before = metric.value().unwrap();
        metric.update(&outputs(&[0, 2]), &targets(&[0], 2)).unwrap();
        metric.update_loss(&Tensor::from(f32::NAN), 0).unwrap();
        assert!(before.unwrap().is_finite());
        assert_eq!(metric.value().unwrap(), before, "{}", metric.name());
    }
    let mut metric = f1_score_multi().average(Average::Samples);
    metric.update(&outputs(&[4, 3]), &targets(&[4, 3], 2)).unwrap();
    let before = metric.value().unwrap();
    metric.update(&outputs(&[0, 3]), &targets(&[0, 3], 2)).unwrap();
    assert_eq!(metric.value().unwrap(), before);
}

/// Counts of earlier batches are neither dropped nor mixed with those of other classes.
#[test]
fn another_number_of_classes_is_an_error_until_a_reset() {
    type Inputs = fn(i64) -> (Tensor, Tensor);
    let single: Inputs = |c| (outputs(&[6, c]), targets(&[6], c));
    let several: Inputs = |c| (outputs(&[6, c]), targets(&[6, c], 2));
    let masks: Inputs = |c| (outputs(&[2, c, 3, 3]), targets(&[2, 3, 3], c));
    let metrics: [(Box<dyn Metric>, Inputs); 4] = [
        (Box::new(f1_score().average(Average::Macro)), single),
        (Box::new(balanced_accuracy()), single),
        (Box::new(f1_score_multi()), several),
        (Box::new(jaccard_coeff_multi()), masks),
    ];
    for (mut metric, inputs) in metrics {
        let update = |metric: &mut dyn Metric, classes| {
            let (pred, y) = inputs(classes);
            metric.update(&pred, &y)
        };
        update(&mut *metric, 3).unwrap();
        let before = metric.value().unwrap();
        assert!(before.is_some());
        for other in [1, 4] {
            mismatch(update(&mut *metric, other));
        }
        assert_eq!(metric.value().unwrap(), before, "{}", metric.name());
        metric.reset();
        update(&mut *metric, 4).unwrap();
    }
}

#[test]
fn a_panic_in_the_function_of_a_metric_is_an_error() {
    let (pred, y) = (outputs(&[2, 3]), targets(&[2, 3], 2));
    let mut mean =
        Mean::new("mine", |_: &Tensor, _: &Tensor| -> Result<f64> { panic!("no mean today") });
    let e = mean.update(&pred, &y).unwrap_err();
    assert!(matches!(e, Error::Panic { .. }) && e.to_string().contains("no mean today"), "{e}");
    let mut undefined = Mean::new("mine", |_: &Tensor, _: &Tensor| Ok(Tensor::new()));
    let e = undefined.update(&pred, &y).unwrap_err();
    assert!(matches!(e, Error::Torch(_)), "{e}");
    let complex = pred.to_kind(Kind::ComplexFloat);
    let e = accuracy_multi(0.5, false).update(&complex, &y).unwrap_err();
    assert!(matches!(e, Error::Torch(_)), "{e}");
    let mut all = OverEpoch::new("mine", |_: &Tensor, _: &Tensor| -> Result<f64> {
        panic!("no value today")
    });
    all.update(&pred, &y).unwrap();
    let e = all.value().unwrap_err();
    assert!(matches!(e, Error::Panic { .. }) && e.to_string().contains("no value today"), "{e}");
}

#[test]
fn the_state_of_another_metric_is_an_error() {
    let counts =
        |size: &[i64]| vec![("counts".to_owned(), Tensor::ones(size, (Kind::Int64, Device::Cpu)))];
    let mut metric = dice_multi();
    metric.update(&outputs(&[2, 3, 4, 4]), &targets(&[2, 4, 4], 3)).unwrap();
    let (state, value) = (metric.state().unwrap(), metric.value().unwrap());
    let sums = vec![("sums".to_owned(), Tensor::from_slice(&[1.0, 2.0]))];
    for wrong in [counts(&[3, 2, 2]), counts(&[2, 3]), counts(&[3]), sums] {
        mismatch(metric.load_state(&wrong));
        assert_eq!(metric.value().unwrap(), value, "{wrong:?}");
        mismatch(foreground_acc(0).load_state(&wrong));
    }
    let mut other = dice_multi();
    other.load_state(&state).unwrap();
    assert_eq!(other.value().unwrap(), value);
    other.load_state(&[]).unwrap();
    assert_eq!(other.value().unwrap(), None);
    mismatch(dice().load_state(&state));

    let mut metric = foreground_acc(0);
    metric.update(&outputs(&[2, 3, 4, 4]), &targets(&[2, 4, 4], 3)).unwrap();
    let mut other = foreground_acc(0);
    other.load_state(&metric.state().unwrap()).unwrap();
    assert_eq!(other.value().unwrap(), metric.value().unwrap());
}

#[test]
fn the_score_of_a_class_that_does_not_exist_is_an_error() {
    let mut metric = iou_of_class(3, "sky");
    let error = metric.update(&outputs(&[2, 3, 4, 4]), &targets(&[2, 4, 4], 3)).unwrap_err();
    let told = "`class` is 3; it must be the index of one of the 3 classes";
    assert!(error.to_string().contains(told), "{error}");
    metric.update(&outputs(&[2, 4, 4, 4]), &targets(&[2, 4, 4], 4)).unwrap();
}
