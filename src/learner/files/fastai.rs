//! Checkpoints in fastai's format, written by its
//! [`Learner.save`](https://docs.fast.ai/learner.html#learner.save) and read by its `load`.

use super::weights;
use crate::{
    error::{Error, Result},
    format::{StateDict, Value, read_pth, state_dict, write_pth},
    learner::Training,
    model::{Param, ParamKind, fastai_name, fastai_unet_name},
    optim::Hyper,
};
use std::{collections::BTreeMap, path::Path};
use tch::Tensor;

/// The hyperparameters and fastai's names for them.
const HYPERS: [(Hyper, &str); 5] = [
    (Hyper::Wd, "wd"),
    (Hyper::SqrMom, "sqr_mom"),
    (Hyper::Lr, "lr"),
    (Hyper::Mom, "mom"),
    (Hyper::Eps, "eps"),
];

/// Writes the model, optionally with the optimizer, in fastai's format.
pub(in crate::learner) fn save(t: &Training, path: &Path, with_opt: bool) -> Result<()> {
    let name = namer(t);
    let weights = t.model.state_dict().into_iter();
    let weights = weights.map(|(n, w)| (text(name(&n)), Value::Tensor(w))).collect();
    let model = Value::Dict(weights);
    if !with_opt {
        return write_pth(path, &model);
    }
    let all = Value::Dict(vec![(text("model"), model), (text("opt"), optimizer(t))]);
    write_pth(path, &all)
}

/// Reads a checkpoint of fastai or [`save`]. On failure, nothing is changed.
pub(in crate::learner) fn load(t: &mut Training, path: &Path, with_opt: bool) -> Result<()> {
    let value = read_pth(path)?;
    let broken = |why: String| Error::checkpoint(path, why);
    let opt = value.get("opt").filter(|_| with_opt && value.get("model").is_some());
    let opt = opt.map(|opt| state_and_hypers(t, opt)).transpose();
    let weights = state_dict(value).map_err(|e| broken(e.to_string()))?;
    let weights = own_names(t, weights);
    // Weights are checked before the optimizer, since their error is more informative.
    t.model.check_state(&weights).map_err(|e| broken(e.to_string()))?;
    let (state, hypers) = opt.map_err(broken)?.unzip();
    weights::install(t, &weights, state.as_ref()).map_err(|e| broken(e.to_string()))?;
    for (hyper, values) in hypers.unwrap_or_default() {
        t.opt.set(hyper, &values)?;
    }
    Ok(())
}

fn text(s: impl Into<String>) -> Value {
    Value::Str(s.into())
}

/// Returns fastai's name of a variable. Body and head are numbered; complete networks and networks of the user
/// keep their names.
fn namer(t: &Training) -> fn(&str) -> String {
    if t.model.is_unet() {
        return fastai_unet_name;
    }
    let has_head = t.model.params().iter().any(|p| p.name.starts_with("head."));
    let parts = has_head && !t.model.is_classifier();
    if parts { fastai_name } else { ToOwned::to_owned }
}

/// Renames tensors from fastai's or this crate's names to this crate's names.
fn own_names(t: &Training, given: StateDict) -> StateDict {
    let name = namer(t);
    let own: BTreeMap<String, String> =
        t.model.state_dict().into_iter().map(|(own, _)| (name(&own), own)).collect();
    given.into_iter().map(|(n, w)| (own.get(&n).cloned().unwrap_or(n), w)).collect()
}

/// Returns the parameters in the order of fastai's numbers: group by group.
fn ordered(t: &Training) -> Vec<&Param> {
    let mut params: Vec<&Param> = t.model.params().iter().collect();
    params.sort_by_key(|p| p.group);
    params
}

/// The names of lookahead's state: the step count, and a tensor for each parameter.
const COUNT: &str = "lookahead.count";
const SLOW: &str = "slow";

/// Returns the state of fastai's optimizer: a dictionary per parameter, one of hyperparameters per group,
/// and with lookahead the number of steps and the slow weights of each group.
fn optimizer(t: &Training) -> Value {
    let mut kept: BTreeMap<String, Vec<(Value, Value)>> = BTreeMap::new();
    let (mut slow, mut count) = (BTreeMap::new(), None);
    for (name, tensor) in t.opt.state() {
        let (param, field) = name.rsplit_once('.').unwrap_or((&name, ""));
        let number = || f64::try_from(&tensor).unwrap_or_default() as i64;
        if name == COUNT {
            count = Some(number());
        } else if field == SLOW {
            slow.insert(param.to_owned(), tensor.shallow_clone());
        } else {
            // In fastai the step count is a number; all other state has the parameter's shape.
            let value = match field {
                "step" => Value::Int(number()),
                _ => Value::Tensor(tensor.shallow_clone()),
            };
            kept.entry(param.to_owned()).or_default().push((text(field), value));
        }
    }
    let params = ordered(t);
    let state = params.iter().map(|p| {
        let mut entries = vec![];
        if p.kind != ParamKind::Weight && !t.opt.decays_bn_bias() {
            entries.push((text("do_wd"), Value::Bool(false)));
        }
        if p.kind == ParamKind::Norm {
            entries.push((text("force_train"), Value::Bool(true)));
        }
        entries.extend(kept.remove(&p.name).unwrap_or_default());
        Value::Dict(entries)
    });
    let state = Value::List(state.collect());
    let hypers = t.opt.hypers().iter().map(|h| {
        let values = [h.wd, h.sqr_mom, h.lr, h.mom, h.eps];
        let named = HYPERS.iter().zip(values).map(|((_, n), v)| (text(*n), Value::Float(v)));
        Value::Dict(named.collect())
    });
    let mut all = vec![(text("state"), state), (text("hypers"), Value::List(hypers.collect()))];
    if let Some(count) = count {
        let mut of = |group| {
            let own = params.iter().filter(|p| p.group == group);
            Value::List(own.filter_map(|p| slow.remove(&p.name)).map(Value::Tensor).collect())
        };
        let groups = (0..t.model.groups()).map(&mut of).collect();
        all.extend([
            (text("count"), Value::Int(count)),
            (text("slow_weights"), Value::List(groups)),
        ]);
    }
    Value::Dict(all)
}

type Hypers = Vec<(Hyper, Vec<f64>)>;

/// Returns the state of fastai's optimizer under this crate's names, and its hyperparameters.
fn state_and_hypers(t: &Training, opt: &Value) -> Result<(StateDict, Hypers), String> {
    let state = opt.get("state").and_then(Value::as_list).ok_or("its optimizer has no state")?;
    let params = ordered(t);
    if state.len() != params.len() {
        return Err(format!(
            "its optimizer has {} parameters, this model has {}",
            state.len(),
            params.len()
        ));
    }
    let mut all = vec![];
    for (param, entries) in params.iter().zip(state) {
        let entries = entries.as_dict().ok_or("its optimizer state is not a dictionary")?;
        for (field, value) in entries {
            let Value::Str(field) = field else { continue };
            let tensor = match value {
                Value::Tensor(kept) => kept.shallow_clone(),
                Value::Int(n) => Tensor::from(*n as f64),
                Value::Float(x) => Tensor::from(*x),
                // This crate derives `do_wd` and `force_train` from the kind of a parameter.
                _ => continue,
            };
            all.push((format!("{}.{field}", param.name), tensor));
        }
    }
    if let Some(slow) = opt.get("slow_weights").and_then(Value::as_list) {
        let slow = slow.iter().flat_map(|group| group.as_list().unwrap_or_default());
        for (param, slow) in params.iter().zip(slow) {
            if let Value::Tensor(slow) = slow {
                all.push((format!("{}.{SLOW}", param.name), slow.shallow_clone()));
            }
        }
        let count = opt.get("count").and_then(Value::as_f64);
        all.push((COUNT.to_owned(), Tensor::from(count.unwrap_or_default())));
    }
    let groups = opt.get("hypers").and_then(Value::as_list).ok_or("its optimizer has no hypers")?;
    if groups.len() != t.model.groups() {
        let (theirs, ours) = (groups.len(), t.model.groups());
        return Err(format!("its optimizer has {theirs} groups, this model has {ours}"));
    }
    let mut hypers = vec![];
    for (hyper, name) in HYPERS {
        let values: Option<Vec<f64>> =
            groups.iter().map(|g| g.get(name).and_then(Value::as_f64)).collect();
        if let Some(values) = values {
            let checked = values.iter().try_for_each(|value| hyper.check(name, *value));
            checked.map_err(|e| format!("a hyperparameter of its optimizer is invalid: {e}"))?;
            hypers.push((hyper, values));
        }
    }
    Ok((all, hypers))
}
