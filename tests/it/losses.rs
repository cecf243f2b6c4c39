//! Losses: sums of losses, and the errors of invalid options and shapes.

use crate::training_reports::{classes, linear, loaders};
use finetune::{
    Error, Result,
    learner::Learner,
    loss::{BceWithLogits, Combined, CrossEntropy, Dice, Focal, LabelSmoothing, Loss, PointMse},
    sample::Task,
};
use tch::{Device, Kind, Tensor};

/// Returns outputs of three classes for six items, and two targets of each item.
fn six() -> (Tensor, Tensor, Tensor) {
    let pred = (Tensor::arange(18, (Kind::Float, Device::Cpu)) * 3.7).sin().view([6, 3]);
    let y = Tensor::from_slice(&[0_i64, 1, 2, 1, 1, 0]);
    (pred, y, Tensor::from_slice(&[2_i64, 1, 0, 0, 1, 1]))
}

fn weighted() -> CrossEntropy {
    CrossEntropy::new().weight(vec![0.2, 1.0, 3.0])
}

fn number(value: Result<Tensor>) -> f64 {
    f64::try_from(value.unwrap()).unwrap()
}

/// Returns the error of a learner for `task` with this loss.
fn refused(task: &Task, loss: impl Loss + 'static) -> String {
    let learn = Learner::new(loaders(12, 6, 4, task), linear(task.n_out() as i64), loss);
    learn.map(drop).unwrap_err().to_string()
}

#[track_caller]
fn mismatch(done: Result<Tensor>) {
    let error = done.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
}

#[test]
fn a_sum_of_losses_is_the_weighted_sum_of_its_parts() {
    let (pred, y, other) = six();
    let share = Tensor::from_slice(&[0.7_f32, 0.2, 1.0, 0.5, 0.9, 0.0]);
    let sum = Combined::new(weighted(), 0.5).and(Focal::new(), 2.0);
    let parts = |of: &dyn Fn(&dyn Loss) -> Result<Tensor>| {
        (number(of(&sum)), 0.5 * number(of(&weighted())) + 2.0 * number(of(&Focal::new())))
    };
    for (ours, wanted) in [
        parts(&|loss| loss.mean(&pred, &y)),
        parts(&|loss| loss.sum(&pred, &y)),
        parts(&|loss| loss.mixed(&pred, &y, &other, &share)),
        parts(&|loss| Ok(loss.each(&pred, &y)?.get(4))),
        parts(&|loss| Ok(loss.elements(&pred, &y)?.get(4))),
    ] {
        assert!((ours - wanted).abs() < 1e-6 * wanted, "{ours} instead of {wanted}");
    }

    // Pixels and classes of an image cannot be added one by one.
    let pred = Tensor::zeros([2, 3, 4, 5], (Kind::Float, Device::Cpu));
    let y = Tensor::zeros([2, 4, 5], (Kind::Int64, Device::Cpu));
    let sum = Combined::new(CrossEntropy::new().axis(1), 1.0).and(Dice::new(), 1.0);
    mismatch(sum.elements(&pred, &y));
    assert_eq!(sum.each(&pred, &y).unwrap().size(), [2]);
}

#[test]
fn a_sum_of_losses_has_the_divisor_of_its_parts_or_an_error() {
    let (pred, y, _) = six();
    let divisor = |loss: &dyn Loss| loss.divisor(&pred, &y).map(Option::unwrap);
    let wanted = number(divisor(&weighted()));
    assert!((wanted - 6.4).abs() < 1e-5, "{wanted}");
    let same = Combined::new(weighted(), 0.5).and(weighted().label_smoothing(0.1), 2.0);
    assert_eq!(number(divisor(&same)), wanted);
    assert_eq!(number(divisor(&Combined::new(weighted(), 0.5))), wanted);
    let other = Combined::new(weighted(), 1.0).and(Focal::new(), 1.0);
    let error = divisor(&other).unwrap_err().to_string();
    assert!(error.contains("different divisors: 6 for `focal`"), "{error}");

    // A mean over pixels and one over images are the same share of a batch, unless pixels are ignored.
    let pred = Tensor::zeros([2, 3, 4, 5], (Kind::Float, Device::Cpu));
    let mut codes = vec![0_i64; 40];
    let pixels = CrossEntropy::new().axis(1).ignore_index(2);
    let loss = Combined::new(Dice::new(), 1.0).and(pixels, 1.0);
    let divisor = |codes: &[i64]| loss.divisor(&pred, &Tensor::from_slice(codes).view([2, 4, 5]));
    assert!(divisor(&codes).unwrap().is_none());
    codes[7] = 2;
    let error = divisor(&codes).unwrap_err().to_string();
    assert!(error.contains("different divisors: 39 for `cross_entropy`"), "{error}");
}

#[test]
fn invalid_options_of_a_loss_are_errors_of_the_learner() {
    let three = classes(3);
    for weight in [f64::NAN, f64::INFINITY, -0.5] {
        let loss = Combined::new(CrossEntropy::new(), 1.0).and(Focal::new(), weight);
        let error = refused(&three, loss);
        assert!(error.contains(&format!("the weight of `focal` is {weight};")), "{error}");
    }
    for smooth in [f64::NAN, f64::INFINITY, -1.0] {
        let error = refused(&three, Dice::new().smooth(smooth));
        assert!(error.contains(&format!("`smooth` is {smooth};")), "{error}");
    }
    let several = Task::Categories { vocab: ["boat".into(), "sea".into()].into() };
    let error = refused(&several, BceWithLogits::new().weight(vec![1.0, f32::NAN]));
    assert!(error.contains("`weight`: NaN is not a valid weight"), "{error}");
    let error = refused(&several, BceWithLogits::new().pos_weight(vec![1.0, -2.0]));
    assert!(error.contains("`pos_weight`: -2 is not a valid weight"), "{error}");
}

#[test]
fn masks_and_points_of_another_shape_are_errors() {
    let pred = Tensor::zeros([2, 3, 4, 5], (Kind::Float, Device::Cpu));
    let masks = |size: &[i64]| Tensor::zeros(size, (Kind::Int64, Device::Cpu));
    assert_eq!(Dice::new().each(&pred, &masks(&[2, 4, 5])).unwrap().size(), [2]);
    for wrong in [&[1, 4, 5][..], &[2, 5, 4], &[2, 1, 4, 5], &[2, 4]] {
        mismatch(Dice::new().each(&pred, &masks(wrong)));
        mismatch(Dice::new().mean(&pred, &masks(wrong)));
        mismatch(Dice::new().sum(&pred, &masks(wrong)));
    }

    let numbers = |size: &[i64]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
    assert_eq!(PointMse.each(&numbers(&[3, 4]), &numbers(&[3, 2, 2])).unwrap().size(), [3]);
    let wrong: [(&[i64], &[i64]); 3] = [(&[4], &[4]), (&[1, 4], &[1, 3, 2]), (&[], &[])];
    for (pred, y) in wrong {
        let (pred, y) = (numbers(pred), numbers(y));
        mismatch(PointMse.each(&pred, &y));
        mismatch(PointMse.elements(&pred, &y));
        mismatch(PointMse.mean(&pred, &y));
    }
}

#[test]
fn undefined_tensors_are_errors() {
    let (pred, y, _) = six();
    let none = Tensor::new();
    let all: [Box<dyn Loss>; 6] = [
        Box::new(weighted()),
        Box::new(Focal::new()),
        Box::new(LabelSmoothing::new(0.1)),
        Box::new(Dice::new()),
        Box::new(BceWithLogits::new()),
        Box::new(PointMse),
    ];
    for loss in &all {
        for (pred, y) in [(&pred, &none), (&none, &y), (&none, &none)] {
            for e in [loss.each(pred, y).unwrap_err(), loss.mean(pred, y).unwrap_err()] {
                let expected = matches!(e, Error::Torch(_) | Error::Mismatch { .. });
                assert!(expected, "{loss:?}: {e}");
            }
        }
    }
    let e = weighted().each(&pred, &none).unwrap_err();
    assert!(matches!(e, Error::Torch(_)), "{e}");
    let e = weighted().divisor(&none, &y).unwrap_err();
    assert!(matches!(e, Error::Torch(_)), "{e}");
}

#[test]
fn smoothed_labels_with_class_weights_have_no_divisor() {
    let (pred, y, _) = six();
    let loss = LabelSmoothing::new(0.1);
    assert!(loss.divisor(&pred, &y).unwrap().is_none());
    let error = loss.weight(vec![0.2, 1.0, 3.0]).divisor(&pred, &y).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("`CrossEntropy` with `label_smoothing`"), "{error}");
}
