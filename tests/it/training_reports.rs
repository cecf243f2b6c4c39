//! Bug reports by people who train image models, each as a test with the number of the report, and
//! panics and other failures of user code in a learner.

use crate::{fit::learner, pets};
use finetune::{
    Error, Result,
    callback::{
        Better, Checkpoint, CsvLogger, Cut, CutMix, EarlyStopping, GradientAccumulation, MixUp,
        Monitor, Pairs, ReduceLrOnPlateau, SaveBest, ShortEpoch,
    },
    data::{Arrays, DataLoaders, LoaderOptions, RandomSplitter},
    format::{StateDict, read_safetensors, write_safetensors},
    learner::{
        Callback, Defaults, FineTune, Flat, Learner, LrCurve, LrFinder, OneCycle, Outcome,
        Predictor, Scope, Step, Training, vision_learner,
    },
    loss::{BceWithLogits, Combined, CrossEntropy, Focal, LabelSmoothing, Loss, Mse},
    metric::{
        Mean, Metric, accuracy, avg_loss, avg_smooth_loss, dice, error_rate, f1_score,
        f1_score_multi, foreground_acc, mae, mse, named, perplexity, roc_auc_binary,
        top_k_accuracy,
    },
    model::{
        Arch, ArchSpec, BatchNorm, HeadOptions, Model, Param, ParamKind, adapt_first_layer,
        batch_norm1d, resnet18,
    },
    optim::{Adam, Hyper, Lr, Optimizer, Sgd},
    sample::{Batch, Task},
    seed::Seed,
};
use std::fs;
use tch::{
    Device, Kind, Tensor,
    nn::{self, ModuleT, Path},
};

/// Returns a task with `n` categories.
pub(crate) fn classes(n: usize) -> Task {
    Task::Category { vocab: (0..n).map(|i| i.to_string()).collect() }
}

/// Returns rows of four numbers with cyclic classes.
fn rows(n: i64, task: &Task) -> Arrays {
    let at = Tensor::arange(n * 4, (Kind::Float, Device::Cpu));
    let x = (at * 12.9898).sin().view([n, 4]);
    let many = task.n_out() as i64;
    let y = Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(many.max(1));
    let y = match task {
        Task::Category { .. } => y,
        Task::Categories { .. } => y.one_hot(many).to_kind(Kind::Float),
        _ => y.to_kind(Kind::Float) * 0.5,
    };
    Arrays::from_tensors(&x, &y, task.clone()).unwrap()
}

pub(crate) fn loaders(train: i64, valid: i64, bs: usize, task: &Task) -> DataLoaders {
    let options = LoaderOptions::new().bs(bs).shuffle(false).drop_last(false).device(Device::Cpu);
    DataLoaders::from_arrays(rows(train, task), rows(valid, task), options).unwrap()
}

/// Returns one linear layer with weights from a formula.
pub(crate) fn linear(outputs: i64) -> Model {
    model(|path| {
        let mut layer = nn::linear(path / "last", 4, outputs, Default::default());
        let at = Tensor::arange(4 * outputs, (Kind::Float, Device::Cpu)).view([outputs, 4]);
        tch::no_grad(|| {
            layer.ws.copy_(&((at * 78.233).sin() * 0.5));
            let _ = layer.bs.as_mut().unwrap().zero_();
        });
        layer
    })
}

fn model<M: ModuleT + 'static>(make: impl FnOnce(&Path<'_>) -> M) -> Model {
    let vars = nn::VarStore::new(Device::Cpu);
    let net = make(&vars.root());
    Model::from_module(vars, net).unwrap()
}

fn of(dls: DataLoaders, model: Model, loss: impl Loss + 'static) -> Learner {
    Learner::new(dls, model, loss).unwrap().quiet()
}

/// Returns loaders of 12 images of 8x8 pixels.
fn images() -> DataLoaders {
    let rows = |n: i64| {
        let at = Tensor::arange(n * 3 * 8 * 8, (Kind::Float, Device::Cpu));
        let y = Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(3);
        Arrays::from_tensors(&at.sin().view([n, 3, 8, 8]), &y, classes(3)).unwrap()
    };
    let options = LoaderOptions::new().bs(4).device(Device::Cpu);
    DataLoaders::from_arrays(rows(12), rows(6), options).unwrap()
}

/// Returns one linear layer for such images.
fn flat() -> Model {
    model(|path| {
        let layer = nn::linear(path / "last", 3 * 8 * 8, 3, Default::default());
        nn::seq_t().add_fn(|x| x.flatten(1, -1)).add(layer)
    })
}

fn three() -> Learner {
    of(loaders(12, 6, 4, &classes(3)), linear(3), CrossEntropy::new())
}

/// Counts its `after_fit`.
#[derive(Debug, Default)]
struct Ends(usize);

impl Callback for Ends {
    fn after_fit(&mut self, _: &mut Training) -> Step {
        self.0 += 1;
        Ok(())
    }
}

/// Returns the error of a fit, and checks that every callback got its `after_fit`.
#[track_caller]
fn failed(learn: &mut Learner) -> String {
    let mut ends = Ends::default();
    let done = learn.fit_with(&Flat::new(1).lr(1e-2), &mut [&mut ends]);
    assert_eq!(ends.0, 1, "`after_fit`");
    done.unwrap_err().to_string()
}

fn weights(learn: &Learner) -> Vec<f64> {
    let all = learn.model().params().iter().map(|p| p.tensor.detach().flatten(0, -1));
    Vec::try_from(Tensor::cat(&all.collect::<Vec<_>>(), 0).to_kind(Kind::Double)).unwrap()
}

#[test]
fn a_learner_can_be_sent_to_another_thread() {
    fn send<T: Send>() {}
    send::<Learner>();
    send::<Predictor>();
    let mut learn = three();
    let learn = std::thread::spawn(move || {
        learn.fit(1, 1e-2).unwrap();
        learn
    });
    assert_eq!(learn.join().unwrap().recorder().rows.len(), 1);
}

#[test]
fn a_panic_in_the_model_is_an_error_of_the_fit() {
    let net = model(|path| {
        let layer = nn::linear(path / "last", 4, 3, Default::default());
        nn::seq_t().add(layer).add_fn(|x| {
            assert!(x.size()[0] < 4, "no four");
            x.shallow_clone()
        })
    });
    let mut learn = of(loaders(12, 6, 4, &classes(3)), net, CrossEntropy::new());
    let error = failed(&mut learn);
    for part in ["training batch 0 of epoch 0", "the model on inputs of shape [4, 4]", "no four"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn errors_of_the_model_have_libtorchs_message() {
    let net = model(|path| nn::linear(path / "last", 5, 3, Default::default()));
    let mut learn = of(loaders(12, 6, 4, &classes(3)), net, CrossEntropy::new());
    let error = failed(&mut learn);
    assert!(error.contains("mat1 and mat2 shapes cannot be multiplied (4x4 and 5x3)"), "{error}");
    assert!(!error.contains("Exception raised") && !error.contains("unwrap"), "{error}");
}

#[test]
fn a_panic_in_the_loss_is_an_error_of_the_fit() {
    #[derive(Debug)]
    struct Bad;
    impl Loss for Bad {
        fn each(&self, _: &Tensor, _: &Tensor) -> Result<Tensor> {
            panic!("no loss today")
        }
    }
    let mut learn = of(loaders(12, 6, 4, &classes(3)), linear(3), Bad);
    let error = failed(&mut learn);
    assert!(error.contains("no loss today") && error.contains("the loss `Bad`"), "{error}");
}

#[test]
fn an_undefined_tensor_of_user_code_is_an_error_of_the_fit() {
    let net = model(|path| {
        let layer = nn::linear(path / "last", 4, 3, Default::default());
        nn::seq_t().add(layer).add_fn(|_| Tensor::new())
    });
    let e = net.forward(&Tensor::zeros([2, 4], (Kind::Float, Device::Cpu)), false).unwrap_err();
    let told = e.to_string();
    assert!(told.contains("the model") && told.contains("tensor is undefined"), "{told}");
    let error = failed(&mut of(loaders(12, 6, 4, &classes(3)), net, CrossEntropy::new()));
    assert!(error.contains("the returned tensor is undefined"), "{error}");

    #[derive(Debug)]
    struct Empty;
    impl Loss for Empty {
        fn each(&self, _: &Tensor, _: &Tensor) -> Result<Tensor> {
            Ok(Tensor::new())
        }
        fn mean(&self, _: &Tensor, _: &Tensor) -> Result<Tensor> {
            Ok(Tensor::new())
        }
    }
    let error = failed(&mut of(loaders(12, 6, 4, &classes(3)), linear(3), Empty));
    assert!(error.contains("tensor is undefined") && error.contains("the loss `Empty`"), "{error}");
}

/// Panics in one of its methods.
#[derive(Debug)]
struct BadMetric(&'static str);

impl BadMetric {
    fn at(&self, call: &str) {
        assert!(self.0 != call, "no {call} today");
    }
}

impl Metric for BadMetric {
    fn name(&self) -> &str {
        "bad"
    }
    fn reset(&mut self) {
        self.at("reset");
    }
    fn update(&mut self, _: &Tensor, _: &Tensor) -> Result<()> {
        self.at("update");
        Ok(())
    }
    fn update_loss(&mut self, _: &Tensor, _: i64) -> Result<()> {
        self.at("update_loss");
        Ok(())
    }
    fn value(&self) -> Result<Option<f64>> {
        self.at("value");
        Ok(None)
    }
}

#[test]
fn a_panic_in_a_metric_is_an_error_of_the_fit() {
    for call in ["reset", "update", "update_loss", "value"] {
        let error = failed(&mut three().metric(BadMetric(call)));
        let said = error.contains(&format!("no {call} today")) && error.contains("metric `bad`");
        assert!(said, "{error}");
    }
}

#[test]
fn a_panic_in_a_callback_is_an_error_of_the_fit() {
    #[derive(Debug)]
    struct Bad(&'static str);
    impl Bad {
        fn at(&self, event: &str) -> Step {
            assert!(self.0 != event, "no {event} today");
            Ok(())
        }
    }
    impl Callback for Bad {
        fn before_fit(&mut self, _: &mut Training) -> Step {
            self.at("before_fit")
        }
        fn before_batch(&mut self, _: &mut Training, _: &mut Batch) -> Step {
            self.at("before_batch")
        }
        fn after_step(&mut self, _: &mut Training) -> Step {
            self.at("after_step")
        }
        fn after_validate(&mut self, _: &mut Training) -> Step {
            self.at("after_validate")
        }
        fn after_fit(&mut self, _: &mut Training) -> Step {
            self.at("after_fit")
        }
    }
    for event in ["before_fit", "before_batch", "after_step", "after_validate", "after_fit"] {
        let mut learn = three().callback(Bad(event));
        let error = failed(&mut learn);
        let start = format!("`Bad` failed in `{event}`: a panic at ");
        assert!(
            error.starts_with(&start) && error.contains(&format!("no {event} today")),
            "{error}"
        );
        assert!(error.contains("training_reports.rs"), "the place is named: {error}");
    }
}

#[test]
fn a_panic_in_an_optimizer_or_a_policy_is_an_error_of_the_fit() {
    let made = three().opt_func(|_| panic!("no optimizer today"));
    assert!(made.unwrap_err().to_string().contains("no optimizer today"));

    #[derive(Debug)]
    struct Bad;
    impl finetune::learner::Policy for Bad {
        fn course(
            &self,
            _: usize,
            _: &finetune::learner::Defaults,
        ) -> Result<finetune::learner::Course> {
            panic!("no policy today")
        }
    }
    let error = three().fit_with(&Bad, &mut []).unwrap_err().to_string();
    assert!(error.contains("no policy today"), "{error}");
}

#[test]
fn an_optimizer_step_after_a_parameter_got_another_shape_is_an_error() {
    let sum = |t: &Tensor| (t * t).sum(Kind::Float).backward();
    type Make = fn(&[Param]) -> Result<Optimizer>;
    let made: [Make; 2] =
        [|p| Optimizer::new(p, Adam::new()), |p| Optimizer::new(p, Sgd::new().mom(0.9))];
    for make in made {
        for size in [vec![100_000_i64], vec![2], vec![5, 2], vec![10, 1]] {
            let mut tensor = Tensor::ones([10], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let kind = ParamKind::Weight;
            let param = |tensor: &Tensor| Param {
                name: "w".to_owned(),
                tensor: tensor.shallow_clone(),
                group: 0,
                kind,
            };
            let mut opt = make(&[param(&tensor)]).unwrap();
            sum(&tensor);
            opt.step().unwrap();
            opt.zero_grad();
            tensor.set_data(&Tensor::ones(size.as_slice(), (Kind::Float, Device::Cpu)));
            sum(&tensor);
            let error = opt.step().unwrap_err().to_string();
            assert!(error.contains("`w` now has the shape"), "{size:?}: {error}");
            opt.clear_state();
            opt.step().unwrap();
        }
    }
}

#[test]
fn a_parameter_without_memory_of_its_own_is_an_error() {
    let one = Tensor::ones([1], (Kind::Float, Device::Cpu));
    let tensor = one.expand([100_000], false).set_requires_grad(true);
    let kind = ParamKind::Weight;
    let param = Param { name: "w".into(), tensor: tensor.shallow_clone(), group: 0, kind };
    let mut opt = Optimizer::new(&[param], Adam::new()).unwrap();
    (&tensor * 2.0).sum(Kind::Float).backward();
    let error = opt.step().unwrap_err();
    assert!(matches!(error, Error::Torch(_)), "{error}");
    assert!(error.to_string().contains("a view with gaps or overlaps in memory"), "{error}");
}

#[test]
fn group_numbers_that_need_terabytes_are_errors() {
    let tensor = || Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let param =
        |group| Param { name: "w".into(), tensor: tensor(), group, kind: ParamKind::Weight };
    let layer = |path: &Path<'_>, group| {
        nn::linear(path.set_group(group) / "last", 4, 3, Default::default())
    };
    for group in [1 << 16, 1 << 40, usize::MAX] {
        let told = format!("`group` is {group} for the parameter `");
        let error = Optimizer::new(&[param(group)], Adam::new()).unwrap_err().to_string();
        assert!(error.starts_with(&told), "{error}");

        let vars = nn::VarStore::new(Device::Cpu);
        let net = layer(&vars.root(), group);
        let error = Model::from_module(vars, net).unwrap_err().to_string();
        assert!(error.starts_with(&told), "{error}");

        // The head comes after the groups of the body.
        let arch = Arch::new("far", move |net, n_in| {
            net.add("conv", move |p| {
                nn::conv2d(p.set_group(group) / "far", n_in, 8, 3, Default::default())
            });
        });
        let spec = ArchSpec::new(&arch, 3, 2, HeadOptions::new());
        let error = spec.build(Device::Cpu, Seed(1)).unwrap_err().to_string();
        assert!(error.starts_with(&told), "{error}");
    }
    let error = Lr::from(1e-3).for_groups(1 << 40).unwrap_err().to_string();
    assert!(error.contains("`lr` is for 1099511627776 parameter groups"), "{error}");

    // Groups without parameters are allowed.
    let last = (1 << 16) - 1;
    assert_eq!(Optimizer::new(&[param(last)], Adam::new()).unwrap().hypers().len(), last + 1);
    assert_eq!(model(|path| layer(path, last)).groups(), last + 1);
}

#[test]
fn weight_decay_and_momentum_are_checked_before_training() {
    type Fit = Box<dyn Fn(&mut Learner) -> Result<()>>;
    let cycle = || OneCycle::new(1);
    let plans: [(&str, Fit); 8] = [
        ("`wd` is NaN", Box::new(|l| l.fit_with(&Flat::new(1).wd(f64::NAN), &mut []))),
        ("`wd` is -1", Box::new(|l| l.fine_tune(FineTune::new(1).wd(-1.0)))),
        ("`wd` is inf", Box::new(|l| l.fit_or_resume("no", Flat::new(1).wd(f64::INFINITY)))),
        ("`moms` is 1.5", Box::new(move |l| l.fit_with(&cycle().moms(1.5, 0.9, 0.9), &mut []))),
        ("`moms` is 1;", Box::new(move |l| l.fit_with(&cycle().moms(0.9, 1.0, 0.9), &mut []))),
        ("`moms` is -0.1", Box::new(move |l| l.fit_with(&cycle().moms(0.9, 0.9, -0.1), &mut []))),
        ("`moms` is NaN", Box::new(|l| l.fine_tune(FineTune::new(1).moms(f64::NAN, 0.9, 0.9)))),
        ("`lr` is -0.1", Box::new(|l| l.fit(1, -0.1))),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut learn = three().model_dir(folder.path());
    let before = weights(&learn);
    for (told, fit) in &plans {
        let error = fit(&mut learn).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
        assert!(error.to_string().starts_with(told), "{error}");
    }
    let mut defaults = Defaults::default();
    (defaults.wd, defaults.moms) = (Some(f64::NAN), (0.9, 2.0, 0.9));
    let mut own = three().defaults(defaults);
    assert!(own.fit(1, 1e-3).unwrap_err().to_string().starts_with("`wd` is NaN"));
    let error = own.fit_with(&cycle().wd(0.1), &mut []).unwrap_err().to_string();
    assert!(error.starts_with("`moms` is 2;"), "{error}");

    // The optimizer itself rejects them too, and keeps its values.
    let opt = &mut learn.training_mut().opt;
    let hypers = opt.hypers().to_vec();
    for (hyper, value) in [
        (Hyper::Wd, f64::NAN),
        (Hyper::Wd, -1.0),
        (Hyper::Lr, f64::INFINITY),
        (Hyper::Mom, 1.5),
        (Hyper::SqrMom, 1.0),
        (Hyper::Eps, -1e-5),
    ] {
        let error = opt.set(hyper, &[value]).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("`{hyper}` is {value}; ")), "{error}");
    }
    let mut wrong = hypers.clone();
    wrong[0].wd = f64::NAN;
    let error = opt.set_hypers(&wrong).unwrap_err();
    assert!(matches!(error, Error::Config { option: "wd", .. }), "{error}");
    assert!(error.to_string().starts_with("`wd` is NaN"), "{error}");
    assert_eq!(opt.hypers(), hypers);
    let error = Optimizer::new(learn.model().params(), Adam::new().mom(1.0)).unwrap_err();
    assert!(matches!(error, Error::Config { option: "mom", .. }), "{error}");
    assert!(error.to_string().starts_with("`mom` is 1; "), "{error}");
    assert_eq!(weights(&learn), before);
}

#[test]
fn a_count_of_steps_that_would_overflow_is_an_error() {
    let mut learn = three();
    learn.fit(1, 1e-3).unwrap();
    let opt = &mut learn.training_mut().opt;
    let state = opt.state();
    let counted = |n: f64| {
        let set = |(name, t): &(String, Tensor)| match name.ends_with(".step") {
            true => (name.clone(), Tensor::from(n)),
            false => (name.clone(), t.copy()),
        };
        state.iter().map(set).collect::<Vec<_>>()
    };
    for n in [1.8e19, 2_f64.powi(54), f64::INFINITY, f64::NAN, -1.0, 0.5] {
        let error = opt.load_state(&counted(n)).unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{error}");
        assert!(error.to_string().contains(".step` is "), "{error}");
    }
    opt.load_state(&counted(2_f64.powi(53))).unwrap();
    let x = Tensor::ones([1, 4], (Kind::Float, Device::Cpu));
    learn.model().forward(&x, true).unwrap().sum(Kind::Float).backward();
    learn.training_mut().opt.step().unwrap();
    learn.model().check_finite().unwrap();
}

#[test]
fn calls_that_used_to_panic_are_errors() {
    let mut short = LrCurve::new(vec![1e-3; 20], vec![1.0; 20]).unwrap();
    short.lrs.clear();
    for suggest in [LrCurve::valley, LrCurve::minimum, LrCurve::steep, LrCurve::slide] {
        let error = suggest(&short).unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{error}");
        assert!(error.to_string().contains("0 learning rates, but 20 losses"), "{error}");
    }
    assert!(short.loss_at(1e-3).is_nan());
    let curve = LrCurve::new(vec![1e-3; 20], vec![1.0; 20]).unwrap();
    for distance in [20, usize::MAX - 1, usize::MAX] {
        let error = curve.slide_with(distance, 0.005, 1.0).unwrap_err();
        assert!(matches!(error, Error::Config { option: "lr_find", .. }), "{error}");
        let points = distance.saturating_add(1);
        let told = format!("`slide` needs {points} points, but the curve has 20");
        assert!(error.to_string().contains(&told), "{error}");
    }
    assert_eq!(curve.slide_with(19, 0.005, 1.0).unwrap(), 1e-3);
    let error = LrCurve::new(vec![1e-3], vec![]).unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    assert!(error.to_string().contains("1 learning rates, but 0 losses"), "{error}");

    let mut plan = finetune::transform::Plan::new(2, (4, 4), 3);
    let error = plan.keep(&[5]).unwrap_err();
    assert!(matches!(error, Error::Config { option: "Plan::keep", .. }), "{error}");
    assert!(error.to_string().contains("index 5 is not below 2"), "{error}");
    assert_eq!(plan.len(), 2);
    plan.keep(&[1]).unwrap();
    for size in [(0, 4), (30_000, 30_000), (u32::MAX, u32::MAX)] {
        let mut plan = finetune::transform::Plan::new(1, size, 3);
        plan.affine(Default::default(), Some((4, 4)), []).unwrap();
        let error = plan.execute(&[], false).unwrap_err();
        assert!(matches!(error, Error::Config { option: "Plan::execute", .. }), "{error}");
        assert!(error.to_string().contains("from 1 to 2147483647 values"), "{error}");
    }

    let flat = Tensor::zeros([4], (Kind::Float, Device::Cpu));
    let square = Tensor::zeros([8, 3, 3, 3], (Kind::Float, Device::Cpu));
    for (weight, channels, told) in
        [(&flat, 1, "the shape [4] for 1 channels"), (&square, 0, "for 0 channels")]
    {
        let error = adapt_first_layer(weight, channels).unwrap_err();
        assert!(matches!(error, Error::Mismatch { what: "first layer", .. }), "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
    let error = finetune::transform::denormalize(&[], &Tensor::new()).unwrap_err();
    assert!(matches!(error, Error::Torch(_)), "{error}");

    let task = Task::Mask { codes: ["no", "yes"].map(String::from).into(), ignored: None };
    let complex = Tensor::zeros([1, 2, 2], (Kind::ComplexFloat, Device::Cpu));
    let x = Tensor::zeros([1, 3, 2, 2], (Kind::Float, Device::Cpu));
    let error = Arrays::from_tensors(&x, &complex, task.clone()).unwrap_err();
    assert!(matches!(error, Error::Torch(_)), "{error}");
    let several = Task::Categories { vocab: ["a", "b"].map(String::from).into() };
    for (values, shape, task, told) in [
        ([0.0, 1.0, 0.5, 1.0], &[1, 2, 2][..], &task, "codes of masks must be whole numbers"),
        ([0.0, 1.0, f32::NAN, 1.0], &[1, 2, 2], &task, "codes of masks must be whole numbers"),
        ([0.0, 1.0, 0.5, 1.0], &[4], &classes(2), "contain 0.5; categories must be whole numbers"),
        ([0.0, 1.0, f32::NAN, 1.0], &[4], &classes(2), "contain NaN; categories must be whole"),
        ([0.0, 1.0, 0.5, 1.0], &[2, 2], &several, "contain 0.5; categories must be 0 or 1"),
    ] {
        let x = Tensor::zeros([shape[0], 3, 2, 2], (Kind::Float, Device::Cpu));
        let y = Tensor::from_slice(&values).view(shape);
        let error = Arrays::from_tensors(&x, &y, task.clone()).unwrap_err();
        assert!(matches!(error, Error::Mismatch { what: "from_arrays", .. }), "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }

    let row = finetune::data::Row::table(["name"], [["a.jpg"]]).unwrap().remove(0);
    let empty = || finetune::data::ColReader::columns(Vec::<String>::new());
    for error in [
        empty().text()(&row).unwrap_err(),
        empty().labels(";")(&row).unwrap_err(),
        empty().number()(&row).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Config { option: "ColReader", .. }), "{error}");
        assert!(error.to_string().contains("0 columns are set, but one is read"), "{error}");
    }
}

#[test]
fn metrics_that_are_added_during_a_fit_are_an_error() {
    #[derive(Debug)]
    struct Adds;
    impl Callback for Adds {
        fn before_epoch(&mut self, t: &mut Training) -> Step {
            t.metrics.push(Box::new(accuracy()));
            Ok(())
        }
    }
    let error = failed(&mut three().callback(Adds));
    assert!(error.contains("their number changed during the fit"), "{error}");
}

#[test]
fn a_model_whose_output_has_no_items_is_an_error() {
    let net = model(|path| {
        let layer = nn::linear(path / "last", 4, 3, Default::default());
        nn::seq_t().add(layer).add_fn(|x| x.sum(Kind::Float))
    });
    let mut learn = of(loaders(12, 6, 4, &classes(3)), net, CrossEntropy::new());
    assert!(failed(&mut learn).contains("the loss `"));
    let error = learn.get_preds().unwrap_err().to_string();
    assert!(error.contains("the loss `"), "{error}");
}

#[test]
fn t1_metrics_of_the_loss_have_values() {
    /// The number of losses.
    #[derive(Debug, Default)]
    struct Losses(f64);
    impl Metric for Losses {
        fn name(&self) -> &str {
            "losses"
        }
        fn reset(&mut self) {
            self.0 = 0.0;
        }
        fn update(&mut self, _: &Tensor, _: &Tensor) -> Result<()> {
            Ok(())
        }
        fn update_loss(&mut self, _: &Tensor, _: i64) -> Result<()> {
            self.0 += 1.0;
            Ok(())
        }
        fn value(&self) -> Result<Option<f64>> {
            Ok(Some(self.0))
        }
    }
    let learn = three().metric(perplexity()).metric(named("avg", avg_loss()));
    let learn = learn.metric(named("smooth", avg_smooth_loss(0.9))).metric(Losses::default());
    let mut learn = learn.train_metrics(true);
    learn.fit(2, 1e-2).unwrap();
    let last = |name: &str| learn.recorder().last(name).unwrap();
    let loss = last("valid_loss");
    assert!((last("valid_perplexity") - loss.exp()).abs() < 1e-5);
    assert!((last("valid_avg") - loss).abs() < 1e-6);
    assert!((last("valid_smooth") - loss).abs() < 0.5);
    assert_eq!((last("train_losses"), last("valid_losses")), (3.0, 2.0));
    let validated = learn.validate().unwrap();
    let found = validated.iter().find(|(n, _)| n == "perplexity").unwrap().1.unwrap();
    assert!((found - loss.exp()).abs() < 1e-5);
}

/// Returns a linear layer, a batch normalization of `tch` or of this crate, and another layer.
fn normalized(own: bool) -> Model {
    let layer = |path: Path<'_>, n| nn::linear(path, 4, n, Default::default());
    if own {
        return model(|path| {
            let norm: BatchNorm = batch_norm1d(&(path / "norm"), 4, Default::default());
            nn::seq_t().add(layer(path / "first", 4)).add(norm).add(layer(path / "last", 3))
        });
    }
    model(|path| {
        let norm = nn::batch_norm1d(path / "norm", 4, Default::default());
        nn::seq_t().add(layer(path / "first", 4)).add(norm).add(layer(path / "last", 3))
    })
}

#[test]
fn t2_batch_normalization_over_one_value_is_an_error_that_names_the_batch() {
    for own in [true, false] {
        let one = of(loaders(3, 6, 1, &classes(3)), normalized(own), CrossEntropy::new());
        let last = of(loaders(5, 6, 4, &classes(3)), normalized(own), CrossEntropy::new());
        for (mut learn, batch) in [(one, 0), (last, 1)] {
            let error = failed(&mut learn);
            let at = format!("training batch {batch} of epoch 0");
            for part in [at.as_str(), "`norm`", "`bs`", "`drop_last(true)`"] {
                assert!(error.contains(part), "{error}");
            }
            learn.model().check_finite().unwrap();
            learn.get_preds().unwrap();
        }
        // With several values per channel, one item is enough.
        let mut fits = of(loaders(4, 6, 4, &classes(3)), normalized(own), CrossEntropy::new());
        fits.fit(1, 1e-2).unwrap();
    }
}

#[test]
fn t2_nan_is_told_in_weights_validation_and_predictions() {
    /// Makes a weight NaN at the end of the training part of an epoch.
    #[derive(Debug)]
    struct Spoil;
    impl Callback for Spoil {
        fn after_train(&mut self, t: &mut Training) -> Step {
            tch::no_grad(|| {
                let _ = t.model.params()[0].tensor.shallow_clone().fill_(f64::NAN);
            });
            Ok(())
        }
    }
    let mut learn = three();
    let done = learn.fit_with(&Flat::new(1).lr(1e-2), &mut [&mut Spoil]);
    assert!(matches!(done, Err(Error::NonFiniteWeights { .. })), "{done:?}");
    let told = &learn.recorder().messages;
    assert!(told.iter().any(|m| m.contains("valid_loss is NaN in epoch 0")), "{told:?}");
    let error = learn.get_preds().unwrap_err().to_string();
    assert!(error.contains("NaN for 6 of 6 items"), "{error}");
}

#[test]
fn t3_outputs_that_do_not_fit_the_classes_are_errors() {
    for outputs in [1, 2, 4, 7] {
        let mut learn = of(loaders(12, 6, 4, &classes(3)), linear(outputs), CrossEntropy::new());
        let error = failed(&mut learn);
        assert!(error.contains(&format!("{outputs} outputs for 3 categories")), "{error}");
    }
    let several = Task::Categories { vocab: (0..3).map(|i| i.to_string()).collect() };
    let mut learn = of(loaders(12, 6, 4, &several), linear(4), BceWithLogits::new());
    assert!(failed(&mut learn).contains("4 outputs for 3 categories"));
}

#[test]
fn t3_class_weights_and_losses_that_do_not_fit_are_errors_of_the_learner() {
    let task = classes(3);
    let made = |loss: Box<dyn Fn() -> Result<Learner>>| loss().map(drop).unwrap_err().to_string();
    let dls = || loaders(12, 6, 4, &classes(3));
    let error = made(Box::new(move || {
        Learner::new(dls(), linear(3), CrossEntropy::new().weight(vec![1.0, 2.0]))
    }));
    assert!(error.contains("2 weights for 3 classes"), "{error}");
    let error = made(Box::new(move || Learner::new(dls(), linear(3), LabelSmoothing::new(1.5))));
    assert!(error.contains("`eps` is 1.5; it must be between 0 and 1"), "{error}");
    let error = made(Box::new(move || Learner::new(dls(), linear(3), BceWithLogits::new())));
    assert!(error.contains("use `CrossEntropy`"), "{error}");
    let weights = CrossEntropy::new().weight(vec![1.0, f32::NAN, 1.0]);
    let error = weights.check(&task).unwrap_err();
    assert!(matches!(error, Error::Config { option: "weight", .. }), "{error}");
    assert!(error.to_string().contains("NaN is not a valid weight"), "{error}");

    // Numbers are not classes.
    let pred = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
    let y = Tensor::from_slice(&[0.5_f32, 1.0]);
    let error = CrossEntropy::new().mean(&pred, &y).unwrap_err().to_string();
    assert!(error.contains("classes must be integers"), "{error}");
    let far = Tensor::from_slice(&[0_i64, 3]);
    let error = CrossEntropy::new().mean(&pred, &far).unwrap_err().to_string();
    assert!(error.contains("Target 3 is out of bounds"), "{error}");
    for weight in [vec![2.0], vec![1.0, 2.0]] {
        let y = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        let told = format!("there are {} weights for outputs of shape [2, 3]", weight.len());
        for (option, loss) in [
            ("pos_weight", BceWithLogits::new().pos_weight(weight.clone())),
            ("weight", BceWithLogits::new().weight(weight.clone())),
        ] {
            let error = loss.mean(&pred, &y).unwrap_err();
            assert!(matches!(&error, Error::Mismatch { what, .. } if *what == option), "{error}");
            assert!(error.to_string().contains(&told), "{error}");
        }
    }
}

#[test]
fn t3_a_learner_for_images_tries_loss_and_metrics_before_training() -> Result<()> {
    let dls = || pets::block()?.dataloaders(pets::photos());
    let wrong = [
        vision_learner(dls()?, resnet18()).metric(f1_score_multi()),
        vision_learner(dls()?, resnet18()).loss(CrossEntropy::new().weight(vec![1.0; 4])),
        vision_learner(dls()?, resnet18()).loss(BceWithLogits::new()),
        vision_learner(dls()?, resnet18()).metric(BadMetric("update")),
        vision_learner(dls()?, resnet18()).custom_head(|_, _, _| panic!("no head today")),
    ];
    let told = [
        "several categories",
        "4 weights for 3 classes",
        "`bce_with_logits`",
        "no update",
        "no head",
    ];
    for (builder, told) in wrong.into_iter().zip(told) {
        let error = builder.pretrained(false).build().unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    Ok(())
}

#[test]
fn t5_metrics_know_which_values_are_better() {
    let lower: [Box<dyn Metric>; 5] = [
        Box::new(mae()),
        Box::new(mse()),
        Box::new(perplexity()),
        Box::new(error_rate()),
        Box::new(avg_loss()),
    ];
    assert!(lower.iter().all(|m| m.better() == Some(Better::Lower)));
    let higher: [Box<dyn Metric>; 3] =
        [Box::new(accuracy()), Box::new(f1_score()), Box::new(roc_auc_binary(None))];
    assert!(higher.iter().all(|m| m.better() == Some(Better::Higher)));

    // The loss rises from the first epoch: the first epoch is the best.
    let numbers = Task::Values { n: 1 };
    let learn = of(loaders(12, 6, 4, &numbers), linear(1), Mse).metric(mae());
    let mut learn = learn.opt_func(|p| Optimizer::new(p, Sgd::new())).unwrap();
    let mut best = SaveBest::new().monitor("mae");
    learn.fit_with(&Flat::new(3).lr(1.5), &mut [&mut best]).unwrap();
    let values: Vec<f64> = learn.recorder().column("mae").into_iter().flatten().collect();
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(values.iter().any(|v| *v > lowest), "{values:?}");
    assert_eq!(best.best(), lowest, "{values:?}");

    // A metric of the user can define which values are better; otherwise the monitor needs an option.
    let own = || Mean::new("own", |_: &Tensor, _: &Tensor| Ok(1.0));
    let mut learn = three().metric(own());
    let mut stop = EarlyStopping::new(1).monitor("own");
    let error = learn.fit_with(&Flat::new(1), &mut [&mut stop]).unwrap_err().to_string();
    assert!(error.contains("does not define which values are better"), "{error}");
    let mut told = EarlyStopping::new(1).monitor(Monitor::new("own").better(Better::Lower));
    learn.fit_with(&Flat::new(1), &mut [&mut told]).unwrap();
    let mut learn = three().metric(own().better_is(Better::Higher));
    learn.fit_with(&Flat::new(1), &mut [&mut EarlyStopping::new(1).monitor("own")]).unwrap();
}

#[test]
fn t6_gradients_of_more_items_than_the_fit_has_are_an_error_and_leftovers_are_told() {
    let mut learn = three();
    let mut many = GradientAccumulation::new(25);
    let error = learn.fit_with(&Flat::new(2), &mut [&mut many]).unwrap_err().to_string();
    assert!(error.contains("the fit has only 24 items"), "{error}");
    let mut none = GradientAccumulation::new(0);
    let error = learn.fit_with(&Flat::new(1), &mut [&mut none]).unwrap_err().to_string();
    assert!(error.contains("`items` is 0; it must be 1 or more"), "{error}");
    let before = weights(&learn);
    learn.fit_with(&Flat::new(2).lr(1e-2), &mut [&mut GradientAccumulation::new(24)]).unwrap();
    assert_ne!(weights(&learn), before, "more than an epoch, but not than the fit");
    learn.fit_with(&Flat::new(1), &mut [&mut GradientAccumulation::new(8)]).unwrap();
    let told = &learn.recorder().messages;
    assert!(told.iter().any(|m| m.contains("last 4 items of the fit were not used")), "{told:?}");
    let mut learn = three().callback(GradientAccumulation::new(12));
    learn.validate().unwrap();
}

#[test]
fn t7_trackers_of_a_validation_without_items_are_errors_at_the_start() {
    let none = pets::block().unwrap().splitter(RandomSplitter::new(0.0));
    let dls = none.dataloaders(pets::photos()).unwrap();
    let mut learn = vision_learner(dls, resnet18()).pretrained(false).build().unwrap().quiet();
    let before = weights(&learn);
    let mut stop = EarlyStopping::new(1);
    let mut best = SaveBest::new();
    let mut reduce = ReduceLrOnPlateau::new(1);
    for tracker in [&mut stop as &mut dyn Callback, &mut best, &mut reduce] {
        let error = learn.fit_with(&Flat::new(2), &mut [tracker]).unwrap_err().to_string();
        assert!(error.contains("there are no validation items"), "{error}");
    }
    assert_eq!(weights(&learn), before);
    let mut stop = EarlyStopping::new(1).monitor("train_loss");
    let mut short = ShortEpoch::new(0.01);
    learn.fit_with(&Flat::new(1).lr(1e-3), &mut [&mut stop, &mut short]).unwrap();
}

#[test]
fn t8_a_csv_log_has_all_stages_and_makes_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/log.csv");
    let columns = |line: &str, n: usize| line.split(',').take(n).collect::<Vec<_>>().join(",");
    let lines = |n: usize| {
        let text = fs::read_to_string(&path).unwrap();
        text.lines().map(|line| columns(line, n)).collect::<Vec<_>>()
    };
    let mut learn = three();
    let mut log = CsvLogger::new(&path);
    learn.fine_tune_with(FineTune::new(2), &mut [&mut log]).unwrap();
    assert_eq!(lines(2), ["stage,epoch", "0,0", "1,0", "1,1"]);
    // Another call starts a new table.
    learn.fit_with(&Flat::new(1), &mut [&mut log]).unwrap();
    assert_eq!(lines(2), ["stage,epoch", "0,0"]);

    let mut log = CsvLogger::new(&path).append(true);
    learn.fit_with(&Flat::new(1), &mut [&mut log]).unwrap();
    assert_eq!(lines(2), ["stage,epoch", "0,0", "0,0"], "the names stand there already");
    let mut learn = learn.metric(accuracy());
    learn.fit_with(&Flat::new(1), &mut [&mut log]).unwrap();
    assert_eq!(lines(2)[3..], ["stage,epoch", "0,0"], "other columns have their names");
}

#[test]
fn a_checkpoint_that_no_training_wrote_is_an_error_and_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let new = || three().model_dir(folder.path());
    new().fit_or_resume("run", Flat::new(1).lr(1e-2)).unwrap();
    let all = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> =
        all.filter(|path| path.to_string_lossy().ends_with(".checkpoint.safetensors")).collect();
    all.sort();
    let newest = all.pop().unwrap();
    all.iter().for_each(|older| fs::remove_file(older).unwrap());
    let (state, about) = read_safetensors(&newest).unwrap();
    let refused = |told: &str| {
        let mut learn = new();
        let before = weights(&learn);
        let error = learn.fit_or_resume("run", Flat::new(1).lr(1e-2)).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
        assert!(error.to_string().contains(told), "{error}");
        assert_eq!(weights(&learn), before);
    };
    let mut wrong: StateDict = state.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect();
    wrong.push(("grad.last.weight".into(), Tensor::zeros([7], (Kind::Float, Device::Cpu))));
    write_safetensors(&newest, &wrong, Some(about.clone())).unwrap();
    refused("the gradient of `last.weight` has the shape [7] instead of [3, 4]");

    for count in ["epoch", "batch", "step", "pass"] {
        let mut training: serde_json::Value = serde_json::from_str(&about["training"]).unwrap();
        training["at"][count] = u64::MAX.into();
        let mut about = about.clone();
        about.insert("training".to_owned(), training.to_string());
        write_safetensors(&newest, &state, Some(about)).unwrap();
        refused("which no training reaches");
    }
}

#[test]
fn t9_the_best_weights_of_several_fits_stay() {
    let numbers = Task::Values { n: 1 };
    let learn = of(loaders(12, 6, 4, &numbers), linear(1), Mse);
    let mut learn = learn.opt_func(|p| Optimizer::new(p, Sgd::new())).unwrap();
    let mut best = SaveBest::new().monitor(Monitor::new("valid_loss").reset_on_fit(false));
    learn.fit_with(&Flat::new(2).lr(1e-2), &mut [&mut best]).unwrap();
    let (kept, value) = (weights(&learn), best.best());
    // Only worse epochs follow.
    learn.fit_with(&Flat::new(2).lr(5.0), &mut [&mut best]).unwrap();
    assert!(learn.recorder().last("valid_loss").unwrap() > value);
    assert_eq!(weights(&learn), kept);
    assert_eq!(best.best(), value);
}

#[test]
fn t10_a_sweep_says_what_happened_to_the_loss() {
    let nan = Mean::new("unused", |_: &Tensor, _: &Tensor| Ok(0.0));
    #[derive(Debug)]
    struct NanFrom(usize);
    impl Callback for NanFrom {
        fn after_loss(&mut self, t: &mut Training, _: &Batch, loss: &mut Tensor) -> Step {
            if t.at.fit_batches >= self.0 {
                *loss = &*loss * f64::NAN;
            }
            Ok(())
        }
    }
    let mut learn = three().metric(nan).callback(NanFrom(0));
    let error = learn.lr_find().unwrap_err().to_string();
    assert!(error.contains("the loss is NaN at step 1 of 100"), "{error}");
    assert!(error.contains("check the images"), "{error}");
    let error = three().callback(NanFrom(10)).lr_find().unwrap_err().to_string();
    assert!(error.contains("NaN at step 11") && error.contains("`start_lr`"), "{error}");
    let found = three().callback(NanFrom(20)).lr_find().unwrap();
    let error = found.slide().unwrap_err().to_string();
    assert!(error.contains("NaN at step 21"), "{error}");
    // fastai's numbers of points: without the first tenth, the last 5 of 100 steps, and all from the NaN on.
    for (nan, points) in [(11, 1), (20, 10), (60, 50), (93, 83), (97, 85)] {
        let sweep = LrFinder::new().stop_diverging(false);
        let found = three().callback(NanFrom(nan)).lr_find_with(sweep).unwrap();
        assert_eq!((found.lrs.len(), found.losses.len()), (points, points), "NaN from {nan}");
        let last = 1e-7 * 1e8_f64.powf((9 + points) as f64 / 100.0);
        assert!((found.lrs[points - 1] / last - 1.0).abs() < 1e-9, "NaN from {nan}");
    }

    let wrong = [
        (LrFinder::new().steps(3), "`steps` is 3; it must be from 6 to 1000000"),
        (LrFinder::new().start_lr(1.0).end_lr(0.1), "the end must be above the start"),
        (LrFinder::new().start_lr(0.0), "both must be positive"),
    ];
    for (sweep, told) in wrong {
        let error = three().lr_find_with(sweep).unwrap_err();
        assert!(matches!(error, Error::Config { option: "lr_find", .. }), "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
    let mut one = of(loaders(4, 6, 4, &classes(3)), linear(3), CrossEntropy::new());
    let error = one.lr_find_with(LrFinder::new().steps(usize::MAX)).unwrap_err().to_string();
    assert!(error.contains("it must be from 6 to 1000000"), "{error}");
}

#[test]
fn t11_lowering_a_scheduled_rate_is_an_error_or_is_told() {
    let mut reduce = ReduceLrOnPlateau::new(1);
    let error = three().fit_with(&OneCycle::new(2), &mut [&mut reduce]).unwrap_err().to_string();
    assert!(error.contains("sets the learning rate before each batch"), "{error}");
    let error = three().fine_tune_with(1, &mut [&mut reduce]).unwrap_err().to_string();
    assert!(error.contains("sets the learning rate before each batch"), "{error}");

    /// Sets the rate in each epoch.
    #[derive(Debug)]
    struct Sets;
    impl Callback for Sets {
        fn before_epoch(&mut self, t: &mut Training) -> Step {
            Ok(t.opt.set(finetune::optim::Hyper::Lr, &[1e-9])?)
        }
    }
    let monitor = || Monitor::new("valid_loss").min_delta(1e9);
    let mut reduce = ReduceLrOnPlateau::new(1).monitor(monitor());
    let mut learn = three();
    learn.fit_with(&Flat::new(3).lr(1e-9), &mut [&mut Sets, &mut reduce]).unwrap();
    let told = &learn.recorder().messages;
    assert!(told.iter().any(|m| m.contains("set again by another callback")), "{told:?}");

    // A rate below the minimum is not raised to it; a message says so.
    let mut reduce = ReduceLrOnPlateau::new(1).monitor(monitor()).min_lr(1e-3);
    let mut learn = three();
    learn.fit_with(&Flat::new(3).lr(1e-6), &mut [&mut reduce]).unwrap();
    assert_eq!(learn.training().opt.hypers()[0].lr, 1e-6);
    let told = &learn.recorder().messages;
    assert!(told.iter().any(|m| m.contains("at its minimum")), "{told:?}");
}

#[test]
fn t12_metrics_that_cannot_work_on_the_targets_fail_before_the_first_batch() {
    type Add = Box<dyn Fn(Learner) -> Learner>;
    let wrong: [(Add, &str); 7] = [
        (Box::new(|l| l.metric(f1_score())), "there are 3 classes, but `Average::Binary`"),
        (Box::new(|l| l.metric(top_k_accuracy(4))), "`k` is 4; it must be between 1 and 3"),
        (Box::new(|l| l.metric(roc_auc_binary(None))), "is for two categories, but there are 3"),
        (Box::new(|l| l.metric(f1_score_multi())), "is for several categories per item"),
        (Box::new(|l| l.metric(mae())), "is for numbers, but the targets are categories"),
        (Box::new(|l| l.metric(dice())), "is for masks, but the targets are not masks"),
        (Box::new(|l| l.metric(foreground_acc(0))), "is for masks, but the targets are not masks"),
    ];
    for (add, told) in wrong {
        let mut learn = add(three());
        let before = weights(&learn);
        let error = learn.fit(1, 1e-2).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert!(learn.recorder().losses.is_empty());
        assert_eq!(weights(&learn), before);
    }
    three().metric(top_k_accuracy(3)).fit(1, 1e-2).unwrap();
}

#[test]
fn t13_metrics_of_one_name_have_columns_of_their_own() {
    let learn = three().metric(accuracy()).metric(accuracy()).metric(named("valid_loss", mse()));
    let mut learn = learn;
    let names = |learn: &Learner| learn.recorder().names.join(" ");
    let error = learn.fit(1, 1e-2).unwrap_err().to_string();
    assert!(error.contains("is for numbers, but the targets are categories"), "{error}");
    let mut learn = three()
        .metric(accuracy())
        .metric(accuracy())
        .metric(avg_loss())
        .metric(avg_smooth_loss(0.9))
        .metric(named("valid_loss", avg_loss()));
    learn.fit(1, 1e-2).unwrap();
    let all = "train_loss valid_loss accuracy accuracy_2 loss loss_2 valid_loss_2";
    assert_eq!(names(&learn), all);
    assert_eq!(learn.recorder().last("accuracy_2"), learn.recorder().last("accuracy"));
}

#[test]
fn t14_a_bad_request_to_a_predictor_is_an_error_with_the_reason() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.safetensors");
    pets::learner()?.export(&path)?;
    let predictor = Predictor::load(&path, Device::Cpu)?;
    let floats = |size: &[i64]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
    let error = predictor.predict_tensor(&floats(&[1, 5, 64, 64])).unwrap_err().to_string();
    assert!(error.contains("expected input[1, 5, 64, 64] to have 3 channels"), "{error}");
    let error = predictor.predict_tensor(&(floats(&[2, 3, 64, 64]) + f64::NAN)).unwrap_err();
    assert!(error.to_string().contains("NaN for 2 of 2 items"), "{error}");
    let answers = predictor.predict_tensor(&floats(&[2, 3, 64, 64]))?;
    assert_eq!(answers.len(), 2);
    // The levels of images as other integers would be neither prepared nor normalized.
    for kind in [Kind::Int64, Kind::Int, Kind::Bool] {
        let error = predictor.predict_tensor(&floats(&[2, 3, 64, 64]).to_kind(kind)).unwrap_err();
        let told = format!("the kind of `x` is {kind:?}; it must be `Uint8`");
        assert!(error.to_string().contains(&told), "{error}");
    }
    Ok(())
}

#[test]
fn t15_mixed_losses_are_normalized_as_others_are() {
    let x = (Tensor::arange(18, (Kind::Float, Device::Cpu)) * 3.7).sin().view([6, 3]);
    let y = Tensor::from_slice(&[0_i64, 1, 2, 1, 1, 0]);
    let other = Tensor::from_slice(&[2_i64, 1, 0, 0, 1, 1]);
    let ones = Tensor::ones([6], (Kind::Float, Device::Cpu));
    let class_weights = vec![0.2_f32, 1.0, 3.0];
    let losses: [Box<dyn Loss>; 5] = [
        Box::new(CrossEntropy::new()),
        Box::new(CrossEntropy::new().weight(class_weights.clone())),
        Box::new(CrossEntropy::new().weight(class_weights.clone()).label_smoothing(0.1)),
        Box::new(LabelSmoothing::new(0.1).weight(class_weights.clone())),
        Box::new(
            Combined::new(CrossEntropy::new().weight(class_weights.clone()), 0.5)
                .and(Focal::new(), 2.0),
        ),
    ];
    let number = |t: Result<Tensor>| f64::try_from(t.unwrap()).unwrap();
    for loss in losses {
        // Mixed with weight 0, or with itself, it equals the loss of validation.
        let mean = number(loss.mean(&x, &y));
        let whole = number(loss.mixed(&x, &y, &other, &ones));
        let same = number(loss.mixed(&x, &y, &y, &(&ones * 0.3)));
        assert!((whole - mean).abs() < 1e-5 && (same - mean).abs() < 1e-5, "{loss:?}");
    }
    // The weighted mean over both targets, computed by hand.
    let weighted = CrossEntropy::new().weight(class_weights.clone());
    let logs: Vec<Vec<f64>> = Vec::try_from(x.log_softmax(-1, Kind::Double)).unwrap();
    let (mut sum, mut all) = (0.0, 0.0);
    let targets = |t: &Tensor| Vec::<i64>::try_from(t).unwrap();
    for (i, (a, b)) in targets(&y).into_iter().zip(targets(&other)).enumerate() {
        for (class, part) in [(a as usize, 0.7), (b as usize, 0.3)] {
            let weight = part * f64::from(class_weights[class]);
            sum -= weight * logs[i][class];
            all += weight;
        }
    }
    let mixed = number(weighted.mixed(&x, &y, &other, &(&ones * 0.7)));
    assert!((mixed - sum / all).abs() < 1e-5, "{mixed} and {}", sum / all);

    // In a fit whose mixing has no effect, the training loss is that of the same batch in validation.
    let loss = CrossEntropy::new().weight(class_weights);
    let sum = Combined::new(loss.clone(), 0.5).and(Focal::new(), 2.0);
    let loaders = || loaders(6, 6, 6, &classes(3));
    for learn in [of(loaders(), linear(3), loss), of(loaders(), linear(3), sum)] {
        let mut learn = learn.callback(
            MixUp::new(0.4)
                .draws(|n| Pairs { perm: (0..n as i64).rev().collect(), weights: vec![1.0; n] }),
        );
        learn.fit(1, 0.0).unwrap();
        let last = |name| learn.recorder().last(name).unwrap();
        assert!((last("train_loss") - last("valid_loss")).abs() < 1e-5);
    }
}

#[test]
fn callbacks_that_exclude_each_other_are_errors() {
    #[track_caller]
    fn refused(mut first: impl Callback, mut second: impl Callback, words: &[&str]) {
        let mut learn = three();
        let before = weights(&learn);
        let plan = Flat::new(1).lr(1e-2);
        let error = learn.fit_with(&plan, &mut [&mut first, &mut second]).unwrap_err();
        assert!(matches!(&error, Error::Config { option: "callbacks", .. }), "{error}");
        let error = error.to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert_eq!(weights(&learn), before);
    }
    let mixing = ["`MixUp` and `CutMix`", "mixes the items", "only one"];
    refused(MixUp::new(0.4), CutMix::new(1.0), &mixing);
    refused(MixUp::new(0.4), MixUp::new(0.1), &["`MixUp` and `MixUp`"]);
    let gather = GradientAccumulation::new;
    refused(gather(8), gather(4), &["accumulates gradients"]);
    refused(Checkpoint::new("a"), Checkpoint::new("b"), &["checkpoints of the fit"]);
    let stop = EarlyStopping::new;
    refused(stop(1), stop(2), &["`EarlyStopping.valid_loss`"]);
    let folder = tempfile::tempdir().unwrap();
    let log = || CsvLogger::new(folder.path().join("log.csv"));
    refused(log(), log(), &["log.csv"]);
    // Those of a learner and those of a fit, also before the learning rates are searched.
    let mut learn = three().callback(MixUp::new(0.4)).callback(CutMix::new(1.0));
    assert!(learn.lr_find().unwrap_err().to_string().contains("`CutMix`"));
    // Different columns, or a learner's callback alone.
    let mut learn = three().callback(EarlyStopping::new(1)).callback(SaveBest::new());
    let mut others = (stop(1).monitor("train_loss"), SaveBest::new().monitor("train_loss"));
    learn.fit_with(&Flat::new(1).lr(1e-2), &mut [&mut others.0, &mut others.1]).unwrap();
}

#[test]
fn mixing_with_invalid_options_is_an_error() {
    #[track_caller]
    fn refused(mixing: impl Callback + 'static, word: &str) {
        let error = three().callback(mixing).fit(1, 1e-2).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refused(MixUp::new(alpha), &format!("`alpha` is {alpha}"));
        refused(CutMix::new(alpha), &format!("`alpha` is {alpha}"));
    }
    for weight in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let order = |n: usize| -> Vec<i64> { (0..n as i64).collect() };
        let pairs = move |n| Pairs { perm: order(n), weights: vec![weight as f32; n] };
        refused(MixUp::new(0.4).draws(pairs), &format!("weight {weight}"));
        let cut = move |n, _, _| Cut { perm: order(n), weight, center: (0, 0) };
        let learn = of(images(), flat(), CrossEntropy::new());
        let error = learn.callback(CutMix::new(1.0).draws(cut)).fit(1, 1e-2).unwrap_err();
        assert!(error.to_string().contains(&format!("weight {weight}")), "{error}");
    }
    for center in [(-1, 0), (0, -1), (i64::MAX, 0), (0, i64::MAX)] {
        let cut = move |n: usize, _, _| Cut { perm: (0..n as i64).collect(), weight: 0.5, center };
        let learn = of(images(), flat(), CrossEntropy::new());
        let error = learn.callback(CutMix::new(1.0).draws(cut)).fit(1, 1e-2).unwrap_err();
        assert!(error.to_string().contains(&format!("the center {center:?}")), "{error}");
    }
}

#[test]
fn options_without_effect_are_errors() {
    let error = three().fit_with(&Flat::new(2).start_epoch(2), &mut []).unwrap_err().to_string();
    assert!(error.contains("`start_epoch`"), "{error}");
    let mut learn = three();
    let opt = &mut learn.training_mut().opt;
    for (done, told) in [
        (opt.set(Hyper::Lr, &[1.0, 2.0]), "there are 2 values for 1 parameter groups"),
        (opt.set_hypers(&[]), "there are 0 values for 1 parameter groups"),
    ] {
        let error = done.unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
    // A plain fit has stage 0 and a rate without a schedule.
    let mut learn = learner();
    let mut seen = Seen::default();
    learn.fit_with(&Flat::new(1), &mut [&mut seen]).unwrap();
    assert_eq!((seen.0, seen.1), (vec![0], false));
}

/// Records the stage of each fit, and whether the rate is scheduled.
#[derive(Debug, Default)]
struct Seen(Vec<usize>, bool);

impl Callback for Seen {
    fn before_fit(&mut self, t: &mut Training) -> Step {
        self.0.push(t.stage());
        self.1 = t.is_scheduled(finetune::optim::Hyper::Lr);
        Ok(())
    }
    fn after_batch(&mut self, _: &mut Training, _: &Batch, _: &Outcome) -> Step {
        Scope::Fit.cancel()
    }
}
