//! The operations of a network for a batch of any size, from recordings of two batches.

use super::unsupported::unsupported;
use crate::{
    error::Result,
    sys::{Argument, BATCHES, TracedGraph, TracedNode, TracedValue},
};
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

/// The size of a dimension of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dim {
    /// The same size for every batch.
    Fixed(i64),
    /// The number of images times this factor.
    Batch(i64),
}

impl Dim {
    fn new(small: i64, large: i64) -> Result<Self> {
        let [a, b] = BATCHES;
        if small == large {
            Ok(Self::Fixed(small))
        } else if small * b == large * a && small % a == 0 {
            Ok(Self::Batch(small / a))
        } else {
            let why = format!(
                "a size is {small} for {a} images and {large} for {b}; it must be a multiple of the \
                 number of images"
            );
            Err(unsupported(why))
        }
    }

    /// Returns the size, if it does not depend on the batch.
    pub(super) fn fixed(self) -> Option<i64> {
        match self {
            Self::Fixed(n) => Some(n),
            Self::Batch(_) => None,
        }
    }
}

/// The result of an operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Out {
    pub(super) id: u64,
    /// `None` if the result is not a tensor, for example a list.
    pub(super) shape: Option<Vec<Dim>>,
    /// libtorch's name for the type of the elements.
    pub(super) kind: String,
}

impl Out {
    fn new(small: &TracedValue, large: &TracedValue) -> Result<Self> {
        let shape = match (&small.shape, &large.shape) {
            (Some(a), Some(b)) if a.len() == b.len() => {
                Some(a.iter().zip(b).map(|(a, b)| Dim::new(*a, *b)).collect::<Result<_>>()?)
            }
            (None, None) => None,
            _ => return Err(differs()),
        };
        Ok(Self { id: small.id, shape, kind: small.kind.clone().unwrap_or_default() })
    }
}

/// An operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Op {
    /// libtorch's name without the namespace, such as `relu`.
    pub(super) name: String,
    /// Numbers that depend on the number of images are [`Argument::None`]: the sizes of results are
    /// known.
    pub(super) args: Vec<Argument>,
    pub(super) out: Vec<Out>,
}

/// A network as a list of operations.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) ops: Vec<Op>,
    pub(super) input: Out,
    pub(super) output: Out,
    /// The tensors of [`Argument::Constant`].
    pub(super) constants: Vec<Tensor>,
}

impl Recording {
    /// Builds the network from recordings of batches of the two sizes.
    pub(super) fn new(small: TracedGraph, large: &TracedGraph) -> Result<Self> {
        if small.nodes.len() != large.nodes.len() || small.outputs != large.outputs {
            return Err(differs());
        }
        if !equal(&small.constants, &large.constants)? {
            let why = "the network makes tensors that depend on the number of images: let it expand \
                       a tensor for one image instead";
            return Err(unsupported(why));
        }
        let [Argument::Value(output)] = small.outputs[..] else {
            return Err(unsupported("the network does not return one tensor"));
        };
        let input = Out::new(&small.input, &large.input)?;
        let ops = small.nodes.iter().zip(&large.nodes).map(|(a, b)| op(a, b));
        let mut ops: Vec<Op> = ops.collect::<Result<_>>()?;
        in_place(&mut ops, output)?;
        let all = ops.iter().flat_map(|op| &op.out);
        let output = all.rev().find(|out| out.id == output).cloned();
        let output = output.ok_or_else(|| unsupported("the network does nothing"))?;
        Ok(Self { ops, input, output, constants: small.constants })
    }
}

fn differs() -> crate::Error {
    unsupported("the network runs other operations for another number of images")
}

fn op(small: &TracedNode, large: &TracedNode) -> Result<Op> {
    if small.op != large.op
        || small.args.len() != large.args.len()
        || small.out.len() != large.out.len()
    {
        return Err(differs());
    }
    let args = small.args.iter().zip(&large.args).map(|(a, b)| argument(a, b));
    let out = small.out.iter().zip(&large.out).map(|(a, b)| Out::new(a, b));
    Ok(Op {
        name: small.op.strip_prefix("aten::").unwrap_or(&small.op).to_owned(),
        args: args.collect::<Result<_>>()?,
        out: out.collect::<Result<_>>()?,
    })
}

fn argument(small: &Argument, large: &Argument) -> Result<Argument> {
    match (small, large) {
        (Argument::List(a), Argument::List(b)) if a.len() == b.len() => {
            let items = a.iter().zip(b).map(|(a, b)| argument(a, b));
            Ok(Argument::List(items.collect::<Result<_>>()?))
        }
        (Argument::Int(a), Argument::Int(b)) if a != b => Ok(Argument::None),
        (a, b) if a == b => Ok(a.clone()),
        _ => Err(differs()),
    }
}

/// Returns true if two lists have the same tensors.
fn equal(small: &[Tensor], large: &[Tensor]) -> Result<bool> {
    for (a, b) in small.iter().zip(large) {
        if a.kind() != b.kind() || a.size() != b.size() || !a.f_equal(b)? {
            return Ok(false);
        }
    }
    Ok(small.len() == large.len())
}

/// Operations whose result may share the memory of their first argument.
const VIEWS: &[&str] = &[
    "_reshape_alias",
    "alias",
    "alpha_dropout",
    "broadcast_to",
    "chunk",
    "contiguous",
    "detach",
    "dropout",
    "expand",
    "expand_as",
    "feature_dropout",
    "flatten",
    "lift_fresh",
    "mT",
    "movedim",
    "narrow",
    "numpy_T",
    "permute",
    "ravel",
    "reshape",
    "reshape_as",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "swapaxes",
    "t",
    "to",
    "transpose",
    "type_as",
    "unbind",
    "unflatten",
    "unsafe_chunk",
    "unsafe_split",
    "unsqueeze",
    "view",
    "view_as",
];

/// Renames operations in place, such as `relu_`, to those that return a new tensor. ONNX has no others. The two differ
/// only where another view of the changed tensor is used later, which is an error.
fn in_place(ops: &mut [Op], output: u64) -> Result<()> {
    // The last operation that uses each value.
    let mut last: BTreeMap<u64, usize> = BTreeMap::from([(output, ops.len())]);
    for (i, op) in ops.iter().enumerate() {
        let mut used = BTreeSet::new();
        op.args.iter().for_each(|arg| values(arg, &mut used));
        last.extend(used.into_iter().filter(|id| *id != output).map(|id| (id, i)));
    }
    let mut memory = Memory::default();
    for (i, op) in ops.iter_mut().enumerate() {
        let plain = op.name.strip_suffix('_').map(ToOwned::to_owned);
        let first = match op.args.first() {
            Some(Argument::Value(id)) => Some(*id),
            _ => None,
        };
        if plain.is_some() {
            let Some(first) = first else {
                return Err(unsupported(format!("`{}` changes a variable in place", op.name)));
            };
            let later = |id: u64| last.get(&id).is_some_and(|use_of| *use_of > i);
            if memory.overlapping(first).into_iter().any(later) {
                let why = format!(
                    "`{}` changes a tensor in place, and another view of it is used later",
                    op.name
                );
                return Err(unsupported(why));
            }
        }
        let apart = op.name.starts_with("prim::") && op.out.len() > 1;
        let shares = plain.is_some() || apart || VIEWS.contains(&op.name.as_str());
        for out in &op.out {
            match first {
                Some(first) if shares => memory.view(first, out.id, apart),
                _ => {}
            }
        }
        if let Some(plain) = plain {
            op.name = plain;
        }
    }
    Ok(())
}

/// The values that share memory. A value that is not in it has its own memory.
#[derive(Debug, Default)]
struct Memory {
    /// The path of each value from the whole tensor to its part: values overlap if one path starts with the other.
    paths: BTreeMap<u64, Vec<u64>>,
}

impl Memory {
    fn path(&self, value: u64) -> Vec<u64> {
        self.paths.get(&value).cloned().unwrap_or_else(|| vec![value])
    }

    /// Notes that `view` shares the memory of `value`. If `apart`, it is one of several parts that do not overlap.
    fn view(&mut self, value: u64, view: u64, apart: bool) {
        let mut path = self.path(value);
        self.paths.insert(value, path.clone());
        if apart {
            path.push(view);
        }
        self.paths.insert(view, path);
    }

    /// Returns the values that share memory with `value`, including `value`.
    fn overlapping(&self, value: u64) -> Vec<u64> {
        let path = self.path(value);
        let overlaps = |other: &[u64]| path.starts_with(other) || other.starts_with(&path);
        let all = self.paths.iter().filter(|(_, other)| overlaps(other)).map(|(id, _)| *id);
        all.chain([value]).collect()
    }
}

fn values(arg: &Argument, all: &mut BTreeSet<u64>) {
    match arg {
        Argument::Value(id) => {
            all.insert(*id);
        }
        Argument::List(items) => items.iter().for_each(|arg| values(arg, all)),
        _ => {}
    }
}
