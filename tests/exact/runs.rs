//! Runs that continue after any interruption, and files that are verified before use.

use crate::alone;
use finetune::{
    callback::{
        Better, CsvLogger, EarlyStopping, GradientAccumulation, Monitor, SaveBest, TensorBoard,
    },
    data::{Arrays, DataLoaders, LoaderOptions},
    disk::{self, FileOp},
    learner::{Checkpoint, Difference, Flat, History, OnCheckpointError, TrainingPlan},
    loss::CrossEntropy,
    model::Model,
    optim::{Adam, Optimizer, Sgd},
    prelude::*,
    sample::{Batch, Task},
    tch::{self, Kind, nn},
};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

const CLASSES: [&str; 3] = ["cat", "dog", "fish"];

/// Returns loaders of 40 rows of numbers: 8 training batches of 4, and 2 validation batches.
fn rows(classes: &[&str], shift: i64, bs: usize) -> Result<DataLoaders> {
    let vocab: Vec<String> = classes.iter().map(|c| (*c).to_owned()).collect();
    let task = Task::Category { vocab: vocab.into() };
    let x = (Tensor::arange(40 * 6, (Kind::Float, Device::Cpu)) * 0.7).sin().view([40, 6]);
    let y = (Tensor::arange(40, (Kind::Int64, Device::Cpu)) + shift).remainder(3);
    let part =
        |from, n| Arrays::from_tensors(&x.narrow(0, from, n), &y.narrow(0, from, n), task.clone());
    let options = LoaderOptions::new().bs(bs).num_workers(0).device(Device::Cpu);
    DataLoaders::from_arrays(part(0, 32)?, part(32, 8)?, options)
}

/// Returns a learner with two groups and dropout, always with the same initial weights.
fn model() -> Result<Model> {
    tch::manual_seed(5);
    let vs = nn::VarStore::new(Device::Cpu);
    let root = vs.root();
    let net = nn::seq_t()
        .add(nn::linear(root.set_group(0) / "body", 6, 8, nn::LinearConfig::default()))
        .add_fn_t(|x, train| x.relu().dropout(0.3, train))
        .add(nn::linear(root.set_group(1) / "head", 8, 3, nn::LinearConfig::default()));
    Model::from_module(vs, net)
}

fn learner_of(dls: DataLoaders, folder: &Path) -> Result<Learner> {
    let learner = Learner::new(dls, model()?, CrossEntropy::new())?.metric(accuracy());
    Ok(learner.train_metrics(true).quiet().model_dir(folder))
}

pub(crate) fn learner(folder: &Path) -> Result<Learner> {
    learner_of(rows(&CLASSES, 0, 4)?, folder)
}

/// Before a training batch, counted over all fits, ends the fit with an error like a kill, or raises a
/// signal.
#[derive(Debug)]
pub(crate) struct At {
    step: u64,
    signal: Option<i32>,
}

impl At {
    pub(crate) fn kill(step: u64) -> Self {
        Self { step, signal: None }
    }
}

impl Callback for At {
    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        if !t.at.is_training() || t.at.step != self.step {
            return Ok(());
        }
        match self.signal {
            Some(signal) => {
                Ok(signal_hook::low_level::raise(signal).map_err(finetune::Error::other)?)
            }
            None => Err(finetune::Error::other("killed").into()),
        }
    }
}

/// Returns weights, moments and the record without the seconds.
pub(crate) fn end(learn: &mut Learner) -> (Vec<(String, Vec<u32>)>, History) {
    let bits = |t: Tensor| -> Vec<u32> {
        let flat = t.to_kind(Kind::Float).reshape([-1]);
        Vec::<f32>::try_from(&flat).unwrap().into_iter().map(f32::to_bits).collect()
    };
    let opt = learn.training().opt.state();
    let all = learn.model().state_dict().into_iter().chain(opt);
    let all = all.map(|(name, t)| (name, bits(t))).collect();
    let mut history = learn.recorder().clone();
    history.rows.iter_mut().for_each(|row| row.seconds = 0.0);
    (all, history)
}

fn plan() -> OneCycle {
    OneCycle::new(3).lr(1e-2)
}

/// Returns the result of an undisturbed run.
fn undisturbed(plan: impl TrainingPlan) -> (Vec<(String, Vec<u32>)>, History) {
    let folder = tempfile::tempdir().unwrap();
    let mut learn = learner(folder.path()).unwrap();
    learn.fit_or_resume("run", plan).unwrap();
    end(&mut learn)
}

/// Returns the checkpoints in a folder, oldest first.
fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<PathBuf> =
        all.filter(|p| p.to_string_lossy().ends_with(".checkpoint.safetensors")).collect();
    all.sort();
    all
}

/// Runs until a kill before step 13, with checkpoints after steps 10 and 12.
fn killed(folder: &Path) {
    let run = Checkpoint::new("run").every(2);
    let error = learner(folder).unwrap().fit_or_resume_with(run, plan(), &mut [&mut At::kill(13)]);
    assert!(error.unwrap_err().to_string().contains("killed"));
    assert_eq!(checkpoints(folder).len(), 2);
}

#[test]
fn a_run_starts_continues_and_returns_at_once() -> Result<()> {
    let _alone = alone();
    let whole = undisturbed(plan());
    let folder = tempfile::tempdir().unwrap();
    let run = || Checkpoint::new("run").every(3);
    for step in [2, 5, 9, 17, 23] {
        let mut learn = learner(folder.path())?;
        let error = learn.fit_or_resume_with(run(), plan(), &mut [&mut At::kill(step)]);
        assert!(error.unwrap_err().to_string().contains("killed"), "step {step}");
    }
    let mut learn = learner(folder.path())?;
    learn.fit_or_resume(run(), plan())?;
    assert!(end(&mut learn) == whole);

    // The run is complete: no batch is trained, and the learner has the final state.
    let mut again = learner(folder.path())?;
    again.fit_or_resume_with("run", plan(), &mut [&mut NoBatch])?;
    assert!(end(&mut again) == whole);
    assert_eq!(checkpoints(folder.path()).len(), 2);
    Ok(())
}

/// Fails at any batch.
#[derive(Debug)]
struct NoBatch;

impl Callback for NoBatch {
    fn before_batch(&mut self, _: &mut Training, _: &mut Batch) -> Step {
        Err(finetune::Error::other("a batch was trained").into())
    }
}

#[test]
fn everything_that_has_state_continues() -> Result<()> {
    let _alone = alone();
    let outcome = |folder: &Path, kills: &[u64]| -> Result<_> {
        let log = folder.join("log.csv");
        fs::write(&log, "earlier\n").unwrap();
        let mut each = kills.iter().map(|step| Some(*step)).chain([None]);
        loop {
            let mut kill = At::kill(each.next().flatten().unwrap_or(u64::MAX));
            let mut learn = learner(folder)?;
            let done = learn.fit_or_resume_with(
                Checkpoint::new("run").every(3),
                FineTune::new(4).base_lr(3e-2),
                &mut [
                    // Three batches per step.
                    &mut GradientAccumulation::new(12),
                    &mut SaveBest::new().monitor("valid_loss"),
                    &mut EarlyStopping::new(2).monitor("valid_accuracy"),
                    &mut CsvLogger::new(&log).append(true),
                    &mut TensorBoard::new(folder.join("events")),
                    &mut kill,
                ],
            );
            match done {
                Err(e) => assert!(e.to_string().contains("killed"), "{e}"),
                Ok(()) => {
                    let text = fs::read_to_string(&log).unwrap();
                    let untimed = |line: &str| line.rsplit_once(',').map(|(l, _)| l.to_owned());
                    let lines: Vec<_> = text.lines().map(untimed).collect();
                    let events = fs::read_dir(folder.join("events")).unwrap();
                    let mut sizes: Vec<u64> =
                        events.map(|e| e.unwrap().metadata().unwrap().len()).collect();
                    sizes.sort_unstable();
                    return Ok((end(&mut learn), lines, sizes));
                }
            }
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let whole = outcome(folder.path(), &[])?;
    // One row per epoch of both stages, the column names, and the earlier content.
    assert_eq!(whole.1.len(), 1 + 1 + 1 + whole.0.1.rows.len());
    assert_eq!(whole.2.len(), 2, "one file of events for each stage");
    let other = tempfile::tempdir().unwrap();
    // Before the first checkpoint, within the accumulation, and in the second stage before and after its
    // first checkpoint.
    let disturbed = outcome(other.path(), &[1, 5, 8, 10, 13, 16, 19])?;
    assert_eq!(disturbed.0.1, whole.0.1, "the record");
    assert!(disturbed.0.0 == whole.0.0, "weights and moments");
    assert_eq!(disturbed.1, whole.1, "the log");
    assert_eq!(disturbed.2, whole.2, "the events");
    Ok(())
}

#[test]
fn best_weights_of_several_columns_continue() -> Result<()> {
    let _alone = alone();
    let run = |kill: Option<u64>| -> Result<_> {
        let folder = tempfile::tempdir().unwrap();
        let mut step = kill;
        loop {
            let mut learn = learner(folder.path())?;
            let worst = Monitor::new("train_loss").better(Better::Higher);
            let (mut first, mut second) = (SaveBest::new().monitor(worst), SaveBest::new());
            let mut kill = At::kill(step.take().unwrap_or(u64::MAX));
            let done = learn.fit_or_resume_with(
                Checkpoint::new("run").every(3),
                plan(),
                &mut [&mut first, &mut second, &mut kill],
            );
            match done {
                Err(e) => assert!(e.to_string().contains("killed"), "{e}"),
                Ok(()) => return Ok((first.epoch(), second.epoch(), end(&mut learn))),
            }
        }
    };
    let whole = run(None)?;
    assert_eq!(whole.0, Some(0));
    assert_ne!(whole.1, whole.0);
    assert!(run(Some(21))? == whole);
    Ok(())
}

#[test]
fn a_signal_ends_the_run_with_a_checkpoint() -> Result<()> {
    let _alone = alone();
    let whole = undisturbed(plan());
    let folder = tempfile::tempdir().unwrap();
    for (step, signal) in [(4, signal_hook::consts::SIGTERM), (11, signal_hook::consts::SIGINT)] {
        let mut at = At { step, signal: Some(signal) };
        let error = learner(folder.path())?.fit_or_resume_with("run", plan(), &mut [&mut at]);
        let error = error.unwrap_err();
        let finetune::Error::Interrupted { signal: name, checkpoint, .. } = &error else {
            panic!("{error}");
        };
        assert!(["SIGTERM", "SIGINT"].contains(name));
        assert!(checkpoint.as_ref().unwrap().exists(), "{error}");
    }
    // The batch during which the signal arrived is complete: this kill would come before it.
    let mut learn = learner(folder.path())?;
    learn.fit_or_resume_with("run", plan(), &mut [&mut At::kill(11)])?;
    assert!(end(&mut learn) == whole);
    Ok(())
}

#[test]
fn two_runs_of_one_name_do_not_mix() -> Result<()> {
    #[derive(Debug)]
    struct Second(PathBuf, String);
    impl Callback for Second {
        fn before_fit(&mut self, _: &mut Training) -> Step {
            let other = learner(&self.0)?.fit_or_resume("run", plan());
            self.1 = other.unwrap_err().to_string();
            Ok(())
        }
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut second = Second(folder.path().to_owned(), String::new());
    learner(folder.path())?.fit_or_resume_with("run", plan(), &mut [&mut second])?;
    assert!(second.1.contains(&format!("process {}", std::process::id())), "{}", second.1);
    // The lock of a process that ended has no effect.
    fs::write(folder.path().join("third.lock"), "{\"pid\": 1}").unwrap();
    learner(folder.path())?.fit_or_resume("third", Flat::new(1))
}

#[test]
fn another_program_is_rejected_with_the_differences() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    killed(folder);
    let run = || Checkpoint::new("run").every(2);
    let refused = |mut learn: Learner, plan: OneCycle| {
        let before = end(&mut learn);
        let error = learn.fit_or_resume(run(), plan).unwrap_err().to_string();
        assert!(end(&mut learn) == before, "nothing is loaded");
        error
    };
    let contains = |error: String, all: &[&str]| {
        for part in all {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    };
    let with = |dls: DataLoaders| learner_of(dls, folder);
    let classes = ["cat", "dog", "bird"];
    contains(
        refused(with(rows(&classes, 0, 4)?)?, plan()),
        &["vocabulary", "cat, dog, fish", "cat, dog, bird", "Difference::Vocabulary"],
    );
    contains(refused(with(rows(&CLASSES, 1, 4)?)?, plan()), &["labels", "Difference::Labels"]);
    contains(
        refused(with(rows(&CLASSES, 0, 2)?)?, plan()),
        &["batches", "training batches of 4", "training batches of 2"],
    );
    contains(refused(learner(folder)?, plan().lr(3e-2)), &["learning rate", "1e-2", "3e-2"]);
    contains(refused(learner(folder)?, plan().wd(0.5)), &["policy", "Difference::Policy"]);
    contains(refused(learner(folder)?, OneCycle::new(5).lr(1e-2)), &["epochs: was 3, is 5"]);
    let sgd = learner(folder)?.opt_func(|p| Optimizer::new(p, Sgd::new()))?;
    contains(refused(sgd, plan()), &["optimizer", "Adam", "Sgd"]);
    let adam = learner(folder)?.opt_func(|p| Optimizer::new(p, Adam::new().eps(1e-3)))?;
    contains(refused(adam, plan()), &["optimizer"]);
    let loss = CrossEntropy::new().label_smoothing(0.1);
    let other = Learner::new(rows(&CLASSES, 0, 4)?, model()?, loss)?.metric(accuracy());
    contains(refused(other.train_metrics(true).quiet().model_dir(folder), plan()), &["loss"]);
    contains(refused(learner(folder)?.metric(error_rate()), plan()), &["metrics", "error_rate"]);
    contains(refused(learner(folder)?.to_bf16(), plan()), &["precision", "BFloat16"]);
    let seeded = rows(&CLASSES, 0, 4)?.with(LoaderOptions::new().seed(7))?;
    contains(refused(with(seeded)?, plan()), &["seed: was 42, is 7"]);

    // `resume` compares too, including callbacks that change the training.
    let accumulation = &mut GradientAccumulation::new(8);
    let error = learner(folder)?.resume("run", &mut [accumulation]).unwrap_err().to_string();
    contains(error, &["callbacks: was none", "GradientAccumulation of 8"]);
    let error = with(rows(&classes, 0, 4)?)?.resume("run", &mut []).unwrap_err().to_string();
    contains(error, &["vocabulary"]);

    // Differences that are allowed by name are accepted.
    let longer = OneCycle::new(5).lr(1e-2);
    let mut learn = learner(folder)?;
    learn.fit_or_resume(run().allow(Difference::Epochs), longer.clone())?;
    assert_eq!(learn.recorder().rows.len(), 5);
    // A complete run can be extended too; the number of workers never matters.
    let mut learn = with(rows(&CLASSES, 0, 4)?.with(LoaderOptions::new().num_workers(2))?)?;
    learn.fit_or_resume(run().allow(Difference::Epochs), OneCycle::new(6).lr(1e-2))?;
    assert_eq!(learn.recorder().rows.len(), 6);
    Ok(())
}

#[test]
fn t4_weights_of_other_classes_are_refused() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    learner(folder.path())?.save("weights")?;
    learner(folder.path())?.load("weights")?;
    for classes in [["cat", "dog", "bird"], ["dog", "cat", "fish"]] {
        let mut other = learner_of(rows(&classes, 0, 4)?, folder.path())?;
        let error = other.load("weights").unwrap_err().to_string();
        assert!(error.contains("fish") && error.contains(classes[2]), "{error}");
    }
    Ok(())
}

#[test]
fn a_damaged_checkpoint_is_reported_and_the_previous_one_used() -> Result<()> {
    let _alone = alone();
    let whole = undisturbed(plan());
    type Damage = (&'static str, fn(&mut Vec<u8>));
    let damage: [Damage; 4] = [
        ("empty", |bytes| bytes.clear()),
        ("cut", |bytes| bytes.truncate(bytes.len() - 1)),
        ("flipped", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("longer", |bytes| bytes.push(0)),
    ];
    for (what, damage) in damage {
        let folder = tempfile::tempdir().unwrap();
        killed(folder.path());
        let newest = checkpoints(folder.path()).pop().unwrap();
        let mut bytes = fs::read(&newest).unwrap();
        damage(&mut bytes);
        fs::write(&newest, bytes).unwrap();
        let table = folder.path().join("table.txt");
        let progress = Progress::to_writer(fs::File::create(&table).unwrap());
        let mut learn = learner(folder.path())?.progress(progress);
        learn.fit_or_resume(Checkpoint::new("run").every(2), plan())?;
        let (weights, history) = end(&mut learn);
        let printed = fs::read_to_string(&table).unwrap();
        let lines: Vec<&str> = printed.lines().collect();
        assert!(lines[1].starts_with("a checkpoint was not used: "), "{what}: {printed}");
        assert_eq!(printed.matches("was not used").count(), 1, "{what}: {printed}");
        assert!(weights == whole.0, "{what}");
        let name = newest.file_name().unwrap().to_string_lossy().into_owned();
        let reported = history.messages.iter().filter(|m| m.contains(&name)).count();
        assert_eq!(reported, 1, "{what}: {:?}", history.messages);
        assert!(!newest.exists(), "it is removed when two good ones are there");
    }
    Ok(())
}

#[test]
fn no_damage_leads_to_a_wrong_resume() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    killed(folder);
    let [old, newest] = <[PathBuf; 2]>::try_from(checkpoints(folder)).unwrap();
    fs::remove_file(&old).unwrap();
    let bytes = fs::read(&newest).unwrap();
    let mut learn = learner(folder)?;
    let before = end(&mut learn);
    let mut refused = |damaged: &[u8], what: String| {
        fs::write(&newest, damaged).unwrap();
        let error = learn.resume("run", &mut []).expect_err(&what).to_string();
        assert!(error.contains("run"), "{what}: {error}");
    };
    for length in (0..bytes.len()).step_by(512) {
        refused(&bytes[..length], format!("cut to {length} bytes"));
    }
    // A thousand positions, throughout the file.
    let step = bytes.len() / 1000;
    for i in 0..1000 {
        let mut flipped = bytes.clone();
        flipped[i * step] ^= 1 << (i % 8);
        refused(&flipped, format!("bit {} of byte {}", i % 8, i * step));
    }
    assert!(end(&mut learn) == before, "nothing is loaded");
    fs::write(&newest, &bytes).unwrap();
    learn.resume("run", &mut [])
}

#[test]
fn checkpoints_under_a_wrong_name_are_not_confused() -> Result<()> {
    let _alone = alone();
    let whole = undisturbed(plan());
    // With exchanged names, the newer checkpoint is used.
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path());
    let [old, new] = <[PathBuf; 2]>::try_from(checkpoints(folder.path())).unwrap();
    let (a, b) = (fs::read(&old).unwrap(), fs::read(&new).unwrap());
    fs::write(&old, &b).unwrap();
    fs::write(&new, &a).unwrap();
    let mut learn = learner(folder.path())?;
    learn.fit_or_resume_with("run", plan(), &mut [&mut At::kill(11)])?;
    assert!(end(&mut learn).0 == whole.0);
    // A checkpoint of another run.
    let name = |run: &str| folder.path().join(format!("{run}.00000001.checkpoint.safetensors"));
    fs::write(name("other"), &b).unwrap();
    let error = learner(folder.path())?.fit_or_resume("other", plan()).unwrap_err().to_string();
    assert!(error.contains("contains the run `run`"), "{error}");
    // A file of weights.
    let weights = learn.save("weights")?;
    fs::copy(weights, name("third")).unwrap();
    let error = learner(folder.path())?.fit_or_resume("third", plan()).unwrap_err().to_string();
    assert!(error.contains("not a run"), "{error}");
    Ok(())
}

#[test]
fn training_continues_if_the_disk_fails() -> Result<()> {
    let _alone = alone();
    let whole = undisturbed(plan());
    let errors = [
        ErrorKind::StorageFull,
        ErrorKind::Other,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::PermissionDenied,
    ];
    // Each call with one of the errors, and each error with one of the calls.
    let each = FileOp::ALL.into_iter().enumerate().map(|(i, op)| (op, errors[i % 4]));
    for (op, error) in each.chain(errors.map(|error| (FileOp::Write, error))) {
        let folder = tempfile::tempdir().unwrap();
        let count = AtomicUsize::new(0);
        // The third call of the kind fails, and later calls succeed.
        let watch = disk::watch(folder.path(), move |call| {
            let ours = call.op == op && call.path.to_string_lossy().contains(".checkpoint.");
            match ours && count.fetch_add(1, Ordering::SeqCst) == 2 {
                true => Err(error.into()),
                false => Ok(()),
            }
        });
        let run = || Checkpoint::new("run").every(3);
        let mut learn = learner(folder.path())?;
        let killed = learn.fit_or_resume_with(run(), plan(), &mut [&mut At::kill(13)]);
        assert!(killed.unwrap_err().to_string().contains("killed"), "{op:?} {error:?}");
        let failed = learn.recorder().messages.iter().any(|m| m.contains("could not be written"));
        let matters = [
            FileOp::CreateFolder,
            FileOp::Create,
            FileOp::Write,
            FileOp::Sync,
            FileOp::Rename,
            FileOp::SyncFolder,
        ];
        assert_eq!(failed, matters.contains(&op), "{op:?}: {:?}", learn.recorder().messages);
        drop(watch);
        let mut learn = learner(folder.path())?;
        learn.fit_or_resume(run(), plan())?;
        assert!(end(&mut learn).0 == whole.0, "{op:?} {error:?}");
        let left = fs::read_dir(folder.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().ends_with("-part"));
        assert_eq!(left.count(), 0, "{op:?} {error:?}");
    }
    Ok(())
}

#[test]
fn a_full_disk_ends_the_fit_only_on_request() -> Result<()> {
    let _alone = alone();
    let whole = undisturbed(plan());
    let folder = tempfile::tempdir().unwrap();
    let _full = disk::watch(folder.path(), |call| match call.op {
        FileOp::Write if call.path.to_string_lossy().contains(".checkpoint.") => {
            Err(ErrorKind::StorageFull.into())
        }
        _ => Ok(()),
    });
    let mut learn = learner(folder.path())?;
    learn.fit_or_resume(Checkpoint::new("run").every(1), plan())?;
    let (weights, history) = end(&mut learn);
    assert!(weights == whole.0);
    // The messages of the first failure and of the complete run, not one per batch.
    let messages: Vec<&String> =
        history.messages.iter().filter(|m| m.contains("could not be written")).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!(checkpoints(folder.path()), Vec::<PathBuf>::new());

    let run = Checkpoint::new("fail").every(1).on_checkpoint_error(OnCheckpointError::Fail);
    let error = learner(folder.path())?.fit_or_resume(run, plan()).unwrap_err().to_string();
    assert!(error.contains("fail.00000001"), "{error}");
    Ok(())
}

#[test]
fn checkpoints_are_written_by_time_and_options_are_checked() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let written = |run: Checkpoint| -> Result<usize> {
        let count = std::sync::Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let _watch = disk::watch(folder.path(), move |call| {
            counted.fetch_add(usize::from(call.op == FileOp::Rename), Ordering::SeqCst);
            Ok(())
        });
        learner(folder.path())?.fit_or_resume(run, plan())?;
        Ok(count.load(Ordering::SeqCst))
    };
    // One per epoch for three epochs, and one for the complete run.
    assert_eq!(written(Checkpoint::new("default"))?, 4);
    // After batches 3 and 6 of each epoch of 8, and after its last one.
    assert_eq!(written(Checkpoint::new("batches").every(3))?, 3 * 3 + 1);
    // An interval that has always passed.
    assert_eq!(written(Checkpoint::new("time").interval(Duration::from_nanos(1)))?, 3 * 8 + 1);
    for run in [
        Checkpoint::new("a").every(0),
        Checkpoint::new("a").minutes(0.0),
        Checkpoint::new("a").minutes(f64::NAN),
        Checkpoint::new("a").keep(1),
        Checkpoint::new("../a"),
        Checkpoint::new(""),
    ] {
        let error = learner(folder.path())?.fit_or_resume(run, plan()).unwrap_err();
        assert!(matches!(error, finetune::Error::Config { .. }), "{error}");
    }
    Ok(())
}
