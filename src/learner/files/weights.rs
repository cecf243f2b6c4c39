//! Files of weights and optimizer state.

use crate::{
    error::{Error, Result},
    format::{StateDict, read_safetensors, write_safetensors},
    learner::Training,
    sample::Task,
};
use serde_json::Value;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};
use tch::Tensor;

/// The format version in the metadata of files of this crate.
pub(in crate::learner) const VERSION: &str = "1";

/// Writes the weights, and optionally the optimizer's state.
pub(in crate::learner) fn save(
    t: &Training,
    folder: &Path,
    name: &str,
    with_opt: bool,
) -> Result<PathBuf> {
    let (weights, opt) = paths(folder, name)?;
    if !t.is_first_rank() {
        return Ok(weights);
    }
    let task = serde_json::to_string(&t.dls.task()).map_err(Error::other)?;
    let arch = serde_json::to_string(&t.model.spec()).map_err(Error::other)?;
    let tfms = transforms(t).map_err(Error::other)?;
    let (items, batches) = (tfms.item.to_string(), tfms.batch.to_string());
    let about = metadata(&[
        ("kind", "weights"),
        ("task", &task),
        ("arch", &arch),
        ("item_tfms", &items),
        ("batch_tfms", &batches),
    ]);
    write(&weights, &t.model.state_dict(), about)?;
    if with_opt {
        let (pass, step) = (t.at.pass.to_string(), t.at.step.to_string());
        let position = [("kind", "optimizer"), ("pass", &*pass), ("step", &*step)];
        write(&opt, &t.opt.state(), metadata(&position))?;
    }
    Ok(weights)
}

/// Returns the transforms as JSON, including normalization. Closures are left out.
pub(in crate::learner) struct Transforms {
    pub(in crate::learner) item: Value,
    pub(in crate::learner) batch: Value,
}

/// Returns the preprocessing of images, for programs that reimplement it.
pub(in crate::learner) fn transforms(t: &Training) -> serde_json::Result<Transforms> {
    let item: Vec<_> = t.dls.item_tfms().iter().filter_map(|f| f.spec()).collect();
    let batch: Vec<_> = t.dls.batch_tfms().iter().filter_map(|f| f.spec()).collect();
    Ok(Transforms { item: serde_json::to_value(item)?, batch: serde_json::to_value(batch)? })
}

pub(in crate::learner) fn load(
    t: &mut Training,
    folder: &Path,
    name: &str,
    with_opt: bool,
) -> Result<()> {
    let (weights, opt) = paths(folder, name)?;
    let (state, about) = read(&weights)?;
    same_vocab(t, &weights, &about)?;
    let optimizer = if with_opt && opt.exists() { Some(read(&opt)?) } else { None };
    let position = optimizer.as_ref().map(|(_, about)| position(&opt, about)).transpose()?;
    // Weights are checked first: their errors are the most informative, and the check changes nothing.
    let broken = |path: PathBuf| move |e: Error| Error::checkpoint(path, e.to_string());
    t.model.check_state(&state).map_err(broken(weights.clone()))?;
    if let Some((state, _)) = &optimizer {
        t.opt.load_state(state).map_err(broken(opt))?;
    }
    t.model.load_state_dict(&state).map_err(broken(weights))?;
    if let Some((pass, step)) = position {
        (t.at.pass, t.at.step) = (pass, step);
    }
    Ok(())
}

/// Rejects weights for other classes, or for the same classes in another order, whose predictions would get
/// wrong names.
fn same_vocab(t: &Training, path: &Path, about: &HashMap<String, String>) -> Result<()> {
    let task = about.get("task").and_then(|task| serde_json::from_str::<Task>(task).ok());
    let (Some(theirs), ours) = (task, t.dls.task()) else { return Ok(()) };
    if theirs.vocab() == ours.vocab() {
        return Ok(());
    }
    let why = format!(
        "is for the classes {:?}, but the data has {:?}: use the same data, or load only the weights with \
         `read_safetensors` and `Model::load_state_dict`",
        theirs.vocab(),
        ours.vocab()
    );
    Err(Error::checkpoint(path, why))
}

/// Installs weights and optimizer state: both, or neither.
pub(in crate::learner) fn install(
    t: &mut Training,
    weights: &StateDict,
    opt: Option<&StateDict>,
) -> Result<()> {
    // Check names and shapes before changing anything.
    t.model.check_state(weights)?;
    if let Some(state) = opt {
        t.opt.load_state(state)?;
    }
    t.model.load_state_dict(weights)
}

pub(super) fn below(folder: &Path, name: &str) -> Result<PathBuf> {
    if name.is_empty() || Path::new(name).is_absolute() || name.contains("..") {
        let why = format!("`{name}` is not a file name inside {}", folder.display());
        return Err(Error::config("name", why));
    }
    Ok(folder.join(name))
}

fn paths(folder: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
    let file = |ending: &str| below(folder, name).map(|_| folder.join(format!("{name}{ending}")));
    Ok((file(".safetensors")?, file(".opt.safetensors")?))
}

fn position(path: &Path, about: &HashMap<String, String>) -> Result<(u64, u64)> {
    let number = |key: &str| {
        about.get(key).and_then(|v| v.parse().ok()).ok_or_else(|| {
            Error::checkpoint(
                path,
                format!("its metadata lacks the number `{key}`; it was not written by `save`"),
            )
        })
    };
    Ok((number("pass")?, number("step")?))
}

pub(crate) fn metadata(entries: &[(&str, &str)]) -> HashMap<String, String> {
    let version = [("finetune", VERSION), ("format", "pt")];
    entries.iter().chain(&version).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Writes named tensors as safetensors, with a checksum. An existing file is replaced atomically.
pub(crate) fn write(
    path: &Path,
    tensors: &[(String, Tensor)],
    about: HashMap<String, String>,
) -> Result<()> {
    write_safetensors(path, tensors, Some(about.into_iter().collect()))
}

/// Returns the named tensors of a safetensors file, sorted by name, and its metadata.
pub(crate) fn read(path: &Path) -> Result<(StateDict, HashMap<String, String>)> {
    let (tensors, about) = read_safetensors(path)?;
    match about.get("finetune") {
        Some(version) if version != VERSION => {
            let why = format!("has version {version}; this crate reads version {VERSION}");
            Err(Error::checkpoint(path, why))
        }
        _ => Ok((tensors, about.into_iter().collect())),
    }
}
