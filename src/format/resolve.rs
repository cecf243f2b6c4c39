//! Evaluates the recorded calls of a pickle: tensors over storages, numbers, texts.

use super::{
    Why,
    globals::Global,
    storage::Dtype,
    unpickle::{Item, Node, Pickle, items},
    value::Value,
};
use std::{collections::HashMap, rc::Rc};
use tch::Tensor;

/// The maximum nesting depth: deeper than any checkpoint, and small enough for the stack of any thread.
const MAX_DEPTH: usize = 64;
/// The maximum number of values in a file. A shared value is counted at each occurrence; texts are counted
/// by length.
const MAX_VALUES: usize = 4_000_000;
const MAX_TENSORS: usize = 250_000;
const MAX_DIMS: usize = 64;
/// The maximum ratio of the content's size to the file's size, and the size that is always allowed.
const MAX_GROWTH: usize = 8;
const ALLOWED: usize = 64 << 20;

/// A source of storage bytes.
pub(super) trait Storages {
    /// Returns the `length` bytes of storage `key`.
    fn bytes(&mut self, key: &str, length: usize) -> Result<Vec<u8>, Why>;
}

/// Returns the value of `pickle`, whose storages come from a file of `size` bytes.
pub(super) fn resolve(
    pickle: &Pickle,
    storages: &mut dyn Storages,
    size: usize,
) -> Result<Value, Why> {
    let mut resolver = Resolver {
        nodes: &pickle.nodes,
        storages,
        flat: HashMap::new(),
        tensors: HashMap::new(),
        values: MAX_VALUES,
        bytes: size.saturating_mul(MAX_GROWTH).saturating_add(ALLOWED),
    };
    resolver.value(&pickle.root, 0)
}

struct Resolver<'a> {
    nodes: &'a [Node],
    storages: &'a mut dyn Storages,
    /// The storages read so far, flat, with the bytes of each.
    flat: HashMap<(Rc<str>, &'static str), (Tensor, usize)>,
    tensors: HashMap<usize, Tensor>,
    /// The remaining budget of values and bytes.
    values: usize,
    bytes: usize,
}

/// A storage reference in a pickle: `("storage", type, key, device, elements)`.
struct StorageRef {
    dtype: Option<Dtype>,
    key: Rc<str>,
    elements: i64,
    /// The first element and the number of elements of a view in the old format.
    view: Option<(i64, i64)>,
}

impl<'a> Resolver<'a> {
    fn value(&mut self, item: &Item, depth: usize) -> Result<Value, Why> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} deep, or contains itself"));
        }
        self.count(1)?;
        Ok(match item {
            Item::None => Value::None,
            Item::Bool(b) => Value::Bool(*b),
            Item::Int(i) => Value::Int(*i),
            Item::BigInt(bytes) => {
                return Err(format!("it contains an integer of {} bytes", bytes.len()));
            }
            Item::Float(f) => Value::Float(*f),
            Item::Str(s) => {
                self.count(s.len() / 32)?;
                Value::Str(s.to_string())
            }
            Item::Bytes(b) => {
                self.count(b.len() / 32)?;
                Value::Bytes(b.to_vec())
            }
            Item::Global(Global::Dtype(dtype)) => Value::Str(format!("torch.{}", dtype.name())),
            Item::Global(other) => {
                return Err(format!("it contains {} where a value is expected", other.name()));
            }
            Item::Node(i) => self.object(*i, depth)?,
        })
    }

    fn count(&mut self, n: usize) -> Result<(), Why> {
        self.values = self
            .values
            .checked_sub(n)
            .ok_or_else(|| format!("it contains more than {MAX_VALUES} values"))?;
        Ok(())
    }

    fn list(&mut self, items: &[Item], depth: usize) -> Result<Value, Why> {
        let values = items.iter().map(|i| self.value(i, depth + 1));
        Ok(Value::List(values.collect::<Result<_, _>>()?))
    }

    fn object(&mut self, i: usize, depth: usize) -> Result<Value, Why> {
        let nodes = self.nodes;
        match &nodes[i] {
            Node::Tuple(items) | Node::List(items) => self.list(items, depth),
            Node::Dict(entries) => {
                let pairs = entries
                    .iter()
                    .map(|(k, v)| Ok((self.value(k, depth + 1)?, self.value(v, depth + 1)?)));
                Ok(Value::Dict(pairs.collect::<Result<_, Why>>()?))
            }
            Node::Persistent(_) => Err("it contains a bare storage".into()),
            Node::Made { by, args, state } => {
                let args = items(nodes, args).unwrap_or_default();
                self.made(i, *by, args, state.as_ref(), depth)
            }
        }
    }

    fn made(
        &mut self,
        i: usize,
        by: Global,
        args: &[Item],
        state: Option<&Item>,
        depth: usize,
    ) -> Result<Value, Why> {
        match (by, args, state) {
            (Global::Tensor | Global::TensorV3, _, None) => {
                if let Some(made) = self.tensors.get(&i) {
                    return Ok(Value::Tensor(made.shallow_clone()));
                }
                if self.tensors.len() == MAX_TENSORS {
                    return Err(format!("it contains more than {MAX_TENSORS} tensors"));
                }
                let tensor = self.tensor(by, args)?;
                self.tensors.insert(i, tensor.shallow_clone());
                Ok(Value::Tensor(tensor))
            }
            (Global::Parameter, [data, ..], None) => self.value(data, depth + 1),
            (Global::Size, [sizes], None) => self.value(sizes, depth + 1),
            (Global::Device, [Item::Str(kind), ..], None) => {
                self.count(kind.len() / 32)?;
                Ok(Value::Str(kind.to_string()))
            }
            (Global::L, [], Some(state)) => {
                let list = self.entry(state, "items").ok_or("it contains a list without items")?;
                self.value(&list, depth + 1)
            }
            (Global::L, [], None) => Ok(Value::List(vec![])),
            (Global::L, [list, ..], None) => self.value(list, depth + 1),
            (Global::Encode, [Item::Str(text), Item::Str(_)], None) => {
                self.count(text.len() / 32)?;
                Ok(Value::Bytes(latin1(text)?))
            }
            (Global::NumpyScalar, [dtype, data], None) => self.number(dtype, data),
            _ => Err(format!("it builds {} from invalid arguments", by.name())),
        }
    }

    /// Returns the entry of a dictionary with a text key.
    fn entry(&self, dict: &Item, key: &str) -> Option<Item> {
        let Item::Node(i) = dict else { return None };
        let Node::Dict(entries) = &self.nodes[*i] else { return None };
        let few = entries[..entries.len().min(16)].iter(); // no such dictionary has more
        let named = few.rev().find(|(k, _)| matches!(k, Item::Str(k) if &**k == key));
        named.map(|(_, v)| v.clone())
    }

    /// Evaluates `numpy.core.multiarray.scalar(dtype("f8"), bytes)`.
    fn number(&self, dtype: &Item, data: &Item) -> Result<Value, Why> {
        let Item::Node(i) = dtype else { return Err("it has a number without a type".into()) };
        let Node::Made { by: Global::NumpyDtype, args, state } = &self.nodes[*i] else {
            return Err("it has a number without a type".into());
        };
        let state = state.as_ref().and_then(|s| items(self.nodes, s)).unwrap_or_default();
        let big_endian = matches!(state.get(1), Some(Item::Str(order)) if &**order == ">");
        let code = match items(self.nodes, args) {
            Some([Item::Str(code), ..]) => code.clone(),
            _ => return Err("it has a number of an unknown type".into()),
        };
        let bytes = match data {
            Item::Bytes(bytes) => bytes.to_vec(),
            Item::Str(text) => latin1(text)?,
            Item::Node(i) => match &self.nodes[*i] {
                Node::Made { by: Global::Encode, args, .. } => match items(self.nodes, args) {
                    Some([Item::Str(text), Item::Str(_)]) if text.len() <= 32 => latin1(text)?,
                    _ => return Err("it has a number without its bytes".into()),
                },
                _ => return Err("it has a number without its bytes".into()),
            },
            _ => return Err("it has a number without its bytes".into()),
        };
        if big_endian {
            return Err("it was written by a big-endian machine".into());
        }
        numpy_number(&code, &bytes)
            .ok_or_else(|| format!("it has a numpy scalar of type `{code:.16}`"))
    }

    /// Evaluates `_rebuild_tensor_v2(storage, offset, size, stride, …)`.
    fn tensor(&mut self, by: Global, args: &[Item]) -> Result<Tensor, Why> {
        let [storage, Item::Int(offset), size, stride, rest @ ..] = args else {
            return Err("it builds a tensor from invalid arguments".into());
        };
        // Attributes are the third element of `rest` in the second form, and the fourth in the third form.
        let attributes = rest.get(if by == Global::TensorV3 { 3 } else { 2 });
        for bit in ["conj", "neg"] {
            if attributes.and_then(|a| self.entry(a, bit)).is_some() {
                return Err(format!("it contains a tensor with a lazy `{bit}`: resolve it first"));
            }
        }
        let storage = self.storage(storage)?;
        let dtype = match (by, rest.get(2)) {
            (Global::TensorV3, Some(Item::Global(Global::Dtype(dtype)))) => *dtype,
            (Global::TensorV3, _) => return Err("it builds a tensor without a type".into()),
            _ => storage.dtype.ok_or("it builds a tensor without a type")?,
        };
        let (size, stride) = (self.sizes(size)?, self.sizes(stride)?);
        let flat = self.flat(&storage, dtype)?;
        let (first, held) = storage.view.unwrap_or((0, flat.size()[0]));
        let offset = reach(*offset, &size, &stride, held)
            .and_then(|()| first.checked_add(*offset))
            .filter(|_| first >= 0 && first.checked_add(held).is_some_and(|n| n <= flat.size()[0]))
            .ok_or_else(|| {
                format!("it has a tensor of {size:?} by {stride:?} over a storage of {held}")
            })?;
        let elements = size.iter().try_fold(1_i64, |n, d| n.checked_mul(*d));
        let bytes = elements.and_then(|n| usize::try_from(n).ok()?.checked_mul(dtype.size()));
        let bytes = bytes.ok_or_else(|| format!("it has a tensor of {size:?}"))?;
        // An expanded tensor is larger than its storage once it is copied.
        self.spend(bytes.saturating_sub(flat.numel() * dtype.size()))?;
        flat.f_as_strided(&size, &stride, offset).map_err(|e| format!("libtorch: {e}"))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Why> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(|| {
            format!("it unpacks to more than {MAX_GROWTH} times its size and is rejected as a decompression bomb")
        })?;
        Ok(())
    }

    fn sizes(&self, item: &Item) -> Result<Vec<i64>, Why> {
        let wrong = || "it has a tensor whose sizes are not a short list of integers".to_owned();
        let mut list = items(self.nodes, item);
        if let (None, Item::Node(i)) = (list, item)
            && let Node::Made { by: Global::Size, args, .. } = &self.nodes[*i]
        {
            list = items(self.nodes, args).and_then(|a| items(self.nodes, a.first()?));
        }
        let list = list.filter(|l| l.len() <= MAX_DIMS).ok_or_else(wrong)?;
        let number = |i: &Item| match i {
            Item::Int(n) if *n >= 0 => Ok(*n),
            _ => Err(wrong()),
        };
        list.iter().map(number).collect()
    }

    fn storage(&self, item: &Item) -> Result<StorageRef, Why> {
        let wrong = || "it has a tensor without a storage".to_owned();
        let Item::Node(i) = item else { return Err(wrong()) };
        let Node::Persistent(id) = &self.nodes[*i] else { return Err(wrong()) };
        let id = items(self.nodes, id).unwrap_or_default();
        let [Item::Str(tag), Item::Global(class), key, _device, Item::Int(elements), rest @ ..] =
            id
        else {
            return Err(wrong());
        };
        if &**tag != "storage" {
            return Err(wrong());
        }
        let dtype = match class {
            Global::Storage(dtype) => Some(*dtype),
            Global::UntypedStorage => None,
            _ => return Err(wrong()),
        };
        let key = match key {
            Item::Str(key) if key.len() <= 256 => key.clone(),
            Item::Int(key) => key.to_string().into(),
            _ => return Err(wrong()),
        };
        // In the legacy format, a storage may be a view of another: (its key, offset, elements).
        let view = match rest.first() {
            Some(view @ Item::Node(_)) => match items(self.nodes, view) {
                Some([_, Item::Int(first), Item::Int(n)]) => Some((*first, *n)),
                _ => return Err(wrong()),
            },
            _ => None,
        };
        Ok(StorageRef { dtype, key, elements: *elements, view })
    }

    /// Returns a storage as a flat tensor, read once.
    fn flat(&mut self, storage: &StorageRef, dtype: Dtype) -> Result<Tensor, Why> {
        let unit = if storage.dtype.is_some() { dtype.size() } else { 1 };
        let length = usize::try_from(storage.elements).ok().and_then(|n| n.checked_mul(unit));
        let length = length.filter(|n| n % dtype.size() == 0).ok_or_else(|| {
            format!("storage `{}` has {} elements", storage.key, storage.elements)
        })?;
        let key = (storage.key.clone(), dtype.name());
        if let Some((flat, bytes)) = self.flat.get(&key) {
            if *bytes != length {
                return Err(format!("storage `{}` has two different lengths", storage.key));
            }
            return Ok(flat.shallow_clone());
        }
        self.spend(length)?;
        let bytes = self.storages.bytes(&storage.key, length)?;
        if bytes.len() != length {
            return Err(format!(
                "storage `{}` has {} bytes, but {length} are announced",
                storage.key,
                bytes.len()
            ));
        }
        let flat = dtype.flat(&bytes)?;
        self.flat.insert(key, (flat.shallow_clone(), length));
        Ok(flat)
    }
}

/// Checks that a view stays within `held` elements.
fn reach(offset: i64, size: &[i64], stride: &[i64], held: i64) -> Option<()> {
    if size.len() != stride.len() || offset < 0 || held < 0 {
        return None;
    }
    if size.contains(&0) {
        return (offset <= held).then_some(());
    }
    let last = size
        .iter()
        .zip(stride)
        .try_fold(offset, |at, (n, s)| at.checked_add((n - 1).checked_mul(*s)?))?;
    (last < held).then_some(())
}

/// Returns the bytes represented by a text.
fn latin1(text: &str) -> Result<Vec<u8>, Why> {
    let byte = |c: char| u8::try_from(u32::from(c)).map_err(|_| "it has invalid bytes");
    Ok(text.chars().map(byte).collect::<Result<_, _>>()?)
}

/// Returns a numpy scalar from its type code and little-endian bytes.
fn numpy_number(code: &str, bytes: &[u8]) -> Option<Value> {
    let float = |x: f64| Some(Value::Float(x));
    let int = |x: i64| Some(Value::Int(x));
    match code {
        "f8" => float(f64::from_le_bytes(bytes.try_into().ok()?)),
        "f4" => float(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        "i8" => int(i64::from_le_bytes(bytes.try_into().ok()?)),
        "i4" => int(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        "i2" => int(i16::from_le_bytes(bytes.try_into().ok()?).into()),
        "i1" => int(i8::from_le_bytes(bytes.try_into().ok()?).into()),
        "u8" => int(i64::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()?),
        "u4" => int(u32::from_le_bytes(bytes.try_into().ok()?).into()),
        "u2" => int(u16::from_le_bytes(bytes.try_into().ok()?).into()),
        "u1" => int((*bytes.first()?).into()),
        "b1" => Some(Value::Bool(*bytes.first()? != 0)),
        _ => None,
    }
}
