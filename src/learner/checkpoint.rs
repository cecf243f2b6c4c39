//! Weights and optimizer state on disk, so that a fit goes on as if it had never stopped.

use super::Training;
use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};
use tch::{Kind, Tensor};

/// The version of the files that this crate writes, in their metadata.
pub(super) const VERSION: &str = "1";

pub(super) fn save(t: &Training, folder: &Path, name: &str) -> Result<PathBuf> {
    let (weights, opt) = paths(folder, name)?;
    write(&weights, &t.model.state_dict(), metadata(&[("kind", "weights")]))?;
    let (pass, step) = (t.at.pass.to_string(), t.at.step.to_string());
    let position = [("kind", "optimizer"), ("pass", &*pass), ("step", &*step)];
    write(&opt, &t.opt.state(), metadata(&position))?;
    Ok(weights)
}

pub(super) fn load(t: &mut Training, folder: &Path, name: &str) -> Result<()> {
    let (weights, opt) = paths(folder, name)?;
    let (state, _) = read(&weights)?;
    let optimizer = if opt.exists() { Some(read(&opt)?) } else { None };
    let position = optimizer.as_ref().map(|(_, about)| position(&opt, about)).transpose()?;
    let named = |path: &Path| {
        let path = path.to_owned();
        move |e: Error| Error::Checkpoint { path, why: e.to_string() }
    };
    // The optimizer first: if its state does not fit, the weights are still untouched.
    let before = t.opt.state();
    if let Some((state, _)) = &optimizer {
        t.opt.load_state(state).map_err(named(&opt))?;
    }
    if let Err(e) = t.model.load_state_dict(&state) {
        t.opt.load_state(&before)?;
        return Err(named(&weights)(e));
    }
    if let Some((pass, step)) = position {
        (t.at.pass, t.at.step) = (pass, step);
    }
    Ok(())
}

fn paths(folder: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
    if name.is_empty() || Path::new(name).is_absolute() || name.contains("..") {
        let why = format!("`{name}` is no file name below {}", folder.display());
        return Err(Error::config("name", why));
    }
    let file = |ending: &str| folder.join(format!("{name}{ending}"));
    Ok((file(".safetensors"), file(".opt.safetensors")))
}

fn position(path: &Path, about: &HashMap<String, String>) -> Result<(u64, u64)> {
    let number = |key: &str| {
        about.get(key).and_then(|v| v.parse().ok()).ok_or_else(|| Error::Checkpoint {
            path: path.to_owned(),
            why: format!("its metadata has no number `{key}`: it was not written by `save`"),
        })
    };
    Ok((number("pass")?, number("step")?))
}

pub(super) fn metadata(entries: &[(&str, &str)]) -> HashMap<String, String> {
    let version = [("finetune", VERSION), ("format", "pt")];
    entries.iter().chain(&version).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Writes named tensors as safetensors, sorted by name, beside `path` first and then renamed.
pub(super) fn write(
    path: &Path,
    tensors: &[(String, Tensor)],
    about: HashMap<String, String>,
) -> Result<()> {
    let mut parts = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let (dtype, bytes) = bytes(tensor)?;
        parts.push((name, tensor.size().iter().map(|n| *n as usize).collect(), dtype, bytes));
    }
    let views = parts
        .iter()
        .map(|(name, shape, dtype, bytes): &(_, Vec<usize>, _, Vec<u8>)| {
            Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(Error::other)?;
    let file = safetensors::serialize(views, Some(about)).map_err(Error::other)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut part = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(path))?;
    part.write_all(&file).map_err(Error::io(path))?;
    part.as_file().sync_all().map_err(Error::io(path))?;
    part.persist(path).map_err(|e| Error::io(path)(e.error))?;
    Ok(())
}

/// The bytes of a tensor, and their type: integers as they are, floats in 32 bits.
fn bytes(tensor: &Tensor) -> Result<(Dtype, Vec<u8>)> {
    let tensor = tensor.detach().to_device(tch::Device::Cpu).contiguous().view([-1]);
    Ok(match tensor.kind() {
        Kind::Int64 => {
            let all: Vec<i64> = Vec::try_from(&tensor)?;
            (Dtype::I64, all.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        Kind::Double => {
            let all: Vec<f64> = Vec::try_from(&tensor)?;
            (Dtype::F64, all.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        _ => {
            let all: Vec<f32> = Vec::try_from(&tensor.to_kind(Kind::Float))?;
            (Dtype::F32, all.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
    })
}

/// The named tensors of a safetensors file, and its metadata.
#[expect(clippy::type_complexity, reason = "a pair that its two callers take apart at once")]
pub(super) fn read(path: &Path) -> Result<(Vec<(String, Tensor)>, HashMap<String, String>)> {
    let file = fs::read(path).map_err(Error::io(path))?;
    let broken = |why: String| Error::Checkpoint { path: path.to_owned(), why };
    let no = |e: safetensors::SafeTensorError| broken(format!("is no safetensors file: {e}"));
    let (_, header) = SafeTensors::read_metadata(&file).map_err(no)?;
    let about = header.metadata().clone().unwrap_or_default();
    let tensors = SafeTensors::deserialize(&file).map_err(no)?;
    let mut all = Vec::with_capacity(tensors.len());
    for (name, view) in tensors.iter() {
        let shape: Vec<i64> = view.shape().iter().map(|n| *n as i64).collect();
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::I64 => Kind::Int64,
            other => return Err(broken(format!("`{name}` is of type {other:?}"))),
        };
        all.push((name.to_owned(), Tensor::f_from_data_size(view.data(), &shape, kind)?));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((all, about))
}
