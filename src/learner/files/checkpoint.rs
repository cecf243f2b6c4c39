//! A training on disk, in the middle of an epoch: all that a fit needs to go on bit for bit.

use super::weights;
use crate::{
    error::{Error, Result},
    learner::{
        EpochRow, History, Position, Training, record::history::Smooth, training::stage::Stage,
    },
    optim::Hypers,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use tch::{Kind, Tensor};

/// What a checkpoint says beside its tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    at: Position,
    /// The stage that runs, and those to come.
    plan: Vec<Stage>,
    hypers: Vec<Hypers>,
    /// The parameters that learn, by name.
    learn: Vec<String>,
    seed: u64,
    names: Vec<String>,
    rows: Vec<EpochRow>,
    iters: Vec<usize>,
    messages: Vec<String>,
    smooth: Smooth,
    notes: BTreeMap<String, Value>,
}

/// The lists of a history that a checkpoint keeps as tensors, since there is a number for each step.
const LISTS: [&str; 4] = ["losses", "raw_losses", "lrs", "moms"];

fn lists(h: &mut History) -> [&mut Vec<f64>; 4] {
    [&mut h.losses, &mut h.raw_losses, &mut h.lrs, &mut h.moms]
}

/// How fractions begin that are kept by their bits: JSON's decimals may come back a rounding away.
const BITS: &str = "f64:";

/// A value whose fractions are texts of their bits.
fn exact(value: Value) -> Value {
    match value {
        Value::Number(n) if n.is_f64() => {
            let bits = n.as_f64().map_or(0, f64::to_bits);
            Value::String(format!("{BITS}{bits:016x}"))
        }
        Value::Array(all) => all.into_iter().map(exact).collect(),
        Value::Object(all) => all.into_iter().map(|(k, v)| (k, exact(v))).collect(),
        other => other,
    }
}

/// The value that [`exact`] was given.
fn inexact(value: Value) -> Value {
    let fraction = |text: &str| {
        let bits = u64::from_str_radix(text.strip_prefix(BITS)?, 16).ok()?;
        Some(Value::from(f64::from_bits(bits)))
    };
    match value {
        Value::String(text) => fraction(&text).unwrap_or(Value::String(text)),
        Value::Array(all) => all.into_iter().map(inexact).collect(),
        Value::Object(all) => all.into_iter().map(|(k, v)| (k, inexact(v))).collect(),
        other => other,
    }
}

/// The hyperparameters of every step and group as numbers: steps × groups × 5.
fn hypers_tensor(steps: &[Vec<Hypers>]) -> Tensor {
    let five = |h: &Hypers| [h.lr, h.mom, h.sqr_mom, h.eps, h.wd];
    let flat: Vec<f64> = steps.iter().flatten().flat_map(five).collect();
    let groups = steps.first().map_or(0, Vec::len) as i64;
    Tensor::from_slice(&flat).view([steps.len() as i64, groups, 5])
}

/// What [`hypers_tensor`] was given.
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

impl Training {
    /// Where the checkpoint `name` is, below [`Training::model_dir`].
    ///
    /// # Errors
    /// [`Error::Config`] if `name` is empty or leads out of the folder.
    pub fn checkpoint_path(&self, name: &str) -> Result<PathBuf> {
        if name.is_empty() || Path::new(name).is_absolute() || name.contains("..") {
            let why = format!("`{name}` is no file name below {}", self.model_dir.display());
            return Err(Error::config("name", why));
        }
        Ok(self.model_dir.join(format!("{name}.resume.safetensors")))
    }

    /// Writes all that [`Learner::resume`](crate::learner::Learner::resume) needs to go on after the batch just
    /// done: weights, optimizer, position, history, the fits to come and the callbacks' notes. For
    /// `after_batch` in training, when the step is done and no gradients wait for the next one; see
    /// the callback `Checkpoint`, which minds that. A file that is there is replaced
    /// by a complete one.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write_checkpoint(&mut self, name: &str) -> Result<PathBuf> {
        let path = self.checkpoint_path(name)?;
        self.read_losses()?;
        if let Some(p) = &self.parallel {
            p.average_buffers(&self.model)?;
        }
        if !self.is_first_rank() {
            return Ok(path);
        }
        let named = |prefix: &str, all: Vec<(String, Tensor)>| {
            all.into_iter().map(|(n, t)| (format!("{prefix}.{n}"), t)).collect::<Vec<_>>()
        };
        let mut tensors = named("model", self.model.state_dict());
        tensors.extend(named("opt", self.opt.state()));
        for (name, list) in LISTS.iter().zip(lists(&mut self.history)) {
            tensors.push((format!("history.{name}"), Tensor::from_slice(list)));
        }
        tensors.push(("history.hypers".to_owned(), hypers_tensor(&self.history.hypers)));
        let learns = self.model.params().iter().filter(|p| p.tensor.requires_grad());
        let saved = Saved {
            at: self.at,
            plan: self.plan.iter().cloned().collect(),
            hypers: self.opt.hypers().to_vec(),
            learn: learns.map(|p| p.name.clone()).collect(),
            seed: self.seed.0,
            names: self.history.names.clone(),
            rows: self.history.rows.clone(),
            iters: self.history.iters.clone(),
            messages: self.history.messages.clone(),
            smooth: self.history.smooth,
            notes: self.notes.clone(),
        };
        let saved = exact(serde_json::to_value(&saved).map_err(Error::other)?).to_string();
        let batch_tfms = weights::transforms(self).map_err(Error::other)?.batch.to_string();
        let about = weights::metadata(&[
            ("kind", "checkpoint"),
            ("training", &saved),
            ("batch_tfms", &batch_tfms),
        ]);
        weights::write(&path, &tensors, about)?;
        Ok(path)
    }

    /// Puts a checkpoint into place. Returns the fits to do, and the batch to begin with.
    pub(in crate::learner) fn read_checkpoint(
        &mut self,
        path: &Path,
    ) -> Result<(Vec<Stage>, usize)> {
        self.wait_for_files()?;
        let broken = |why: String| Error::Checkpoint { path: path.to_owned(), why };
        let (tensors, about) = weights::read(path)?;
        let Some(saved) = about.get("training") else {
            return Err(broken("has weights, but no training to go on with: use `load`".into()));
        };
        let saved = serde_json::from_str(saved).map(inexact).and_then(serde_json::from_value);
        let saved: Saved = saved.map_err(|e| broken(format!("its description: {e}")))?;
        if saved.seed != self.seed.0 {
            let (then, now) = (saved.seed, self.seed.0);
            return Err(broken(format!("was written with the seed {then}, not {now}")));
        }
        let below = |prefix: &str| {
            let of = |(n, t): &(String, Tensor)| {
                Some((n.strip_prefix(prefix)?.strip_prefix('.')?.to_owned(), t.shallow_clone()))
            };
            tensors.iter().filter_map(of).collect::<Vec<_>>()
        };
        let mut history = History {
            names: saved.names,
            rows: saved.rows,
            iters: saved.iters,
            messages: saved.messages,
            smooth: saved.smooth,
            ..History::default()
        };
        let recorded = below("history");
        let list = |name: &str| {
            let found = recorded.iter().find(|(n, _)| n == name).map(|(_, t)| t);
            found.ok_or_else(|| broken(format!("has no `{name}`")))
        };
        for (name, to) in LISTS.iter().zip(lists(&mut history)) {
            *to = Vec::try_from(&list(name)?.to_kind(Kind::Double).view([-1]))?;
        }
        history.hypers = hypers_of(list("hypers")?)?;
        weights::install(self, &below("model"), Some(&below("opt")))
            .map_err(|e| broken(e.to_string()))?;
        self.opt.set_hypers(&saved.hypers);
        for p in self.model.params() {
            let _ = p.tensor.set_requires_grad(saved.learn.contains(&p.name));
        }
        (self.history, self.notes, self.at) = (history, saved.notes, saved.at);
        Ok((saved.plan, saved.at.batch + 1))
    }
}
