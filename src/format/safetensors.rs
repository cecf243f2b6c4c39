//! Safetensors: a JSON header followed by the bytes of tensors.
//!
//! The format: <https://huggingface.co/docs/safetensors>.

use super::StateDict;
use crate::{
    disk::replace,
    error::{Error, Result},
    sys::Mapped,
};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::json;
use std::{collections::BTreeMap, io::Write as _, path::Path};
use tch::{Device, Kind, Tensor};

/// The metadata of the header.
pub type Metadata = BTreeMap<String, String>;

/// The metadata entry with a checksum of the other entries and the tensors.
const CHECKSUM: &str = "crc32";

/// The maximum size of the header in bytes.
const MAX_METADATA: usize = 16 << 20;

/// Reads the named tensors of a safetensors file, sorted by name, and its metadata.
///
/// The file is mapped into memory while it is read. It must not be truncated or overwritten meanwhile: the
/// operating system kills a program that reads beyond the end of a mapped file. Programs that replace a
/// file by a new one, as this crate does, are safe.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Checkpoint`] if it is damaged, or has tensors of a
/// type that libtorch does not support. Files written by this crate contain a checksum, which is verified.
pub fn read_safetensors(path: impl AsRef<Path>) -> Result<(StateDict, Metadata)> {
    let path = path.as_ref();
    read(&Mapped::open(path)?).map_err(|why| Error::checkpoint(path, why))
}

/// As [`read_safetensors`], from memory; `name` replaces the file in errors.
///
/// # Errors
/// As [`read_safetensors`].
pub fn read_safetensors_bytes(bytes: &[u8], name: &str) -> Result<(StateDict, Metadata)> {
    read(bytes).map_err(|why| Error::checkpoint(name, why))
}

fn read(bytes: &[u8]) -> Result<(StateDict, Metadata), String> {
    let no = |e: safetensors::SafeTensorError| format!("is not a safetensors file: {e}");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(no)?;
    let mut about: Metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let length: usize = about.iter().map(|(k, v)| k.len() + v.len()).sum();
    if length > MAX_METADATA {
        return Err(format!("has {length} bytes of metadata; at most {MAX_METADATA} are allowed"));
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(no)?;
    let mut views: Vec<_> = tensors.iter().collect();
    views.sort_by_key(|(name, _)| *name);
    let given = about.remove(CHECKSUM);
    if given.is_none() && about.contains_key("finetune") {
        return Err("is damaged: its checksum is missing".into());
    }
    if let Some(given) = given {
        let parts = views.iter().map(|(name, v)| (*name, v.dtype(), v.shape(), v.data()));
        if given != checksum(&about, parts) {
            return Err("is damaged: its checksum does not match".into());
        }
    }
    let mut all = Vec::with_capacity(views.len());
    for (name, view) in views {
        let shape = view.shape().iter().map(|n| i64::try_from(*n).map_err(|_| "has invalid sizes"));
        let shape = shape.collect::<Result<Vec<_>, _>>()?;
        let kind =
            kind(view.dtype()).ok_or_else(|| format!("`{name}` has the type {}", view.dtype()))?;
        let elements = shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d as usize));
        let length = elements.and_then(|n| n.checked_mul(kind.elt_size_in_bytes()));
        if length != Some(view.data().len()) {
            return Err(format!(
                "`{name}` has the shape {shape:?}, but {} bytes",
                view.data().len()
            ));
        }
        let tensor = match kind {
            Kind::Bool => {
                let clean: Vec<u8> = view.data().iter().map(|b| u8::from(*b != 0)).collect();
                Tensor::f_from_data_size(&clean, &shape, kind)
            }
            _ => Tensor::f_from_data_size(view.data(), &shape, kind),
        };
        all.push((name.to_owned(), tensor.map_err(|e| format!("libtorch: {e}"))?));
    }
    Ok((all, about))
}

const KINDS: [(Dtype, Kind); 11] = [
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::I16, Kind::Int16),
    (Dtype::I8, Kind::Int8),
    (Dtype::U8, Kind::Uint8),
    (Dtype::BOOL, Kind::Bool),
    (Dtype::C64, Kind::ComplexFloat),
];

fn kind(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(d, _)| *d == dtype).map(|(_, kind)| *kind)
}

/// Computes the CRC-32 of the metadata and of the tensors in the order of their names.
fn checksum<'a>(
    about: &Metadata,
    tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize], &'a [u8])>,
) -> String {
    let mut crc = crc32fast::Hasher::new();
    for (key, value) in about {
        crc.update(format!("{}:{key}{}:{value}", key.len(), value.len()).as_bytes());
    }
    for (name, dtype, shape, data) in tensors {
        crc.update(format!("{}:{name}{dtype}{shape:?}", name.len()).as_bytes());
        crc.update(data);
    }
    format!("{:08x}", crc.finalize())
}

/// Writes named tensors and metadata. An existing file is replaced atomically. If `about` is `None`, no
/// checksum is written either: plain tensors for other programs.
///
/// # Errors
/// [`Error::Io`] naming the file; [`Error::Unsupported`] for tensors of a type that the format does not support,
/// or for two tensors with the same name.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    tensors: &[(String, Tensor)],
    about: Option<Metadata>,
) -> Result<()> {
    let mut parts = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let kind = tensor.f_kind()?;
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
        let found = KINDS.iter().find(|(_, own)| *own == kind);
        let (dtype, _) = found.ok_or_else(|| {
            Error::unsupported("write_safetensors", format!("`{name}` has the type {kind:?}"))
        })?;
        let mut bytes = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        let shape: Vec<usize> = tensor.size().iter().map(|n| *n as usize).collect();
        parts.push((name.as_str(), *dtype, shape, bytes));
    }
    parts.sort_by_key(|(name, ..)| *name);
    if let Some(twice) = parts.windows(2).find(|w| w[0].0 == w[1].0) {
        let why = format!("`{}` occurs twice", twice[0].0);
        return Err(Error::unsupported("write_safetensors", why));
    }
    let about = about.map(|mut about| {
        let all = parts.iter().map(|(n, d, shape, bytes)| (*n, *d, &**shape, &**bytes));
        about.insert(CHECKSUM.into(), checksum(&about, all));
        about
    });
    // Larger elements first, so that all are aligned.
    parts.sort_by_key(|(_, dtype, ..)| std::cmp::Reverse(dtype.bitsize()));
    let mut header = serde_json::Map::new();
    if let Some(about) = about {
        header.insert("__metadata__".into(), serde_json::to_value(about).map_err(Error::other)?);
    }
    let mut at = 0;
    for (name, dtype, shape, bytes) in &parts {
        let offsets = [at, at + bytes.len()];
        at += bytes.len();
        let entry = json!({"dtype": dtype.to_string(), "shape": shape, "data_offsets": offsets});
        header.insert((*name).to_owned(), entry);
    }
    let mut header = serde_json::to_vec(&header).map_err(Error::other)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    replace(path.as_ref(), |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        parts.iter().try_for_each(|(.., bytes)| out.write_all(bytes))
    })
}
