//! The linear probe: compared with scikit-learn, installed as the head, and as the start of fine-tuning.

use super::pets;
use finetune::{
    Error, Result,
    data::{Arrays, DataLoaders, LoaderOptions},
    learner::{FineTune, Learner, Predictor, ProbeOptions},
    loss::{BceWithLogits, CrossEntropy, Loss, Mse},
    model::{Arch, ArchSpec, HeadOptions},
    prelude::{accuracy, error_rate, resnet18, unet_learner, vision_learner},
    sample::Task,
    seed::Seed,
};
use tch::{Device, Kind, Tensor, nn};

/// Returns the features of `n` items, `[n, 4]`, and the score that orders their classes.
fn features(n: i64, salt: f64) -> (Tensor, Tensor) {
    let double = (Kind::Double, Device::Cpu);
    let scale = Tensor::from_slice(&[2.0, 1.0, 0.5, 10.0]);
    let shift = Tensor::from_slice(&[0.0, 3.0, -1.0, 5.0]);
    let x = (Tensor::arange(n * 4, double) * 12.9898 + salt).sin().view([n, 4]) * scale + shift;
    let x = x.to_kind(Kind::Float);
    let noise = (Tensor::arange(n, double) * 78.233 + salt).sin();
    let column = |i: i64| x.select(1, i).to_kind(Kind::Double);
    let score = column(0) + column(3) * 0.2 - 1.0 + noise;
    (x, score)
}

fn names(n: usize) -> std::sync::Arc<[String]> {
    (0..n).map(|i| format!("class {i}")).collect::<Vec<_>>().into()
}

fn one_class(n: i64, salt: f64) -> Arrays {
    let (x, score) = features(n, salt);
    let y = score.gt(-0.7).to_kind(Kind::Int64) + score.gt(0.7).to_kind(Kind::Int64);
    Arrays::from_tensors(&x.view([n, 4, 1, 1]), &y, Task::Category { vocab: names(3) }).unwrap()
}

fn several_classes(n: i64, salt: f64) -> Arrays {
    let (x, score) = features(n, salt);
    let y = Tensor::stack(&[score.gt(0.0), score.gt(1.0), x.select(1, 1).gt(3.2)], 1);
    let y = y.to_kind(Kind::Float);
    Arrays::from_tensors(&x.view([n, 4, 1, 1]), &y, Task::Categories { vocab: names(3) }).unwrap()
}

/// Returns loaders of 60 and 20 items.
fn loaders(rows: impl Fn(i64, f64) -> Arrays) -> DataLoaders {
    let options = LoaderOptions::new().bs(16).device(Device::Cpu);
    DataLoaders::from_arrays(rows(60, 1.0), rows(20, 2.0), options).unwrap()
}

/// Returns a model whose pooled features are its inputs.
fn learner(dls: DataLoaders, loss: impl Loss + 'static) -> Learner {
    let arch = Arch::new("identity", |net, _| {
        net.step("same", Tensor::shallow_clone);
    });
    let spec = ArchSpec::new(&arch, 4, dls.task().n_out(), HeadOptions::new().concat_pool(false));
    let model = spec.build(Device::Cpu, Seed(3)).unwrap();
    Learner::new(dls, model, loss).unwrap().quiet()
}

fn close(a: impl IntoIterator<Item = f64>, b: &[f64], tolerance: f64) {
    let a: Vec<f64> = a.into_iter().collect();
    assert_eq!(a.len(), b.len());
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "{worst:e}: {a:?} and {b:?}");
}

/// Values of scikit-learn 1.9.1 on the same features:
/// `LogisticRegression(C=1 / (0.01 * 60), tol=1e-12, max_iter=100000)` after `StandardScaler`, its
/// coefficients divided by the scale.
#[test]
fn weights_are_those_of_scikit_learn() {
    let mut learn = learner(loaders(one_class), CrossEntropy::new());
    let probe = learn.probe_with(&ProbeOptions::new().l2(0.01).tolerance(1e-9)).unwrap();
    assert!(probe.converged && probe.tried.is_empty());
    let weight = [
        -0.605_543_29,
        -1.597_652_98,
        -3.413_573_92,
        -0.152_984_47, //
        0.132_860_79,
        0.186_115_92,
        0.152_628_43,
        -0.004_615_41, //
        0.472_682_5,
        1.411_537_06,
        3.260_945_49,
        0.157_599_88,
    ];
    close(probe.weight.iter().copied(), &weight, 2e-7);
    close(probe.bias.iter().copied(), &[1.257_046_81, 0.149_823_02, -1.406_869_83], 5e-7);
    let first = probe.predictions.preds.iter().take(12).map(|p| f64::from(*p));
    let probabilities = [
        2.580_87e-3,
        1.834_574_7e-1,
        8.139_616_6e-1, //
        9.822_968_9e-1,
        1.753_564e-2,
        1.674_8e-4, //
        4.259_579_2e-1,
        3.896_601_4e-1,
        1.843_819_4e-1, //
        8.44e-6,
        1.170_753e-2,
        9.882_840_3e-1,
    ];
    close(first, &probabilities, 2e-7);
    assert_eq!((probe.accuracy.hits, probe.accuracy.of), (16, 20));
    // The same interval as `scipy.stats.binomtest(16, 20).proportion_ci(method="wilson")`.
    let (low, high) = probe.accuracy.interval();
    close([low, high], &[0.583_982_6, 0.919_342_3], 1e-6);
}

/// As above, one `LogisticRegression` for each column.
#[test]
fn several_categories_are_one_regression_each() {
    let mut learn = learner(loaders(several_classes), BceWithLogits::new());
    let probe = learn.probe_with(&ProbeOptions::new().l2(0.01).tolerance(1e-9)).unwrap();
    let first = probe.predictions.preds.iter().take(12).map(|p| f64::from(*p));
    let probabilities = [
        9.746_575e-1,
        7.315_623_1e-1,
        9.561_821_9e-1, //
        4.598_02e-3,
        9.187_8e-4,
        7.146e-4, //
        2.753_125_3e-1,
        1.001_369_9e-1,
        1.897_629e-2, //
        9.990_686_4e-1,
        9.902_660_5e-1,
        9.962_112_1e-1,
    ];
    close(first, &probabilities, 2e-7);
    // All categories of an item must be correct.
    let p = &probe.predictions;
    let right = p.targets.iter().zip(&p.decoded).filter(|(a, b)| a == b).count();
    assert_eq!(probe.accuracy.hits, right);
    probe.install(&mut learn).unwrap();
    let preds = learn.get_preds().unwrap();
    close(preds.preds.iter().map(|p| f64::from(*p)), &flat(&probe.predictions.preds), 1e-5);
    assert_eq!(preds.decoded, probe.predictions.decoded);
}

fn flat(preds: &ndarray::Array2<f32>) -> Vec<f64> {
    preds.iter().map(|p| f64::from(*p)).collect()
}

#[test]
fn the_inner_split_chooses_and_is_the_same_each_time() {
    let mut learn = learner(loaders(one_class), CrossEntropy::new());
    let probe = learn.probe().unwrap();
    let best = probe.tried.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert_eq!(probe.l2, best.0);
    assert!(probe.tried.len() >= 4 && probe.tried.is_sorted_by_key(|(l2, _)| *l2));
    let again = learn.probe().unwrap();
    assert_eq!((&again.weight, &again.tried), (&probe.weight, &probe.tried));
    let text = probe.to_string();
    assert!(text.contains("20 validation items") && text.contains("4 of 60 training"), "{text}");
}

#[test]
fn an_installed_probe_predicts_saves_and_exports() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let mut learn = pets::learner()?.model_dir(folder.path());
    learn.freeze();
    let before = learn.validate()?;
    let probe = learn.probe()?;
    assert_eq!(learn.validate()?, before, "a probe changes nothing");
    assert_eq!(probe.weight.dim(), (3, 1024), "maxima and means of 512 channels");
    probe.install(&mut learn)?;

    let preds = learn.get_preds()?;
    assert_eq!(preds.items, probe.predictions.items);
    close(preds.preds.iter().map(|p| f64::from(*p)), &flat(&probe.predictions.preds), 1e-4);
    let names: Vec<&str> = learn.model().params().iter().map(|p| &*p.name).collect();
    let head: Vec<&&str> = names.iter().filter(|n| n.starts_with("head.")).collect();
    assert_eq!(head, [&"head.2.weight", &"head.2.bias", &"head.4.weight", &"head.4.bias"]);
    // The frozen body stays frozen; the head is trained in the last group.
    let params = learn.model().params();
    assert_eq!(learn.model().groups(), 3);
    let head = params.iter().filter(|p| p.name.starts_with("head."));
    assert!(head.clone().all(|p| p.tensor.requires_grad() && p.group == 2));
    let conv = params.iter().find(|p| p.name == "conv1.weight").unwrap();
    assert!(!conv.tensor.requires_grad());

    let file = folder.path().join("pets.safetensors");
    learn.export(&file)?;
    let photo = learn.dls().name(preds.items[0]);
    let loaded = Predictor::load(&file, Device::Cpu)?.predict(photo.as_str())?;
    close(loaded.probs.iter().map(|p| f64::from(*p)), &flat(&preds.preds)[..3], 1e-5);
    learn.save("probe")?;
    learn.load("probe")?;
    learn.fit_one_cycle(1, 1e-4)
}

#[test]
fn fine_tuning_starts_from_a_probe() -> Result<()> {
    let mut learn = pets::learner()?;
    learn.fine_tune(FineTune::new(2).from_probe().base_lr(1e-6))?;
    assert_eq!(learn.recorder().rows.len(), 2);
    assert_eq!(learn.training().stage(), 1, "no stage with a frozen body");
    let names: Vec<&str> = learn.model().params().iter().map(|p| &*p.name).collect();
    assert!(names.contains(&"head.4.bias") && !names.contains(&"head.8.weight"), "{names:?}");
    // With such a small rate, only the statistics of the normalizations change.
    learn.fine_tune(FineTune::new(1).from_probe().freeze_epochs(1).base_lr(1e-6))?;
    assert_eq!(learn.training().stage(), 2);
    Ok(())
}

#[test]
fn a_fit_that_ends_below_the_probe_gives_a_message() -> Result<()> {
    let dls = loaders(one_class);
    let arch = Arch::new("conv", |net, n_in| {
        net.add("conv", move |p| nn::conv2d(p, n_in, 8, 1, Default::default()));
    });
    let spec = ArchSpec::new(&arch, 4, 3, HeadOptions::new().concat_pool(false));
    let model = spec.build(Device::Cpu, Seed(3))?;
    let mut learn = Learner::new(dls, model, CrossEntropy::new())?.metric(accuracy()).quiet();
    let probe = learn.probe()?;
    let says = |learn: &Learner| learn.recorder().messages.iter().any(|m| m.contains("below the"));
    learn.fine_tune(FineTune::new(1).from_probe().base_lr(1e-9))?;
    assert_eq!(learn.recorder().last("accuracy"), Some(probe.accuracy.value()));
    assert!(!says(&learn), "{:?}", learn.recorder().messages);
    learn.fine_tune(FineTune::new(1).base_lr(30.0))?;
    assert!(learn.recorder().last("accuracy").unwrap() < probe.accuracy.value());
    assert!(says(&learn), "{:?}", learn.recorder().messages);
    Ok(())
}

#[test]
fn a_run_from_a_probe_resumes() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let plan = || FineTune::new(1).from_probe().base_lr(1e-3);
    let run = || -> Result<Learner> {
        let mut learn = pets::learner()?.model_dir(folder.path());
        learn.fit_or_resume("run", plan())?;
        Ok(learn)
    };
    let (first, second) = (run()?, run()?);
    let last = |learn: &Learner| learn.recorder().last("error_rate");
    assert_eq!(last(&first), last(&second));
    for (a, b) in first.model().params().iter().zip(second.model().params()) {
        assert!(a.name == b.name && a.tensor.equal(&b.tensor), "{}", a.name);
    }
    Ok(())
}

#[test]
fn features_in_bfloat16() -> Result<()> {
    let mut learn = pets::learner()?.to_bf16();
    let probe = learn.probe()?;
    probe.install(&mut learn)?;
    learn.validate().map(|_| ())
}

#[test]
fn errors_without_a_probe_give_the_reason() -> Result<()> {
    let error_of = |done: Result<finetune::learner::Probe>| done.unwrap_err();
    let unsupported = |e: Error, what: &str| {
        assert!(matches!(e, Error::Unsupported { .. }), "{e}");
        assert!(e.to_string().contains(what), "{e}");
    };
    unsupported(error_of(super::fit::learner().probe()), "a body and a head");
    let rows = |n, salt| {
        let (x, score) = features(n, salt);
        let y = score.to_kind(Kind::Float);
        Arrays::from_tensors(&x.view([n, 4, 1, 1]), &y, Task::Values { n: 1 }).unwrap()
    };
    unsupported(error_of(learner(loaders(rows), Mse).probe()), "must be categories");
    let dls = pets::block()?.dataloaders(pets::photos())?;
    let head = HeadOptions::new().y_range(0.0, 1.0);
    let build = |head| vision_learner(dls.clone(), resnet18()).pretrained(false).head(head).build();
    unsupported(error_of(build(head)?.quiet().probe()), "`y_range`");
    let unet = unet_learner(dls.clone(), resnet18()).pretrained(false).loss(CrossEntropy::new());
    if let Ok(unet) = unet.metric(error_rate()).build() {
        unsupported(error_of(unet.quiet().probe()), "U-Net");
    }

    let mut learn = learner(loaders(one_class), CrossEntropy::new());
    for (options, option) in [
        (ProbeOptions::new().l2(0.0), "l2"),
        (ProbeOptions::new().l2(f64::NAN), "l2"),
        (ProbeOptions::new().l2(0.1).inner_valid_pct(0.3), "inner_valid_pct"),
        (ProbeOptions::new().inner_valid_pct(1.0), "inner_valid_pct"),
        (ProbeOptions::new().inner_valid_pct(1e-6), "inner_valid_pct"),
        (ProbeOptions::new().max_iterations(0), "max_iterations"),
        (ProbeOptions::new().tolerance(-1.0), "tolerance"),
    ] {
        let e = error_of(learn.probe_with(&options));
        assert!(matches!(&e, Error::Config { option: o, .. } if *o == option), "{e}");
    }
    let probe = learn.probe_with(&ProbeOptions::new().l2(1e-4).max_iterations(2))?;
    assert!(!probe.converged && probe.to_string().contains("did not converge"), "{probe}");
    // Another number of features, or of categories.
    let e = probe.install(&mut build(HeadOptions::new())?).unwrap_err();
    assert!(matches!(e, Error::Mismatch { .. }), "{e}");
    Ok(())
}
