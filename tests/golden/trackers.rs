//! Callbacks that monitor a column of the table: their decisions for given values.

use crate::{
    callbacks::{F32, linear},
    frame::{Golden, Report, number, numbers},
};
use finetune::{
    Result,
    callback::{Better, EarlyStopping, Monitor, ReduceLrOnPlateau, SaveBest},
    learner::{Callback, Flat, Learner, Step, Training},
    metric::Metric,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tch::Tensor;

pub(crate) fn check(g: &Golden, r: &mut Report) {
    for case in g.cases("trackers") {
        r.case();
        run(g, r, case);
    }
    r.case();
    let folder = tempfile::tempdir().unwrap();
    let learn = learner(g, "fake_loss", vec![1.0], Arc::default());
    let mut learn = learn.model_dir(folder.path());
    let mut bad = EarlyStopping::new(1).monitor("nope");
    let done = learn.fit_with(&Flat::new(1), &mut [&mut bad]);
    r.holds("an unknown column is an error", g.json["tracker_bad_monitor"].get("raises").is_some());
    r.holds("ours names the columns", done.is_err_and(|e| e.to_string().contains("valid_loss")));
    let mut both = SaveBest::new().file("model").every_epoch(1).at_end(true);
    let done = learn.fit_with(&Flat::new(1), &mut [&mut both]);
    let theirs = g.json["every_epoch_and_at_end"].get("raises").is_some();
    r.holds("every_epoch and at_end exclude each other", theirs && done.is_err());
    let nothing = fs::read_dir(folder.path()).is_ok_and(|mut files| files.next().is_none());
    r.holds("a fit that did not begin writes nothing", nothing);
}

/// A metric with given values, one per epoch.
#[derive(Debug)]
struct Prescribed {
    name: String,
    values: Vec<f64>,
    epoch: Arc<AtomicUsize>,
}

impl Metric for Prescribed {
    fn name(&self) -> &str {
        &self.name
    }
    fn reset(&mut self) {}
    fn update(&mut self, _: &Tensor, _: &Tensor) -> Result<()> {
        Ok(())
    }
    fn value(&self) -> Result<Option<f64>> {
        Ok(Some(self.values[self.epoch.load(Ordering::Relaxed)]))
    }
    /// fastai decides by the name.
    fn better(&self) -> Option<Better> {
        let lower = self.name.contains("loss") || self.name.contains("error");
        Some(if lower { Better::Lower } else { Better::Higher })
    }
}

fn learner(g: &Golden, name: &str, values: Vec<f64>, epoch: Arc<AtomicUsize>) -> Learner {
    let (x, y) = (g.tensor("events.x"), g.tensor("events.y"));
    let head = |t: &Tensor| t.narrow(0, 0, 4);
    let metric = Prescribed { name: name.to_owned(), values, epoch };
    linear((&x, &y), (&head(&x), &head(&y)), 12).metric(metric)
}

fn weight(t: &Training) -> f64 {
    let weight = t.model.params()[0].tensor.flatten(0, -1);
    f64::try_from(weight.get(0)).unwrap()
}

/// Records rate and weight at the end of each epoch, before the trackers.
#[derive(Debug, Default)]
struct Ends {
    lrs: Vec<f64>,
    weights: Vec<f64>,
    epoch: Arc<AtomicUsize>,
}

impl Callback for Ends {
    fn order(&self) -> i32 {
        55
    }
    fn before_epoch(&mut self, t: &mut Training) -> Step {
        self.epoch.store(t.at.epoch, Ordering::Relaxed);
        Ok(())
    }
    fn after_epoch(&mut self, t: &mut Training) -> Step {
        self.lrs.push(t.opt.hypers()[0].lr);
        self.weights.push(weight(t));
        Ok(())
    }
}

/// A written file: the epoch, its name, and whether it has the optimizer.
type Saved = (usize, String, bool);

/// Records new files since the last call, and removes them.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    seen: Arc<Mutex<Vec<Saved>>>,
}

fn take_files(folder: &Path, epoch: usize, seen: &mut Vec<Saved>) {
    let Ok(files) = fs::read_dir(folder) else { return };
    let mut names: Vec<String> =
        files.map(|f| f.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in &names {
        let Some(stem) = name.strip_suffix(".safetensors") else { continue };
        if !stem.ends_with(".opt") {
            let opt = names.contains(&format!("{stem}.opt.safetensors"));
            seen.push((epoch, stem.to_owned(), opt));
        }
    }
    for name in names {
        fs::remove_file(folder.join(name)).unwrap();
    }
}

impl Callback for Files {
    fn order(&self) -> i32 {
        1000
    }
    fn after_epoch(&mut self, t: &mut Training) -> Step {
        take_files(&self.folder, t.at.epoch, &mut self.seen.lock().unwrap());
        Ok(())
    }
}

/// Returns the trackers of a case.
#[derive(Default)]
struct Trackers {
    save: Option<SaveBest>,
    reduce: Option<ReduceLrOnPlateau>,
    stop: Option<EarlyStopping>,
}

impl Trackers {
    fn of(case: &Value) -> Self {
        let params = &case["params"];
        let column = case["monitor"].as_str().unwrap();
        let monitor = |params: &Value| {
            let mut monitor = Monitor::new(column);
            if let Some(delta) = params.get("min_delta") {
                monitor = monitor.min_delta(number(delta));
            }
            match params.get("comp").and_then(Value::as_str) {
                Some("np.less") => monitor.better(Better::Lower),
                Some("np.greater") => monitor.better(Better::Higher),
                _ => monitor,
            }
        };
        let patience = |p: &Value| p.get("patience").map_or(1, |v| v.as_u64().unwrap() as usize);
        let stop = |p: &Value| EarlyStopping::new(patience(p)).monitor(monitor(p));
        let reduce = |p: &Value| {
            let mut reduce = ReduceLrOnPlateau::new(patience(p)).monitor(monitor(p));
            if let Some(factor) = p.get("factor") {
                reduce = reduce.factor(number(factor));
            }
            if let Some(lr) = p.get("min_lr") {
                reduce = reduce.min_lr(number(lr));
            }
            reduce
        };
        let save = |p: &Value| {
            let name = p.get("fname").map_or("model", |v| v.as_str().unwrap());
            let save = SaveBest::new().monitor(monitor(p)).file(name);
            let save = match p.get("every_epoch") {
                Some(Value::Bool(true)) => save.every_epoch(1),
                Some(every) => save.every_epoch(every.as_u64().unwrap() as usize),
                None => save,
            };
            let yes = |name: &str| p.get(name) == Some(&Value::Bool(true));
            save.at_end(yes("at_end")).with_opt(yes("with_opt"))
        };
        match case["name"].as_str().unwrap() {
            "EarlyStoppingCallback" => Self { stop: Some(stop(params)), ..Self::default() },
            "ReduceLROnPlateau" => Self { reduce: Some(reduce(params)), ..Self::default() },
            "SaveModelCallback" => Self { save: Some(save(params)), ..Self::default() },
            "SaveModel+EarlyStopping+ReduceLR" => Self {
                save: Some(save(&Value::Null)),
                reduce: Some(reduce(&params["reduce"])),
                stop: Some(stop(&params["early"])),
            },
            other => panic!("no tracker {other}"),
        }
    }

    fn lent(&mut self) -> Vec<&mut dyn Callback> {
        let Self { save, reduce, stop } = self;
        let mut all: Vec<&mut dyn Callback> = vec![];
        all.extend(save.iter_mut().map(|c| c as &mut dyn Callback));
        all.extend(reduce.iter_mut().map(|c| c as &mut dyn Callback));
        all.extend(stop.iter_mut().map(|c| c as &mut dyn Callback));
        all
    }
}

fn run(g: &Golden, r: &mut Report, case: &Value) {
    let column = case["monitor"].as_str().unwrap();
    let values = numbers(&case["sequence"]);
    let name = format!("{} {} on {column} {:?}", case["name"], case["params"], &values[..3]);
    let folder = tempfile::tempdir().unwrap();
    let mut ends = Ends::default();
    let mut learn = learner(g, column, values.clone(), ends.epoch.clone()).model_dir(folder.path());
    let saved = Arc::<Mutex<Vec<Saved>>>::default();
    let mut files = Files { folder: folder.path().to_owned(), seen: saved.clone() };
    let mut trackers = Trackers::of(case);
    let mut lent = trackers.lent();
    lent.push(&mut ends);
    lent.push(&mut files);
    learn.fit_with(&Flat::new(values.len()).lr(0.1), &mut lent).unwrap();
    let last = learn.training_mut().at.epoch;
    take_files(folder.path(), last, &mut saved.lock().unwrap());

    r.exact(
        format!("{name}: epochs"),
        &(ends.weights.len() as u64),
        &case["epochs_run"].as_u64().unwrap(),
    );
    let lrs = numbers(&case["lr_at_epoch_end_before_tracker"]);
    r.close(format!("{name}: rates"), &ends.lrs, &lrs, F32);
    let lr = learn.training_mut().opt.hypers()[0].lr;
    r.close(format!("{name}: rate after"), &[lr], &[number(&case["lr_after_fit"])], F32);
    let bests: Vec<f64> = numbers(&case["best"]);
    if let Some(save) = &trackers.save {
        r.close(format!("{name}: best"), &[save.best()], &bests[..1], F32);
    } else if let Some(stop) = &trackers.stop {
        r.close(format!("{name}: best"), &[stop.best()], &bests[..1], F32);
    }
    let theirs: Vec<Saved> = case["saves"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| {
            let name = s[1].as_str().unwrap().to_owned();
            (s[0].as_u64().unwrap() as usize, name, s[2].as_bool().unwrap())
        })
        .collect();
    let mut theirs = theirs;
    // This watcher looks once at the end of each epoch, so that a file written twice is seen once.
    theirs.dedup();
    let mut ours = saved.lock().unwrap().clone();
    ours.dedup();
    r.exact(format!("{name}: files"), &ours, &theirs);
    let now = weight(learn.training_mut());
    let same: Vec<usize> = (0..ends.weights.len()).filter(|&i| ends.weights[i] == now).collect();
    let want: Vec<usize> =
        serde_json::from_value(case["weights_after_fit_equal_those_of_epoch"].clone()).unwrap();
    r.exact(format!("{name}: weights of epoch"), &same, &want);
    // Our messages correspond to fastai's prints; the files show the better epochs.
    let told = |word: &str| {
        let printed = case["printed"].as_array().unwrap().iter();
        printed.filter(|line| line.as_str().unwrap().contains(word)).count()
    };
    let said = |word: &str| learn_messages(&learn).iter().filter(|m| m.contains(word)).count();
    r.exact(format!("{name}: stop told"), &said("stopped early"), &told("early stopping"));
    r.exact(format!("{name}: lowering told"), &said("lowered"), &told("reducing lr"));
}

fn learn_messages(learn: &Learner) -> &[String] {
    &learn.recorder().messages
}
