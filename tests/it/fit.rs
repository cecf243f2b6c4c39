//! The end of fits: each row of the table in the docs of `Callback` is a test, and so are the guarantees
//! of a learner about its fits.

use super::texts::Written;
use finetune::{
    Error, Result,
    callback::{CsvLogger, EarlyStopping, NanGuard, NanReport, SaveBest},
    data::{Arrays, DataLoaders, LoaderOptions},
    learner::{
        Callback, Defaults, FineTune, Flat, Learner, OneCycle, Outcome, Progress, Scope, Step,
        Steps, Training,
    },
    loss::CrossEntropy,
    model::Model,
    sample::{Batch, Task},
};
use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};
use tch::{Device, Kind, Tensor, nn};

/// Returns a learner with two groups, which quickly learns to separate positive from negative rows.
pub(crate) fn learner() -> Learner {
    // Weights from a formula: other tests draw from libtorch's random generator at the same time.
    let rows = |n: i64, salt: f64| {
        let at = Tensor::arange(n * 4, (Kind::Float, Device::Cpu));
        let x = (at * 12.9898 + salt).sin().view([n, 4]) * 2.0;
        let y = x.sum_dim_intlist([1_i64].as_slice(), false, Kind::Float).gt(0.0);
        let task = Task::Category { vocab: ["negative".into(), "positive".into()].into() };
        Arrays::from_tensors(&x, &y.to_kind(Kind::Int64), task).unwrap()
    };
    let options = LoaderOptions::new().bs(4).shuffle(false).device(Device::Cpu);
    let dls = DataLoaders::from_arrays(rows(12, 1.0), rows(8, 2.0), options).unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    let root = vs.root();
    let layer = |group, i: i64, o: i64| {
        let at = Tensor::arange(i * o, (Kind::Float, Device::Cpu)).view([o, i]);
        let config = nn::LinearConfig { bs_init: Some(nn::Init::Const(0.0)), ..Default::default() };
        let mut linear = nn::linear(root.set_group(group) / group.to_string(), i, o, config);
        tch::no_grad(|| linear.ws.copy_(&((at * 78.233).sin() * 0.5)));
        linear
    };
    let net = nn::seq_t().add(layer(0, 4, 8)).add_fn(Tensor::relu).add(layer(1, 8, 2));
    let model = Model::from_module(vs, net).unwrap();
    Learner::new(dls, model, CrossEntropy::new()).unwrap().quiet()
}

/// Calls a closure at one event of one epoch, and records all events.
struct At {
    event: &'static str,
    epoch: usize,
    act: Box<dyn FnMut() -> Step + Send>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl std::fmt::Debug for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.event)
    }
}

impl At {
    fn new(event: &'static str, act: impl FnMut() -> Step + Send + 'static) -> Self {
        Self { event, epoch: 0, act: Box::new(act), seen: Arc::default() }
    }

    fn on(&mut self, event: &str, t: &Training) -> Step {
        self.seen.lock().unwrap().push(event.to_owned());
        if event == self.event && t.at.epoch == self.epoch { (self.act)() } else { Ok(()) }
    }

    fn seen(&self, event: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|e| *e == event).count()
    }
}

impl Callback for At {
    fn name(&self) -> &str {
        "At"
    }
    fn order(&self) -> i32 {
        1
    }
    fn before_fit(&mut self, t: &mut Training) -> Step {
        self.on("before_fit", t)
    }
    fn before_epoch(&mut self, t: &mut Training) -> Step {
        self.on("before_epoch", t)
    }
    fn before_train(&mut self, t: &mut Training) -> Step {
        self.on("before_train", t)
    }
    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        self.on("before_batch", t)
    }
    fn before_step(&mut self, t: &mut Training) -> Step {
        self.on("before_step", t)
    }
    fn after_step(&mut self, t: &mut Training) -> Step {
        self.on("after_step", t)
    }
    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        self.on("after_batch", t)
    }
    fn after_train(&mut self, t: &mut Training) -> Step {
        self.on("after_train", t)
    }
    fn before_validate(&mut self, t: &mut Training) -> Step {
        self.on("before_validate", t)
    }
    fn after_validate(&mut self, t: &mut Training) -> Step {
        self.on("after_validate", t)
    }
    fn after_epoch(&mut self, t: &mut Training) -> Step {
        self.on("after_epoch", t)
    }
    fn after_fit(&mut self, t: &mut Training) -> Step {
        self.on("after_fit", t)
    }
    fn after_cancel(&mut self, t: &mut Training, scope: Scope) -> Step {
        self.on(&format!("after_cancel {scope:?}"), t)
    }
}

fn fit(at: &mut At, epochs: usize) -> Result<()> {
    learner().fit_with(&Flat::new(epochs).lr(1e-2), &mut [at])
}

#[test]
fn events_of_a_fit_without_a_cancel() {
    let mut at = At::new("never", || Ok(()));
    fit(&mut at, 2).unwrap();
    let cancels = at.seen.lock().unwrap().iter().filter(|e| e.starts_with("after_cancel")).count();
    assert_eq!(cancels, 0);
    for (event, times) in [
        ("before_fit", 1),
        ("after_epoch", 2),
        ("after_step", 6),
        ("after_batch", 10),
        ("after_fit", 1),
    ] {
        assert_eq!(at.seen(event), times, "{event}");
    }
}

#[test]
fn a_cancel_ends_only_its_scope() {
    // The event, the scope, its last event; how often that occurs in two epochs, and how many steps.
    let cases = [
        ("before_batch", Scope::Batch, "after_batch", 10, 3),
        ("before_step", Scope::Step, "after_step", 6, 6),
        ("before_train", Scope::Train, "after_train", 2, 3),
        ("before_validate", Scope::Validate, "after_validate", 2, 6),
        ("before_epoch", Scope::Epoch, "after_epoch", 2, 3),
        ("before_batch", Scope::Fit, "after_fit", 1, 0),
    ];
    for (event, scope, last, times, steps) in cases {
        let mut at = At::new(event, move || scope.cancel());
        fit(&mut at, 2).unwrap_or_else(|e| panic!("{scope:?} in {event}: {e}"));
        assert_eq!(at.seen(last), times, "{last} after {scope:?} in {event}");
        assert_eq!(at.seen("after_step"), steps, "steps after {scope:?} in {event}");
        let cancelled = at.seen(&format!("after_cancel {scope:?}"));
        // For events of batches, one per batch of the first epoch.
        let expected = match (event, scope) {
            ("before_batch", Scope::Batch) => 5,
            ("before_step", _) => 3,
            _ => 1,
        };
        assert_eq!(cancelled, expected, "after_cancel of {scope:?} in {event}");
        assert_eq!(at.seen("after_fit"), 1);
    }
}

#[test]
fn an_error_ends_the_fit_and_names_callback_and_event() {
    let mut at = At::new("before_validate", || Err(Error::other("no more").into()));
    let error = fit(&mut at, 2).unwrap_err();
    assert_eq!(error.to_string(), "`At` failed in `before_validate`: no more");
    for (event, times) in
        [("after_validate", 0), ("after_epoch", 0), ("before_epoch", 1), ("after_fit", 1)]
    {
        assert_eq!(at.seen(event), times, "{event}");
    }
}

#[test]
fn an_error_shows_its_cause_once() {
    let disk = || Error::io("log.csv")(io::Error::other("the disk is full"));
    let mut at = At::new("after_epoch", move || Err(disk().into()));
    let callback = fit(&mut at, 1).unwrap_err();
    assert_eq!(callback.to_string(), "`At` failed in `after_epoch`: log.csv: the disk is full");
    let inner = || Error::computation(|| "the loss".to_owned())(disk());
    let all = [
        disk(),
        inner(),
        Error::callback("CsvLogger", "after_fit", inner()),
        Error::transform(&"crop", "a.jpg")(disk()),
        Error::image("a.jpg", disk()),
        Error::other(disk()),
        callback,
    ];
    for error in &all {
        let debug = format!("{error:?}");
        // The text of a program that prints an error with all its sources.
        let first: &(dyn std::error::Error + 'static) = error;
        let chain = std::iter::successors(Some(first), |e| e.source()).map(ToString::to_string);
        let chain = chain.collect::<Vec<_>>().join(": ");
        for text in [error.to_string(), debug, chain] {
            assert_eq!(text.matches("the disk is full").count(), 1, "{text}");
            assert_eq!(text.matches("log.csv").count(), 1, "{text}");
        }
    }
}

#[test]
fn a_cancel_of_a_part_that_is_not_running_is_an_error() {
    let mut at = At::new("before_train", || Scope::Step.cancel());
    let error = fit(&mut at, 2).unwrap_err().to_string();
    assert!(error.contains("`Step` was cancelled while it was not running"), "{error}");
    for (event, times) in
        [("after_train", 0), ("after_epoch", 0), ("before_batch", 0), ("after_fit", 1)]
    {
        assert_eq!(at.seen(event), times, "{event}");
    }
}

#[test]
fn every_callback_gets_after_fit_even_if_another_one_fails() {
    let mut bad = At::new("after_fit", || Err(Error::other("no disk").into()));
    let mut good = At::new("never", || Ok(()));
    let done = learner().fit_with(&Flat::new(1), &mut [&mut bad, &mut good]);
    assert!(done.unwrap_err().to_string().contains("no disk"));
    assert_eq!(good.seen("after_fit"), 1);
}

#[test]
fn a_borrowed_learner_takes_callbacks_and_metrics_for_every_fit() {
    struct App {
        learn: Learner,
    }
    let mut app = App { learn: learner() };
    let at = At::new("never", || Ok(()));
    let seen = at.seen.clone();
    app.learn.add_cb(at);
    app.learn.add_metric(finetune::metric::accuracy());
    for _ in 0..2 {
        app.learn.fit(1, 1e-3).unwrap();
    }
    let fits = seen.lock().unwrap().iter().filter(|event| *event == "after_fit").count();
    assert_eq!(fits, 2);
    assert!(app.learn.recorder().last("accuracy").is_some());
}

#[test]
fn a_stop_from_another_thread_ends_all_stages_with_ok() {
    let mut learn = learner();
    let (stop, other) = (learn.stop_handle(), learn.stop_handle());
    let mut at = At::new("after_step", move || {
        other.stop();
        Ok(())
    });
    learn.fine_tune_with(FineTune::new(2), &mut [&mut at]).unwrap();
    assert_eq!((at.seen("after_step"), at.seen("after_fit")), (1, 2));
    assert!(stop.is_requested());
    assert!(learn.recorder().messages.iter().any(|m| m.contains("stopped")));
    assert_eq!(learn.get_preds().unwrap().len(), 8, "predictions go on");
    stop.reset();
    learn.fit(1, 1e-3).unwrap();
    assert_eq!(learn.recorder().losses.len(), 3);
}

fn weights(learn: &Learner) -> Vec<Vec<f64>> {
    let numbers = |t: Tensor| Vec::try_from(t.to_kind(Kind::Double).reshape([-1])).unwrap();
    learn.model().state_dict().into_iter().map(|(_, w)| numbers(w)).collect()
}

#[test]
fn lr_find_restores_everything_even_if_it_fails() {
    /// Fails, or panics as `tch` does, at the fifth batch.
    #[derive(Debug)]
    struct Fails {
        panics: bool,
    }
    impl Callback for Fails {
        fn after_step(&mut self, t: &mut Training) -> Step {
            if t.at.fit_batches < 5 {
                return Ok(());
            }
            assert!(!self.panics, "as a matrix product of the wrong shape");
            Err(Error::other("half-way").into())
        }
    }
    for panics in [false, true] {
        let mut learn = learner();
        learn.fit(1, 1e-2).unwrap();
        let mut learn = learn.callback(Fails { panics });
        let state = |learn: &mut Learner| {
            let t = learn.training_mut();
            let opt: Vec<f64> = t
                .opt
                .state()
                .iter()
                .map(|(_, s)| f64::try_from(s.to_kind(Kind::Double).sum(None)).unwrap())
                .collect();
            (opt, t.opt.hypers().to_vec(), t.at, t.history.clone())
        };
        let before = (weights(&learn), state(&mut learn));
        let error = learn.lr_find().unwrap_err().to_string();
        let why = if panics { "as a matrix product of the wrong shape" } else { "half-way" };
        assert!(error.contains(why) && error.contains("`Fails` failed in `after_step`"), "{error}");
        assert_eq!((weights(&learn), state(&mut learn)), before, "panics: {panics}");
    }
}

#[test]
fn lr_find_decays_the_weights_as_a_fit_does() {
    /// Records the weight decay of each step.
    #[derive(Debug, Default, Clone)]
    struct Decays(Arc<Mutex<Vec<f64>>>);
    impl Callback for Decays {
        fn after_step(&mut self, t: &mut Training) -> Step {
            self.0.lock().unwrap().extend(t.opt.hypers().iter().map(|h| h.wd));
            Ok(())
        }
    }
    let decays = Decays::default();
    let mut defaults = Defaults::default();
    defaults.wd = Some(0.3);
    let mut learn = learner().defaults(defaults).callback(decays.clone());
    let before = learn.training_mut().opt.hypers().to_vec();
    assert!(before.iter().all(|h| h.wd == 0.01), "the optimizer's own");
    let _curve = learn.lr_find().unwrap();
    let swept = std::mem::take(&mut *decays.0.lock().unwrap());
    assert!(swept.len() >= 2 * 50 && swept.iter().all(|wd| *wd == 0.3), "{swept:?}");
    assert_eq!(learn.training_mut().opt.hypers(), before);
    learn.fit(1, 1e-3).unwrap();
    assert_eq!(*decays.0.lock().unwrap(), [0.3; 2 * 3], "a fit uses the same");
}

#[test]
fn callbacks_with_files_and_best_values_are_skipped_in_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.csv");
    let mut learn = learner().callback(CsvLogger::new(&path)).callback(SaveBest::new());
    let mut learn = {
        learn.fit(2, 1e-2).unwrap();
        learn.callback(EarlyStopping::new(1))
    };
    let before = (std::fs::read_to_string(&path).unwrap(), weights(&learn));
    assert_eq!(before.0.lines().count(), 3);
    learn.validate().unwrap();
    learn.get_preds().unwrap();
    let steps = learn.lr_find().unwrap().lrs.len();
    assert!(steps > 50, "early stopping does not end a sweep after {steps} points");
    assert_eq!((std::fs::read_to_string(&path).unwrap(), weights(&learn)), before);
}

#[test]
fn a_batch_with_a_nan_loss_is_written_to_a_file() {
    /// Makes an input of the second batch NaN.
    #[derive(Debug)]
    struct Spoil;
    impl Callback for Spoil {
        fn before_batch(&mut self, t: &mut Training, batch: &mut Batch) -> Step {
            if t.at.batch == 1 {
                let _ = batch.x.get(2).fill_(f64::NAN);
            }
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nan.safetensors");
    let mut learn = learner().callback(Spoil).callback(NanGuard::new(&path));
    let error = learn.fit(1, 1e-2).unwrap_err();
    assert!(matches!(error, Error::NonFiniteLoss { epoch: 0, batch: 1, .. }), "{error}");
    let report = NanReport::load(&path).unwrap();
    assert!(report.loss.is_nan());
    assert_eq!((report.at.batch, report.at.epoch, report.files.len()), (1, 0, 4));
    assert_eq!(report.files[0], "item 4");
    // The weights are those before the step, so that the batch can be replayed.
    let mut again = learner();
    again.training_mut().model.load_state_dict(&report.weights).unwrap();
    let each = report.losses(again.model(), &CrossEntropy::new()).unwrap();
    let bad: Vec<bool> = each.iter().map(|l| l.is_nan()).collect();
    assert_eq!(bad, [false, false, true, false]);
}

#[test]
fn the_table_is_aligned_and_the_log_has_a_line_for_every_step() {
    let (table, log) = (Written::default(), Written::default());
    let lines = Steps::Lines(Duration::ZERO);
    let progress = Progress::to_writer(table.clone()).steps(lines).log_to(log.clone());
    let mut learn = learner().progress(progress).callback(EarlyStopping::new(1));
    learn.fit_with(&OneCycle::new(3).lr(0.0), &mut []).unwrap();
    let text = table.text();
    let rows: Vec<&str> = text.lines().collect();
    assert!(rows[0].starts_with("epoch       train_loss  valid_loss  time"), "{text}");
    for column in ["train_loss", "valid_loss", "time"] {
        let at = rows[0].find(column).unwrap();
        for row in &rows[1..3] {
            assert!(row.as_bytes()[at - 1] == b' ' && row.as_bytes()[at] != b' ', "{text}");
        }
    }
    assert!(rows[3].starts_with("stopped early: valid_loss"), "{text}");
    let log_text = log.text();
    let first = log_text.lines().next().unwrap();
    assert!(first.starts_with("epoch 0 train 1/3  ") && first.contains("loss "), "{log_text}");
    assert_eq!(log_text.lines().filter(|l| l.starts_with("epoch 0 ")).count(), 5);

    let _curve = learn.lr_find().unwrap();
    assert!(log.text().lines().any(|l| l.starts_with("lr_find 100/100")), "{}", log.text());
    assert_eq!(table.text(), text, "lr_find prints no table");
}

#[test]
fn fine_tune_trains_the_head_then_everything() {
    /// Records the number of trained parameters in each epoch.
    #[derive(Debug, Default)]
    struct Learns(Vec<usize>);
    impl Callback for Learns {
        fn before_epoch(&mut self, t: &mut Training) -> Step {
            self.0.push(t.model.params().iter().filter(|p| p.tensor.requires_grad()).count());
            Ok(())
        }
    }
    let mut learns = Learns::default();
    let how = FineTune::new(2).freeze_epochs(1).base_lr(1e-3).wd(0.1).moms(0.9, 0.8, 0.9);
    learner().fine_tune_with(how, &mut [&mut learns]).unwrap();
    assert_eq!(learns.0, [2, 4, 4]);
}

#[test]
fn fine_tune_starts_at_a_given_epoch_and_with_a_new_optimizer_on_request() {
    /// Records the epochs, and the weight decay of their steps.
    #[derive(Debug, Default)]
    struct Sees(Vec<(usize, f64)>);
    impl Callback for Sees {
        fn before_epoch(&mut self, t: &mut Training) -> Step {
            self.0.push((t.at.epoch, t.opt.hypers()[0].wd));
            Ok(())
        }
    }
    let mut learn = learner();
    learn.fit_with(&Flat::new(1).lr(1e-3).wd(0.3), &mut []).unwrap();
    let mut goes_on = Sees::default();
    learn.fine_tune_with(FineTune::new(3).start_epoch(1), &mut [&mut goes_on]).unwrap();
    assert_eq!(goes_on.0, [(1, 0.3), (2, 0.3)], "the stage of one epoch has none");
    let mut anew = Sees::default();
    learn.fine_tune_with(FineTune::new(1).reset_opt(true), &mut [&mut anew]).unwrap();
    assert_eq!(anew.0, [(0, 0.01), (0, 0.01)]);
}

#[test]
fn a_start_epoch_after_all_epochs_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut learn = learner().model_dir(folder.path());
    let before = weights(&learn);
    let late = || FineTune::new(3).start_epoch(5);
    for done in [
        learn.fine_tune(late()),
        learn.fit_or_resume("late", late()),
        learn.fine_tune(FineTune::new(3).start_epoch(3)),
        learn.fine_tune(FineTune::new(0).freeze_epochs(2).start_epoch(2)),
        learn.fit_with(&Flat::new(0).start_epoch(1), &mut []),
    ] {
        let e = done.unwrap_err();
        assert!(matches!(&e, Error::Config { option: "start_epoch", .. }), "{e}");
        assert!(e.to_string().contains("it must be below the number of epochs, "), "{e}");
    }
    assert_eq!(weights(&learn), before);
    // Either stage is enough, and no epochs without a `start_epoch` are allowed.
    learn.fine_tune(FineTune::new(3).start_epoch(2)).unwrap();
    assert_eq!(learn.recorder().rows.len(), 1);
    let trained = weights(&learn);
    learn.fine_tune(FineTune::new(1).freeze_epochs(3).start_epoch(1)).unwrap();
    assert_ne!(weights(&learn), trained);
    learn.fit(0, 1e-3).unwrap();
}

#[test]
fn sixteen_bits_end_near_thirty_two() {
    let lr = 0.02;
    let mut full = learner();
    full.fit_one_cycle(10, lr).unwrap();
    let mut half = learner().to_bf16();
    half.fit_one_cycle(10, lr).unwrap();
    let kinds: Vec<Kind> = half.model().params().iter().map(|p| p.tensor.kind()).collect();
    assert!(kinds.iter().all(|k| *k == Kind::Float), "weights stay 32-bit");
    let loss = |l: &Learner| l.recorder().last("valid_loss").unwrap();
    let (first, last) = (full.recorder().losses[0], full.recorder().losses[29]);
    assert!(last < first - 0.1, "it learns: {first} to {last}");
    let apart = (loss(&full) - loss(&half)).abs();
    assert!(apart < 0.01, "validation losses {} and {}", loss(&full), loss(&half));
    assert_ne!(weights(&full), weights(&half), "bf16 was used");
    for (a, b) in weights(&full).iter().flatten().zip(weights(&half).iter().flatten()) {
        assert!((a - b).abs() < 0.02, "weights {a} and {b}");
    }
}

#[test]
fn bfloat16_on_a_processor_without_its_instructions_is_told_before_the_training() {
    let features = finetune::doctor().features;
    let is_fast = features.iter().any(|(name, has)| *has && name.ends_with("bf16"));
    let fit = |learn: Learner| {
        let table = Written::default();
        let mut learn = learn.progress(Progress::to_writer(table.clone()));
        learn.fit(1, 1e-3).unwrap();
        let printed = table.text().lines().nth(1).unwrap().contains("bfloat16");
        let told = learn.recorder().messages.iter().filter(|m| m.contains("bfloat16")).count();
        assert_eq!(usize::from(printed), told, "{}", table.text());
        printed
    };
    assert_eq!(fit(learner().to_bf16()), !is_fast, "{features:?}");
    assert!(!fit(learner()));

    // A training of two stages gives it once.
    let table = Written::default();
    let mut learn = learner().to_bf16().progress(Progress::to_writer(table.clone()));
    learn.fine_tune(1).unwrap();
    let times = table.text().matches("bfloat16").count();
    assert_eq!(times, usize::from(!is_fast), "{}", table.text());
}

#[test]
fn sixteen_bit_floats_on_a_cpu_are_an_error_that_says_what_to_use() {
    let error = learner().to_fp16().fit(1, 1e-3).unwrap_err().to_string();
    assert!(error.contains("CUDA") && error.contains("to_bf16"), "{error}");
    learner().to_fp16().to_fp32().fit(1, 1e-3).unwrap();
}
