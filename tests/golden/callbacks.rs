//! The events of fits that are cancelled at every point, and the callbacks that change a batch or a
//! step.

use crate::{
    batch_callbacks,
    frame::{Golden, Report, Tol, flat, number, numbers},
    tiny::{cross_entropy_on, loaders, tiny},
    trackers,
};
use finetune::{
    Result,
    callback::ShortEpoch,
    learner::{Callback, Learner, Outcome, Scope, Step, Stop, Training},
    loss::Mse,
    model::Model,
    optim::{Optimizer, Sgd},
    sample::{Batch, Task},
};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tch::{Device, Tensor, nn};

pub(crate) const F32: Tol = Tol { rtol: 1e-5, atol: 1e-6 };

pub(crate) fn check(g: &Golden, r: &mut Report) {
    for scenario in g.json["events"]["scenarios"].as_array().unwrap() {
        r.case();
        events(g, r, scenario);
    }
    small(g, r);
    bn_freeze(g, r);
    batch_callbacks::check(g, r);
    trackers::check(g, r);
}

/// Returns a learner of one linear layer with the formula's weights, on the given rows, with plain
/// gradient descent.
pub(crate) fn linear(train: (&Tensor, &Tensor), valid: (&Tensor, &Tensor), bs: usize) -> Learner {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = nn::seq_t().add(nn::linear(vs.root() / "0", 3, 1, nn::LinearConfig::default()));
    let mut model = Model::from_module(vs, net).unwrap();
    crate::tiny::fill(&mut model, str::to_owned, 0);
    let dls = loaders(train, valid, bs, &Task::Values { n: 1 });
    let sgd = |p: &[_]| Optimizer::new(p, Sgd::new());
    Learner::new(dls, model, Mse).unwrap().quiet().opt_func(sgd).unwrap()
}

fn on_events(g: &Golden) -> Learner {
    let (x, y) = (g.tensor("events.x"), g.tensor("events.y"));
    let head = |t: &Tensor| t.narrow(0, 0, 8);
    linear((&x, &y), (&head(&x), &head(&y)), 4)
}

/// An event with the epoch, the batch and whether it is in training.
type Seen = (String, usize, usize, bool);

/// Calls the closure for every event, and fails where the closure does.
pub(crate) struct Every<F> {
    order: i32,
    f: F,
}

impl<F> std::fmt::Debug for Every<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Every")
    }
}

impl<F: FnMut(&str, &mut Training) -> Step + Send> Every<F> {
    pub(crate) fn new(order: i32, f: F) -> Self {
        Self { order, f }
    }
}

macro_rules! events {
    ($($name:ident($($arg:ident: $kind:ty),*);)*) => {
        $(fn $name(&mut self, t: &mut Training $(, $arg: $kind)*) -> Step {
            $(let _ = &$arg;)*
            (self.f)(stringify!($name), t)
        })*
    };
}

impl<F: FnMut(&str, &mut Training) -> Step + Send> Callback for Every<F> {
    fn order(&self) -> i32 {
        self.order
    }
    events! {
        before_fit();
        before_epoch();
        before_train();
        before_batch(b: &mut Batch);
        after_pred(b: &mut Batch, p: &mut Tensor);
        after_loss(b: &Batch, l: &mut Tensor);
        before_backward(b: &Batch, l: &mut Tensor);
        after_backward();
        before_step();
        after_step();
        after_batch(b: &Batch, o: &Outcome);
        after_train();
        before_validate();
        after_validate();
        after_epoch();
        after_fit();
    }
    fn after_cancel(&mut self, t: &mut Training, scope: Scope) -> Step {
        (self.f)(&format!("after_cancel_{scope:?}").to_lowercase(), t)
    }
}

/// Records every event.
fn log(order: i32, to: &Arc<Mutex<Vec<Seen>>>) -> impl Callback + 'static {
    let to = to.clone();
    Every::new(order, move |event, t| {
        to.lock().unwrap().push((event.to_owned(), t.at.epoch, t.at.batch, t.at.is_training()));
        Ok(())
    })
}

fn scope(exception: &str) -> Scope {
    match exception {
        "CancelFitException" => Scope::Fit,
        "CancelEpochException" => Scope::Epoch,
        "CancelTrainException" => Scope::Train,
        "CancelValidException" => Scope::Validate,
        "CancelBatchException" => Scope::Batch,
        "CancelStepException" => Scope::Step,
        "CancelBackwardException" => Scope::Backward,
        other => panic!("no scope for {other}"),
    }
}

/// Returns the position of the cancellation in the name of a scenario: epoch, then batch and training or
/// not.
fn place(name: &str) -> (Option<usize>, Option<(usize, bool)>) {
    let place = regex::Regex::new(r"epoch (\d+)(?: (train|valid) batch (\d+))?").unwrap();
    if name.contains("wrong place") {
        return (Some(0), Some((1, true)));
    }
    let Some(found) = place.captures(name) else { return (None, None) };
    let batch = found.get(3).map(|b| (b.as_str().parse().unwrap(), &found[2] == "train"));
    (Some(found[1].parse().unwrap()), batch)
}

/// Cancels once, at the event and the position of the scenario.
fn canceller(scenario: &Value) -> Option<impl Callback + 'static> {
    let scope = scope(scenario["exception"].as_str()?);
    let at = scenario["at"].as_str().unwrap().to_owned();
    let (epoch, batch) = place(scenario["name"].as_str().unwrap());
    let mut done = false;
    Some(Every::new(100, move |event: &str, t: &mut Training| {
        let here = epoch.is_none_or(|e| t.at.epoch == e)
            && batch.is_none_or(|(b, train)| t.at.batch == b && t.at.is_training() == train);
        if event == at && here && !std::mem::replace(&mut done, true) {
            return scope.cancel();
        }
        Ok(())
    }))
}

/// Records the computed losses by epoch and split, which the recorder must also have.
#[derive(Debug, Clone, Default)]
struct Computed(Arc<Mutex<Vec<Loss>>>);

/// A loss: its epoch, whether it is from training, its value and its number of items.
type Loss = (usize, bool, f64, usize);

impl Callback for Computed {
    fn order(&self) -> i32 {
        -1000
    }
    fn after_loss(&mut self, t: &mut Training, batch: &Batch, loss: &mut Tensor) -> Step {
        let row = (t.at.epoch, t.at.is_training(), f64::try_from(&*loss)?, batch.items.len());
        self.0.lock().unwrap().push(row);
        Ok(())
    }
}

impl Computed {
    /// Returns the smoothed training loss at the end of `epoch` and the mean validation loss.
    fn row(&self, epoch: usize) -> [f64; 2] {
        let all = self.0.lock().unwrap();
        let (mut value, mut count) = (0.0, 0);
        for (.., loss, _) in all.iter().filter(|(e, train, ..)| *train && *e <= epoch) {
            value += (loss - value) * 0.02;
            count += 1;
        }
        let valid: Vec<_> = all.iter().filter(|(e, train, ..)| !train && *e == epoch).collect();
        let items: usize = valid.iter().map(|(.., n)| n).sum();
        let total: f64 = valid.iter().map(|(.., loss, n)| loss * *n as f64).sum();
        [value / (1.0 - 0.98_f64.powi(count)), total / items as f64]
    }

    fn steps(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|(_, train, ..)| *train).count()
    }
}

fn events(g: &Golden, r: &mut Report, scenario: &Value) {
    let name = scenario["name"].as_str().unwrap();
    let (first, last) = (Arc::default(), Arc::default());
    let computed = Computed::default();
    let (mut changed, mut before) = (0, vec![]);
    let steps = Arc::new(Mutex::new(0));
    let count = steps.clone();
    let watch = Every::new(-200, move |_: &str, t: &mut Training| {
        let now = flat(&t.model.params()[0].tensor);
        if !before.is_empty() && now != before {
            changed += 1;
            *count.lock().unwrap() = changed;
        }
        before = now;
        Ok(())
    });
    let mut learn = on_events(g)
        .callback(log(-100, &first))
        .callback(log(1000, &last))
        .callback(computed.clone())
        .callback(watch);
    if let Some(cancel) = canceller(scenario) {
        learn = learn.callback(cancel);
    }
    let done = learn.fit(g.json["events"]["n_epoch"].as_u64().unwrap() as usize, 0.1);
    let escaped = !scenario["escaped"].is_null();
    r.exact(format!("{name}: is an error"), &done.is_err(), &escaped);
    event_lists(r, name, scenario, &first.lock().unwrap(), &last.lock().unwrap(), escaped);

    // fastai counts the step of a batch without gradients, which changes nothing.
    let without =
        scenario["exception"] == "CancelBackwardException" && scenario["at"] == "before_backward";
    let theirs = scenario["optimizer_steps"].as_u64().unwrap() as usize - usize::from(without);
    r.exact(format!("{name}: steps"), &*steps.lock().unwrap(), &theirs);
    let trained = scenario["train_iter"].as_u64().unwrap() as usize;
    r.exact(format!("{name}: batches"), &learn.training_mut().at.fit_batches, &trained);
    recorded(r, name, scenario, &learn, &computed);
}

fn event_lists(
    r: &mut Report,
    name: &str,
    scenario: &Value,
    first: &[Seen],
    last: &[Seen],
    escaped: bool,
) {
    // fastai's first event is that a callback joins a learner; this crate has no such event.
    let joined = |e: &&Value| e[0] != "after_create";
    let theirs: Vec<&Value> =
        scenario["events"].as_array().unwrap().iter().filter(joined).collect();
    let names = |list: &Value| -> Vec<String> {
        let all = list.as_array().unwrap().iter().map(|e| e.as_str().unwrap().to_owned());
        all.filter(|e| e != "after_create").collect()
    };
    let mut want: Vec<String> = theirs.iter().map(|e| e[0].as_str().unwrap().to_owned()).collect();
    let late = &scenario["event_names_seen_by_order_1000_callback"];
    let mut want_late = if late.is_null() { want.clone() } else { names(late) };
    if escaped {
        // Here, every fit ends with `after_fit` for all callbacks.
        for list in [&mut want, &mut want_late] {
            if list.last().is_none_or(|e| e != "after_fit") {
                list.push("after_fit".to_owned());
            }
        }
        r.differs(name, "`after_fit` comes to every callback, whatever ends the fit");
    }
    let ours = |seen: &[Seen]| seen.iter().map(|s| s.0.clone()).collect::<Vec<_>>();
    for (what, ours, want) in
        [("events", ours(first), want), ("late events", ours(last), want_late)]
    {
        let same = ours.iter().zip(&want).take_while(|(a, b)| a == b).count();
        let rest = |list: &[String]| list[same..(same + 3).min(list.len())].to_vec();
        r.exact(format!("{name}: {what} from {same} on"), &rest(&ours), &rest(&want));
    }
    let of_batch = |event: &str| {
        let batch = ["batch", "pred", "loss", "backward", "step"];
        batch.iter().any(|b| event.ends_with(b))
    };
    for (i, (event, epoch, batch, training)) in first.iter().enumerate() {
        let same = |theirs: &&&Value| of_batch(event) && theirs[0] == event.as_str();
        let Some(theirs) = theirs.get(i).filter(same) else { continue };
        let ours = (*epoch as u64, *batch as u64, *training);
        let want = (
            theirs[1].as_u64().unwrap(),
            theirs[2].as_u64().unwrap(),
            theirs[3].as_bool().unwrap(),
        );
        r.exact(format!("{name}: place of event {i}, {event}"), &ours, &want);
    }
}

fn recorded(r: &mut Report, name: &str, scenario: &Value, learn: &Learner, computed: &Computed) {
    let rows = &learn.recorder().rows;
    let theirs = scenario["recorder_values"].as_array().unwrap();
    r.exact(format!("{name}: rows"), &rows.len(), &theirs.len());
    let n_losses = learn.recorder().losses.len();
    let before_loss = matches!(scenario["at"].as_str(), Some("before_batch" | "after_pred"));
    let stale = scenario["exception"] == "CancelBatchException" && before_loss;
    if stale {
        r.exact(format!("{name}: every loss is recorded once"), &n_losses, &computed.steps());
    } else {
        let theirs = scenario["n_losses"].as_u64().unwrap() as usize;
        r.exact(format!("{name}: losses"), &n_losses, &theirs);
    }
    for (ours, theirs) in rows.iter().zip(theirs) {
        let label = format!("{name}: row of epoch {}", ours.epoch);
        if stale {
            let values: Vec<f64> = ours.values.iter().flatten().copied().collect();
            r.close(label, &values, &computed.row(ours.epoch), F32);
            continue;
        }
        // fastai leaves cancelled columns out of the row; here they are empty.
        let ours: Vec<f64> = ours.values.iter().flatten().copied().collect();
        r.close(label, &ours, &numbers(theirs), F32);
    }
    if stale {
        r.differs(name, "the loss of the batch before is not counted a second time");
    }
}

fn texts(v: &Value) -> Vec<String> {
    let all = v.as_array().unwrap().iter().map(|e| e.as_str().unwrap().to_owned());
    all.filter(|e| e != "after_create").collect()
}

/// Compares validation and prediction, a short epoch, and a NaN loss.
fn small(g: &Golden, r: &mut Report) {
    let names = |seen: &Arc<Mutex<Vec<Seen>>>| -> Vec<String> {
        seen.lock().unwrap().iter().map(|s| s.0.clone()).collect()
    };
    type Call = fn(&mut Learner) -> Result<()>;
    let calls: [(&str, Call); 2] = [
        ("events_validate", |l| l.validate().map(drop)),
        ("events_get_preds", |l| l.get_preds().map(drop)),
    ];
    for (key, call) in calls {
        r.case();
        let seen = Arc::default();
        let mut learn = on_events(g).callback(log(-100, &seen));
        call(&mut learn).unwrap();
        r.exact(key, &names(&seen), &texts(&g.json[key]));
    }

    r.case();
    let (case, seen) = (&g.json["short_epoch"], Arc::default());
    let short = ShortEpoch::new(number(&case["pct"]));
    let mut learn = on_events(g).callback(log(-100, &seen)).callback(short);
    learn.fit(1, 0.1).unwrap();
    r.exact("short_epoch", &names(&seen), &texts(&case["events"]));
    let values = &learn.recorder().rows[0].values;
    r.exact("short_epoch: row", &values.iter().all(Option::is_none), &true);

    r.case();
    let (case, seen) = (&g.json["terminate_on_nan"], Arc::default());
    let at = case["nan_at_train_iter"].as_u64().unwrap() as usize;
    let mut learn = on_events(g).callback(log(-100, &seen)).callback(Nan { at });
    let done = learn.fit(2, 0.1);
    let why = matches!(&done, Err(finetune::Error::NonFiniteLoss { batch, .. }) if *batch == at);
    r.holds("terminate_on_nan: the error names the batch", why);
    let mut theirs = texts(&case["events"]);
    theirs.retain(|event| event != "after_cancel_fit");
    r.exact("terminate_on_nan: events", &names(&seen), &theirs);
    let recorded = case["n_recorded"].as_u64().unwrap() as usize;
    r.exact("terminate_on_nan: recorded", &learn.recorder().losses.len(), &recorded);
    r.differs("terminate_on_nan", "on by default, and an error that names the batch");
}

/// Makes the loss of one batch NaN.
#[derive(Debug)]
struct Nan {
    at: usize,
}

impl Callback for Nan {
    fn after_loss(&mut self, t: &mut Training, _: &Batch, loss: &mut Tensor) -> Step {
        if t.at.is_training() && t.at.fit_batches == self.at {
            *loss = &*loss * f64::NAN;
        }
        Ok::<(), Stop>(())
    }
}

/// Compares frozen batch normalizations with and without their running statistics.
fn bn_freeze(g: &Golden, r: &mut Report) {
    let (x, y) = (g.tensor("bn_freeze.x"), g.tensor("bn_freeze.y"));
    let head = |t: &Tensor| t.narrow(0, 0, 4);
    for (key, freeze) in [("bn_freeze", true), ("bn_no_freeze", false)] {
        r.case();
        let learn = cross_entropy_on((&x, &y), (&head(&x), &head(&y)), 8, tiny(3, 0));
        let mut learn = learn.train_bn(false);
        if freeze {
            learn = learn.callback(finetune::callback::BnFreeze::new());
        }
        learn.freeze();
        learn.fit(1, 1e-2).unwrap();
        for (name, tensor) in learn.model().state_dict() {
            let theirs = format!("{key}.{name}");
            if name.contains("running") {
                r.tensor(&theirs, &tensor, &g.tensor(&theirs), F32);
            }
        }
        let losses = flat(&g.tensor(&format!("{key}.losses")));
        r.close(format!("{key}.losses"), &learn.recorder().losses, &losses, F32);
    }
}
