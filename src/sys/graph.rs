//! Calls into `graph.cpp`: records the operations of libtorch that a function executes.

use super::{message::checked, trace};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::ffi::{CStr, c_char, c_void};
use tch::Tensor;

/// The function that receives the JSON and the constants of a recording.
type Done = extern "C" fn(*mut c_void, *const c_char, *const *mut c_void, usize);

unsafe extern "C" {
    fn finetune_graph(
        names: *const *const c_char,
        tensors: *const *mut c_void,
        parameters: usize,
        n: usize,
        input: *mut c_void,
        forward: extern "C" fn(*mut c_void, *mut c_void) -> *mut c_void,
        context: *mut c_void,
        done: Done,
        result: *mut c_void,
    ) -> *mut c_char;
}

/// Operations in the order in which they were executed.
#[derive(Debug, Deserialize)]
pub(crate) struct TracedGraph {
    pub(crate) nodes: Vec<TracedNode>,
    pub(crate) input: TracedValue,
    pub(crate) outputs: Vec<Argument>,
    /// The tensors that are neither parameters nor buffers, for [`Argument::Constant`].
    #[serde(skip)]
    pub(crate) constants: Vec<Tensor>,
}

/// One operation of libtorch.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct TracedNode {
    /// The name of the operation, such as `aten::relu`.
    pub(crate) op: String,
    /// The arguments in the order of libtorch's schema.
    pub(crate) args: Vec<Argument>,
    pub(crate) out: Vec<TracedValue>,
}

/// A result of an operation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct TracedValue {
    pub(crate) id: u64,
    /// The size of a tensor; `None` for other values, such as lists.
    pub(crate) shape: Option<Vec<i64>>,
    /// libtorch's name of the element type, such as `Float`; `None` for other values.
    pub(crate) kind: Option<String>,
}

/// An argument of an operation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Argument {
    /// No value.
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A float that JSON cannot represent: infinity with this sign, or NaN for 0.
    Beyond(i8),
    Text(String),
    List(Vec<Self>),
    /// A parameter or a buffer, by name.
    Param(String),
    /// A tensor of [`TracedGraph::constants`], by position.
    Constant(usize),
    /// A result of an earlier operation, or the input, by its `id`.
    Value(u64),
}

/// Records the operations of `forward` on `input`. The result refers to `parameters` and `buffers` by name.
pub(crate) fn graph(
    input: &Tensor,
    parameters: &[(String, Tensor)],
    buffers: &[(String, Tensor)],
    mut forward: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<TracedGraph> {
    let variables = trace::Variables::new(parameters, buffers)?;
    let mut recorded = trace::Recorded::new(&mut forward);
    let mut taken = Taken::default();
    // SAFETY: every pointer is that of a live value, there are as many tensors as names, and context and
    // result have the types to which `trace::call` and `take` cast them back.
    let done = checked(unsafe {
        finetune_graph(
            variables.names().as_ptr(),
            variables.tensors().as_ptr(),
            parameters.len(),
            variables.tensors().len(),
            input.as_ptr().cast_mut().cast(),
            trace::call,
            recorded.context(),
            take,
            (&raw mut taken).cast(),
        )
    });
    recorded.or(done)?;
    let mut graph: TracedGraph = serde_json::from_str(&taken.json).map_err(Error::other)?;
    graph.constants = taken.constants;
    Ok(graph)
}

#[derive(Default)]
struct Taken {
    json: String,
    constants: Vec<Tensor>,
}

/// Copies the JSON and takes ownership of the constants.
extern "C" fn take(
    result: *mut c_void,
    json: *const c_char,
    constants: *const *mut c_void,
    n: usize,
) {
    // SAFETY: `graph` passes the address of its `Taken`, which lives until the call returns.
    let taken = unsafe { &mut *result.cast::<Taken>() };
    // SAFETY: the native layer passes zero-terminated text.
    taken.json = unsafe { CStr::from_ptr(json) }.to_string_lossy().into_owned();
    taken.constants = (0..n)
        // SAFETY: there are `n` pointers, each to a new tensor that the caller owns.
        .map(|i| unsafe { Tensor::from_ptr((*constants.add(i)).cast()) })
        .collect();
}
