//! Converts libtorch's operations to those of ONNX, in order.

use super::{
    arithmetic,
    builder::{Builder, Value},
    call::{Call, Held, State},
    layers, pooling,
    record::{Op, Recording},
    shapes,
    unsupported::unsupported,
};
use crate::{
    error::{Error, Result},
    sys::Argument,
};
use std::collections::BTreeMap;
use tch::Tensor;

/// Converts operations.
pub(super) struct Converter<'a> {
    state: State<'a>,
    /// The module that contains the module of the last weights.
    around: String,
}

impl<'a> Converter<'a> {
    /// Adds the operations of `recording` to `file` and returns the output. `input` is the value that the network takes.
    pub(super) fn run(
        file: Builder,
        recording: &'a Recording,
        weights: &'a BTreeMap<String, Tensor>,
        input: &str,
    ) -> Result<(Builder, Value)> {
        let state = State::new(file, weights, &recording.constants);
        let mut all = Converter { state, around: String::new() };
        let shape = recording.input.shape.clone().unwrap_or_default();
        let input = Value { name: input.to_owned(), shape, kind: recording.input.kind.clone() };
        all.state.values.insert(recording.input.id, Held::One(input));
        for op in &recording.ops {
            all.convert(op)?;
        }
        match all.state.values.remove(&recording.output.id) {
            Some(Held::One(value)) => Ok((all.state.file, value)),
            _ => Err(unsupported("the network does not return a tensor")),
        }
    }

    fn convert(&mut self, op: &Op) -> Result<()> {
        match scope(&op.args) {
            Some(scope) => {
                // Operations without weights are named after the module that contains the last weights.
                self.around = scope.rsplit_once('.').map_or("", |(around, _)| around).to_owned();
                self.state.file.enter(scope);
            }
            None => self.state.file.enter(&self.around),
        }
        let held = match op.name.as_str() {
            "prim::ListUnpack" | "prim::TupleUnpack" => return self.unpack(op),
            _ => self.converted(op).map_err(|e| match e {
                Error::Unsupported { why, .. } => {
                    unsupported(format!("`{}` in {}: {why}", op.name, self.place_of(op)))
                }
                e => e,
            })?,
        };
        if let Some(out) = op.out.first() {
            self.state.values.insert(out.id, held);
        }
        Ok(())
    }

    fn converted(&mut self, op: &Op) -> Result<Held> {
        let lists =
            ["chunk", "split", "split_with_sizes", "unsafe_chunk", "unsafe_split", "unbind"];
        let mut call = Call::new(op, &mut self.state);
        if lists.contains(&op.name.as_str()) {
            return Ok(Held::List(shapes::parts(&mut call)?));
        }
        let out = op.out.first().ok_or_else(|| unsupported("it has no result"))?;
        let shape = out.shape.clone().ok_or_else(|| unsupported("its result is not a tensor"))?;
        for room in [layers::convert, pooling::convert, shapes::convert, arithmetic::convert] {
            if let Some(name) = room(&mut call, &shape)? {
                return Ok(Held::One(Value { name, shape, kind: out.kind.clone() }));
            }
        }
        Err(unsupported("there is no ONNX operation for it in this crate"))
    }

    /// Returns the location of an operation for error messages: the module of its weights, or the module
    /// that contains the last weights before it.
    fn place_of(&self, op: &Op) -> String {
        match scope(&op.args).unwrap_or(&self.around) {
            "" => "the outermost module".into(),
            module => format!("the module `{module}`"),
        }
    }

    /// Assigns the elements of a list to the results of the operation.
    fn unpack(&mut self, op: &Op) -> Result<()> {
        let list = match op.args.first() {
            Some(Argument::Value(id)) => self.state.values.get(id).cloned(),
            _ => None,
        };
        match list {
            Some(Held::List(parts)) if parts.len() == op.out.len() => {
                let parts = op.out.iter().zip(parts);
                self.state.values.extend(parts.map(|(out, part)| (out.id, Held::One(part))));
                Ok(())
            }
            _ => Err(unsupported(format!("`{}` of something that is not a list", op.name))),
        }
    }
}

/// Returns the module of the first parameter among the arguments.
fn scope(args: &[Argument]) -> Option<&str> {
    args.iter().find_map(|arg| match arg {
        Argument::Param(name) => Some(name.rsplit_once('.').map_or("", |(scope, _)| scope)),
        _ => None,
    })
}
