//! Files of `torch.save`: a zip of a pickle and storages, or, before PyTorch 1.6, a sequence of pickles
//! followed by the storages.
//!
//! The formats: [PyTorch's notes on serialization](https://pytorch.org/docs/stable/notes/serialization.html)
//! and `torch/serialization.py`.

use super::{
    StateDict, Why,
    pickle::pickle,
    resolve::{Storages, resolve},
    unpickle::{Item, Node, Pickle, items, unpickle},
    value::Value,
};
use crate::{
    disk::replace,
    error::{Error, Result},
    sys::Mapped,
};
use std::{
    collections::HashMap,
    io::{self, Cursor, Read as _, Write as _},
    path::Path,
};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

/// The maximum size of a pickle in bytes, without the tensors.
const MAX_PICKLE: u64 = 64 << 20;

/// The magic number at the start of the old format, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Reads a file of `torch.save`, in either of its formats, without running any of its code.
///
/// Supported content: tensors of every type and layout, dictionaries, lists, numbers and texts.
/// Memory is bounded by a small multiple of the file's size.
///
/// The file is mapped into memory while it is read. It must not be truncated or overwritten meanwhile: the
/// operating system kills a program that reads beyond the end of a mapped file. Programs that replace a
/// file by a new one, as this crate does, are safe.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Checkpoint`] if it is damaged, was written by a
/// big-endian machine, or contains unsupported content, which is named.
///
/// ```no_run
/// use finetune::format::{read_pth, state_dict};
///
/// for (name, tensor) in state_dict(read_pth("resnet34-b627a593.pth")?)? {
///     println!("{name} {:?}", tensor.size());
/// }
/// # Ok::<(), finetune::Error>(())
/// ```
pub fn read_pth(path: impl AsRef<Path>) -> Result<Value> {
    let path = path.as_ref();
    read(&Mapped::open(path)?).map_err(|why| Error::checkpoint(path, why))
}

/// As [`read_pth`], from memory; `name` replaces the file in errors.
///
/// # Errors
/// As [`read_pth`].
pub fn read_pth_bytes(bytes: &[u8], name: &str) -> Result<Value> {
    read(bytes).map_err(|why| Error::checkpoint(name, why))
}

fn read(bytes: &[u8]) -> Result<Value, Why> {
    match bytes {
        [b'P', b'K', 3, 4, ..] => read_zip(bytes),
        [0x80, ..] => read_legacy(bytes),
        _ if bytes.get(257..262) == Some(b"ustar") => {
            Err("is a tar file of PyTorch before 0.1.10: load and save it with a newer version"
                .into())
        }
        _ => Err("was not written by `torch.save`: it is neither a zip nor a pickle".into()),
    }
}

/// The entries of a training script's file that hold a state dict.
const NESTED: [&str; 3] = ["state_dict", "model", "model_state_dict"];

/// Returns true if a dictionary has tensors, itself or in up to `levels` nested state dicts.
fn has_tensors(value: &Value, levels: usize) -> bool {
    let Value::Dict(entries) = value else { return false };
    entries.iter().any(|(key, value)| match (key, value) {
        (Value::Str(_), Value::Tensor(_)) => true,
        (Value::Str(key), _) if levels > 0 && NESTED.contains(&key.as_str()) => {
            has_tensors(value, levels - 1)
        }
        _ => false,
    })
}

/// Returns the tensors of a state dict: the dictionary in the entry `state_dict`, `model` or
/// `model_state_dict` if it has tensors, otherwise the dictionary itself. The prefix `module.` of parallel
/// training is removed; entries that are not tensors are ignored.
///
/// # Errors
/// [`Error::Mismatch`] if none of these contains tensors.
pub fn state_dict(value: Value) -> Result<StateDict> {
    let mut value = value;
    for levels in (0..3_usize).rev() {
        let Value::Dict(mut entries) = value else { break };
        let is_nested = |(key, inner): &(Value, Value)| {
            let Value::Str(key) = key else { return false };
            levels > 0 && NESTED.contains(&key.as_str()) && has_tensors(inner, levels - 1)
        };
        // A training script may store other tensors next to the weights, such as the best accuracy.
        if let Some(at) = entries.iter().position(is_nested) {
            value = entries.swap_remove(at).1;
            continue;
        }
        let mut all: StateDict = entries
            .into_iter()
            .filter_map(|entry| match entry {
                (Value::Str(name), Value::Tensor(tensor)) => Some((name, tensor)),
                _ => None,
            })
            .collect();
        if all.is_empty() {
            break;
        }
        if all.iter().all(|(name, _)| name.starts_with("module.")) {
            for (name, _) in &mut all {
                name.drain(..7);
            }
        }
        return Ok(all);
    }
    let why = "has no tensors, neither itself nor under `state_dict` or `model`";
    Err(Error::mismatch("state dict", why))
}

/// The storages of a zip, inside the folder that contains all its entries.
struct Zipped<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    folder: String,
}

impl Zipped<'_> {
    fn entry(&mut self, name: &str, most: u64) -> Result<Vec<u8>, Why> {
        let name = format!("{}{name}", self.folder);
        let entry = self.zip.by_name(&name).map_err(|e| format!("`{name}`: {e}"))?;
        if entry.size() > most {
            return Err(format!("`{name}` has {} bytes, but {most} are expected", entry.size()));
        }
        let mut bytes = Vec::with_capacity(entry.size() as usize);
        // Reading an entry to its end also verifies the checksum.
        entry.take(most + 1).read_to_end(&mut bytes).map_err(|e| format!("`{name}`: {e}"))?;
        Ok(bytes)
    }
}

impl Storages for Zipped<'_> {
    fn bytes(&mut self, key: &str, length: usize) -> Result<Vec<u8>, Why> {
        self.entry(&format!("data/{key}"), length as u64)
    }
}

fn read_zip(bytes: &[u8]) -> Result<Value, Why> {
    let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| format!("is a broken zip: {e}"))?;
    let pickles = |name: &&str| name.ends_with("data.pkl") && name.matches('/').count() <= 1;
    let Some(found) = zip.file_names().find(pickles) else {
        return Err("is a zip without `data.pkl`: it was not written by `torch.save`".into());
    };
    let folder = found.trim_end_matches("data.pkl").to_owned();
    if zip.index_for_name(&format!("{folder}constants.pkl")).is_some() {
        return Err(
            "is a TorchScript program, not a state dict: run it with tch's `CModule`".into()
        );
    }
    let order = zip.index_for_name(&format!("{folder}byteorder")).is_some();
    let mut storages = Zipped { zip, folder };
    if order && storages.entry("byteorder", 16)? != b"little" {
        return Err("was written by a big-endian machine".into());
    }
    let data = storages.entry("data.pkl", MAX_PICKLE)?;
    resolve(&unpickle(&data)?, &mut storages, bytes.len())
}

/// The storages after the pickles of the old format: their bytes by key.
struct Appended<'a>(HashMap<String, &'a [u8]>);

impl Storages for Appended<'_> {
    fn bytes(&mut self, key: &str, length: usize) -> Result<Vec<u8>, Why> {
        let bytes = self.0.get(key).ok_or_else(|| format!("storage `{key}` is missing"))?;
        if bytes.len() != length {
            let n = bytes.len();
            return Err(format!("storage `{key}` has {n} bytes, but {length} are announced"));
        }
        Ok(bytes.to_vec())
    }
}

fn read_legacy(bytes: &[u8]) -> Result<Value, Why> {
    let mut at = 0;
    let mut next = || -> Result<Pickle, Why> {
        let rest = &bytes[at..];
        let pickle = unpickle(&rest[..rest.len().min(MAX_PICKLE as usize)])?;
        at += pickle.length;
        Ok(pickle)
    };
    if !matches!(next()?.root, Item::BigInt(magic) if *magic == MAGIC) {
        return Err("is a pickle, but not one of `torch.save`".into());
    }
    if !matches!(next()?.root, Item::Int(1001)) {
        return Err("has an unknown version of the format before PyTorch 1.6".into());
    }
    let system = resolve(&next()?, &mut Appended(HashMap::new()), 0)?;
    if !matches!(system.get("little_endian"), Some(Value::Bool(true))) {
        return Err("was written by a big-endian machine".into());
    }
    let (object, keys) = (next()?, next()?);
    let storages = appended(&object, &keys, &bytes[at..])?;
    resolve(&object, &mut Appended(storages), bytes.len())
}

/// Returns the bytes of each storage, in the order of their keys.
fn appended<'a>(
    object: &Pickle,
    keys: &Pickle,
    mut rest: &'a [u8],
) -> Result<HashMap<String, &'a [u8]>, Why> {
    let mut units = HashMap::new();
    for node in &object.nodes {
        let Node::Persistent(id) = node else { continue };
        if let Some([_, Item::Global(class), Item::Str(key), ..]) = items(&object.nodes, id) {
            units.insert(key.to_string(), class.unit());
        }
    }
    let mut all = HashMap::new();
    for key in items(&keys.nodes, &keys.root).ok_or("has no list of storages")? {
        let Item::Str(key) = key else { return Err("has a storage without a name".into()) };
        let unit = units.get(&**key).copied().flatten();
        let unit = unit.ok_or_else(|| format!("storage `{key:.64}` has an unknown type"))?;
        let (head, tail) = rest.split_first_chunk::<8>().ok_or("ends before its storages")?;
        let length =
            usize::try_from(i64::from_le_bytes(*head)).ok().and_then(|n| n.checked_mul(unit));
        let length = length.filter(|n| *n <= tail.len());
        let length = length.ok_or_else(|| format!("ends within storage `{key:.64}`"))?;
        let (storage, after) = tail.split_at(length);
        all.insert(key.to_string(), storage);
        rest = after;
    }
    Ok(all)
}

/// Writes a file that `torch.load` reads, also with `weights_only`: PyTorch's zip format. An existing file
/// is replaced atomically.
///
/// # Errors
/// [`Error::Io`] naming the file; [`Error::Unsupported`] for tensors of a type for which PyTorch has no storage
/// class.
pub fn write_pth(path: impl AsRef<Path>, value: &Value) -> Result<()> {
    let path = path.as_ref();
    let (data, storages) = pickle(value)?;
    let stored = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(64);
    replace(path, |file| {
        let mut zip = ZipWriter::new(file);
        let mut entry = |name: &str, bytes: &[u8]| -> io::Result<()> {
            let large = bytes.len() as u64 >= u64::from(u32::MAX);
            zip.start_file(format!("archive/{name}"), stored.large_file(large))?;
            zip.write_all(bytes)
        };
        entry("data.pkl", &data)?;
        entry("byteorder", b"little")?;
        for (i, tensor) in storages.iter().enumerate() {
            let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
            tensor.f_copy_data_u8(&mut bytes, tensor.numel()).map_err(io::Error::other)?;
            entry(&format!("data/{i}"), &bytes)?;
        }
        entry("version", b"3\n")?;
        zip.finish()?;
        Ok(())
    })
}
