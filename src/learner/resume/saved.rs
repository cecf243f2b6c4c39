//! The content of a checkpoint: everything that a fit needs to continue exactly.

use super::fingerprint::Fingerprint;
use crate::{
    error::{Error, Result},
    format::StateDict,
    learner::{
        EpochRow, History, Position, Training,
        files::weights,
        record::{history::Smooth, metrics},
        training::stage::Stage,
    },
    metric::Better,
    optim::Hypers,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use tch::{Kind, Tensor};

/// The version of the content. Increase it when the meaning of a field changes.
const VERSION: u32 = 2;

/// The metadata of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    version: u32,
    /// The version of the crate that wrote the checkpoint.
    written_by: String,
    run: String,
    generation: u64,
    complete: bool,
    fingerprint: Fingerprint,
    at: Position,
    /// All stages of the run.
    stages: Vec<Stage>,
    /// The current stage and the later ones.
    left: Vec<Stage>,
    hypers: Vec<Hypers>,
    /// The names of the trainable parameters.
    learn: Vec<String>,
    names: Vec<String>,
    rows: Vec<SavedRow>,
    iters: Vec<usize>,
    messages: Vec<String>,
    smooth: Smooth,
    notes: BTreeMap<String, Value>,
}

/// A row of the table of epochs. Values are stored as bits, since JSON has no NaN.
#[derive(Debug, Serialize, Deserialize)]
struct SavedRow {
    epoch: usize,
    values: Vec<Option<u64>>,
    seconds: f64,
}

impl From<&EpochRow> for SavedRow {
    fn from(row: &EpochRow) -> Self {
        let values = row.values.iter().map(|v| v.map(f64::to_bits)).collect();
        Self { epoch: row.epoch, values, seconds: row.seconds }
    }
}

impl From<&SavedRow> for EpochRow {
    fn from(row: &SavedRow) -> Self {
        let values = row.values.iter().map(|v| v.map(f64::from_bits)).collect();
        Self { epoch: row.epoch, values, seconds: row.seconds }
    }
}

/// A checkpoint that was read, with a valid checksum.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    saved: Saved,
    tensors: StateDict,
}

impl File {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn run(&self) -> &str {
        &self.saved.run
    }

    pub(super) fn generation(&self) -> u64 {
        self.saved.generation
    }

    pub(super) fn fingerprint(&self) -> &Fingerprint {
        &self.saved.fingerprint
    }

    /// Returns all stages of the run, the remaining ones, and the first batch.
    pub(super) fn stages(&self) -> (Vec<Stage>, Vec<Stage>, usize) {
        (self.saved.stages.clone(), self.saved.left.clone(), self.saved.at.batch + 1)
    }

    /// Returns the remaining ones of `stages`, and the epoch and batch at which the first of them
    /// continues.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the number of stages of the run differs.
    pub(super) fn remaining(&self, stages: &[Stage]) -> Result<(Vec<Stage>, usize, usize)> {
        let Saved { stages: then, left, at, complete, .. } = &self.saved;
        if then.len() != stages.len() {
            let why = format!(
                "was written in a run of {} stages, but this one has {}: `fine_tune` has two, a policy has one",
                then.len(),
                stages.len()
            );
            return Err(Error::checkpoint(self.path.clone(), why));
        }
        if !complete {
            let done = then.len() - left.len().min(then.len());
            return Ok((stages[done..].to_vec(), at.epoch, at.batch + 1));
        }
        // More epochs may have been allowed. Otherwise a run that was stopped early stays complete.
        let more = stages
            .last()
            .zip(then.last())
            .filter(|(now, then)| now.course.epochs > then.course.epochs.max(at.epoch + 1));
        Ok((more.map(|(now, _)| now.clone()).into_iter().collect(), at.epoch + 1, 0))
    }

    /// Returns the tensors whose names begin with `prefix` and a dot, without that prefix.
    fn below(&self, prefix: &str) -> StateDict {
        let of = |(n, t): &(String, Tensor)| {
            Some((n.strip_prefix(prefix)?.strip_prefix('.')?.to_owned(), t.shallow_clone()))
        };
        self.tensors.iter().filter_map(of).collect()
    }
}

/// The largest count of batches or epochs in a checkpoint. No training reaches it, and the largest integers would overflow.
const LARGEST_COUNT: u64 = 1 << 53;

/// The lists of a history that are stored as tensors, since they have a number per step.
const LISTS: [&str; 4] = ["losses", "raw_losses", "lrs", "moms"];

fn lists(h: &mut History) -> [&mut Vec<f64>; 4] {
    [&mut h.losses, &mut h.raw_losses, &mut h.lrs, &mut h.moms]
}

/// Prefix of floats that are stored as bits: JSON decimals may be read with a rounding error.
const BITS: &str = "f64:";
/// Prefix of texts that themselves begin with one of these prefixes.
const TEXT: &str = "text:";

/// Replaces floats in a value by texts of their bits.
fn exact(value: Value) -> Value {
    match value {
        Value::Number(n) if n.is_f64() => {
            let bits = n.as_f64().map_or(0, f64::to_bits);
            Value::String(format!("{BITS}{bits:016x}"))
        }
        Value::String(text) if text.starts_with(BITS) || text.starts_with(TEXT) => {
            Value::String(format!("{TEXT}{text}"))
        }
        Value::Array(all) => all.into_iter().map(exact).collect(),
        Value::Object(all) => all.into_iter().map(|(k, v)| (k, exact(v))).collect(),
        other => other,
    }
}

/// Inverse of [`exact`].
fn inexact(value: Value) -> Value {
    let fraction = |text: &str| {
        let bits = u64::from_str_radix(text.strip_prefix(BITS)?, 16).ok()?;
        Some(Value::from(f64::from_bits(bits)))
    };
    match value {
        Value::String(text) => match text.strip_prefix(TEXT) {
            Some(text) => Value::String(text.to_owned()),
            None => fraction(&text).unwrap_or(Value::String(text)),
        },
        Value::Array(all) => all.into_iter().map(inexact).collect(),
        Value::Object(all) => all.into_iter().map(|(k, v)| (k, inexact(v))).collect(),
        other => other,
    }
}

/// Converts the hyperparameters of every step and group to a tensor, `[steps, groups, 5]`.
fn hypers_tensor(steps: &[Vec<Hypers>]) -> Tensor {
    let five = |h: &Hypers| [h.lr, h.mom, h.sqr_mom, h.eps, h.wd];
    let flat: Vec<f64> = steps.iter().flatten().flat_map(five).collect();
    let groups = steps.first().map_or(0, Vec::len) as i64;
    Tensor::from_slice(&flat).view([steps.len() as i64, groups, 5])
}

/// Inverse of [`hypers_tensor`].
fn hypers_of(t: &Tensor) -> Result<Vec<Vec<Hypers>>> {
    let (steps, groups, _) = t.size3()?;
    let flat: Vec<f64> = Vec::try_from(&t.to_kind(Kind::Double).reshape([-1]))?;
    let one = |v: &[f64]| {
        let [lr, mom, sqr_mom, eps, wd] = *v else { return Hypers::new(0.0) };
        Hypers { lr, mom, sqr_mom, eps, wd }
    };
    let all: Vec<Hypers> = flat.chunks_exact(5).map(one).collect();
    let groups = (groups as usize).max(1);
    Ok(all.chunks(groups).take(steps as usize).map(<[_]>::to_vec).collect())
}

/// Returns accumulated gradients for which no step has been taken.
fn pending_grads(t: &Training) -> StateDict {
    let all = t.model.params().iter().map(|p| (p.name.clone(), p.tensor.grad()));
    all.filter(|(_, grad)| grad.defined()).collect()
}

/// Checks that saved gradients have the shapes of their parameters.
fn check_grads(t: &Training, grads: &[(String, Tensor)]) -> Result<(), String> {
    for p in t.model.params() {
        let Some((name, grad)) = grads.iter().find(|(name, _)| *name == p.name) else { continue };
        let (found, size) = (grad.size(), p.tensor.size());
        if found != size {
            return Err(format!(
                "the gradient of `{name}` has the shape {found:?} instead of {size:?}"
            ));
        }
    }
    Ok(())
}

/// Sets the gradients of the parameters.
fn set_grads(t: &mut Training, grads: &[(String, Tensor)]) -> Result<()> {
    t.opt.zero_grad();
    for (name, grad) in grads {
        let Some(param) = t.model.params().iter().find(|p| p.name == *name) else { continue };
        let grad = grad.f_to_device(param.tensor.device())?;
        // The derivative of sum(p·g) with respect to p is exactly g.
        param.tensor.f_mul(&grad)?.f_sum(Kind::Float)?.f_backward()?;
    }
    Ok(())
}

/// Writes everything that a fit needs to continue after the current batch, or the end of a run.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub(super) fn write(
    t: &mut Training,
    path: &Path,
    run: &str,
    generation: u64,
    complete: bool,
) -> Result<()> {
    t.read_losses()?;
    let fingerprint = t.checkpoints.fingerprint.clone().unwrap_or_default();
    let named = |prefix: &str, all: StateDict| {
        all.into_iter().map(|(n, t)| (format!("{prefix}.{n}"), t)).collect::<Vec<_>>()
    };
    let mut tensors = named("model", t.model.state_dict());
    tensors.extend(named("opt", t.opt.state()));
    tensors.extend(named("grad", pending_grads(t)));
    for (owner, kept) in &t.tensors {
        let kept = kept.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect();
        tensors.extend(named(&format!("callback.{}:{owner}", owner.len()), kept));
    }
    for (name, list) in LISTS.iter().zip(lists(&mut t.history)) {
        tensors.push((format!("history.{name}"), Tensor::from_slice(list)));
    }
    tensors.push(("history.hypers".to_owned(), hypers_tensor(&t.history.hypers)));
    let learns = t.model.params().iter().filter(|p| p.tensor.requires_grad());
    let saved = Saved {
        version: VERSION,
        written_by: env!("CARGO_PKG_VERSION").to_owned(),
        run: run.to_owned(),
        generation,
        complete,
        fingerprint,
        at: t.at,
        stages: t.checkpoints.stages.clone(),
        left: t.plan.iter().cloned().collect(),
        hypers: t.opt.hypers().to_vec(),
        learn: learns.map(|p| p.name.clone()).collect(),
        names: t.history.names.clone(),
        rows: t.history.rows.iter().map(SavedRow::from).collect(),
        iters: t.history.iters.clone(),
        messages: t.history.messages.clone(),
        smooth: t.history.smooth,
        notes: t.notes.clone(),
    };
    let saved = exact(serde_json::to_value(&saved).map_err(Error::other)?).to_string();
    let batch_tfms = weights::transforms(t).map_err(Error::other)?.batch.to_string();
    let arch = serde_json::to_string(&t.model.spec()).map_err(Error::other)?;
    let about = weights::metadata(&[
        ("kind", "checkpoint"),
        ("training", &saved),
        ("arch", &arch),
        ("batch_tfms", &batch_tfms),
    ]);
    weights::write(path, &tensors, about)
}

/// Reads a checkpoint and verifies its checksum.
///
/// # Errors
/// [`Error::Io`] or [`Error::Checkpoint`] naming the file.
pub(super) fn read(path: &Path) -> Result<File> {
    let broken = |why: String| Error::checkpoint(path, why);
    let (tensors, about) = weights::read(path)?;
    let Some(saved) = about.get("training") else {
        return Err(broken("contains weights and not a run: use `load`".into()));
    };
    let value: Value =
        serde_json::from_str(saved).map_err(|e| broken(format!("its description: {e}")))?;
    let version = value["version"].as_u64();
    if version != Some(u64::from(VERSION)) {
        let by = value["written_by"].as_str().unwrap_or("an unknown version");
        let why = format!(
            "was written by finetune {by}, whose checkpoints finetune {} cannot read",
            env!("CARGO_PKG_VERSION")
        );
        return Err(broken(why));
    }
    let saved: Saved = serde_json::from_value(inexact(value))
        .map_err(|e| broken(format!("its description: {e}")))?;
    let Position { epoch, batch, fit_batches, step, pass, .. } = saved.at;
    let counts = [epoch as u64, batch as u64, fit_batches as u64, step, pass];
    if counts.iter().any(|n| *n > LARGEST_COUNT) {
        return Err(broken(format!("its position is {:?}, which no training reaches", saved.at)));
    }
    Ok(File { path: path.to_owned(), saved, tensors })
}

/// Returns which values of the columns are better, according to the metrics of this program.
fn better(t: &Training, names: &[String]) -> Vec<Option<Better>> {
    let of = |train_metrics| metrics::columns(train_metrics, &t.metrics).ok();
    let mut both = [false, true].into_iter().filter_map(of);
    both.find(|(known, _)| known.as_slice() == names).map_or_else(Vec::new, |(_, better)| better)
}

/// Installs the content of a checkpoint: all of it, or nothing.
///
/// # Errors
/// [`Error::Checkpoint`] if it does not match the model or the optimizer.
pub(super) fn install(t: &mut Training, file: &File) -> Result<()> {
    let broken = |why: String| Error::checkpoint(file.path.clone(), why);
    let saved = &file.saved;
    let mut history = History {
        names: saved.names.clone(),
        rows: saved.rows.iter().map(EpochRow::from).collect(),
        iters: saved.iters.clone(),
        messages: saved.messages.clone(),
        smooth: saved.smooth,
        ..History::default()
    };
    let recorded = file.below("history");
    let list = |name: &str| {
        let found = recorded.iter().find(|(n, _)| n == name).map(|(_, t)| t);
        found.ok_or_else(|| broken(format!("has no `{name}`")))
    };
    for (name, to) in LISTS.iter().zip(lists(&mut history)) {
        *to = Vec::try_from(&list(name)?.to_kind(Kind::Double).view([-1]))?;
    }
    history.hypers = hypers_of(list("hypers")?)?;
    history.better = better(t, &history.names);
    let grads = file.below("grad");
    check_grads(t, &grads).map_err(broken)?;
    let before = t.opt.hypers().to_vec();
    t.opt.set_hypers(&saved.hypers).map_err(|e| broken(e.to_string()))?;
    if let Err(e) = weights::install(t, &file.below("model"), Some(&file.below("opt"))) {
        t.opt.set_hypers(&before)?;
        return Err(broken(e.to_string()));
    }
    for p in t.model.params() {
        let _ = p.tensor.set_requires_grad(saved.learn.contains(&p.name));
    }
    set_grads(t, &grads)?;
    t.tensors.clear();
    for (name, tensor) in file.below("callback") {
        // The length of the owner's name, the name, and the name of the tensor.
        let Some((length, rest)) = name.split_once(':') else { continue };
        let Some(owner) = length.parse().ok().and_then(|n: usize| rest.get(..n)) else { continue };
        let name = rest[owner.len()..].trim_start_matches('.').to_owned();
        t.tensors.entry(owner.to_owned()).or_default().push((name, tensor));
    }
    (t.history, t.notes, t.at) = (history, saved.notes.clone(), saved.at);
    t.old_messages = saved.messages.len();
    if saved.written_by != env!("CARGO_PKG_VERSION") {
        t.say(format!(
            "the checkpoint was written by finetune {}, but this is {}: the results may differ slightly",
            saved.written_by,
            env!("CARGO_PKG_VERSION")
        ));
    }
    Ok(())
}
