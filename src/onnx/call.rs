//! One operation of a recording and its arguments, as the conversions use them.

use super::{
    builder::{Builder, Value},
    record::{Dim, Op, Out},
    unsupported::unsupported,
};
use crate::{
    error::{Error, Result},
    sys::Argument,
};
use std::collections::BTreeMap;
use tch::Tensor;

/// A result of an operation: one tensor, or a list of them.
#[derive(Debug, Clone)]
pub(super) enum Held {
    One(Value),
    List(Vec<Value>),
}

/// The origin of a tensor of the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// A parameter or buffer of this name.
    Weight(String),
    /// A constant, or a weight in another order.
    Made(String),
}

/// The state of a conversion.
pub(super) struct State<'a> {
    pub(super) file: Builder,
    weights: &'a BTreeMap<String, Tensor>,
    constants: &'a [Tensor],
    /// The tensors that are in the file.
    placed: BTreeMap<Source, Value>,
    pub(super) values: BTreeMap<u64, Held>,
}

impl<'a> State<'a> {
    pub(super) fn new(
        file: Builder,
        weights: &'a BTreeMap<String, Tensor>,
        constants: &'a [Tensor],
    ) -> Self {
        Self { file, weights, constants, placed: BTreeMap::new(), values: BTreeMap::new() }
    }

    /// Adds a parameter or buffer to the file under its name.
    fn param(&mut self, name: &str) -> Result<Value> {
        let tensor = self.weights.get(name);
        let tensor = tensor.ok_or_else(|| unsupported(format!("`{name}` is not a variable")))?;
        self.place(Source::Weight(name.to_owned()), tensor)
    }

    /// Adds a tensor to the file, unless it is there, and returns it.
    fn place(&mut self, source: Source, tensor: &Tensor) -> Result<Value> {
        let (Source::Weight(name) | Source::Made(name)) = &source;
        if let Some(value) = self.placed.get(&source) {
            return Ok(value.clone());
        }
        let shape = tensor.size().into_iter().map(Dim::Fixed).collect();
        let kind = if tensor.is_floating_point() { "Float" } else { "Long" };
        let placed = self.file.tensor(name, tensor)?;
        let value = Value { name: placed, shape, kind: kind.into() };
        self.placed.insert(source, value.clone());
        Ok(value)
    }
}

/// One operation and its arguments.
pub(super) struct Call<'c, 'a> {
    pub(super) op: &'c Op,
    of: &'c mut State<'a>,
}

impl<'c, 'a> Call<'c, 'a> {
    pub(super) fn new(op: &'c Op, of: &'c mut State<'a>) -> Self {
        Self { op, of }
    }

    pub(super) fn name(&self) -> &str {
        &self.op.name
    }

    pub(super) fn file(&mut self) -> &mut Builder {
        &mut self.of.file
    }

    pub(super) fn arg(&self, i: usize) -> &Argument {
        self.op.args.get(i).unwrap_or(&Argument::None)
    }

    /// Returns the results of the operation.
    pub(super) fn results(&self) -> &[Out] {
        &self.op.out
    }

    /// Returns a tensor argument.
    pub(super) fn tensor(&mut self, i: usize) -> Result<Value> {
        let arg = self.arg(i).clone();
        self.value_of(&arg, i)
    }

    /// Returns a tensor argument that may be absent.
    pub(super) fn maybe_tensor(&mut self, i: usize) -> Result<Option<Value>> {
        match self.arg(i) {
            Argument::None => Ok(None),
            _ => self.tensor(i).map(Some),
        }
    }

    /// Returns an argument that is a list of tensors.
    pub(super) fn tensors(&mut self, i: usize) -> Result<Vec<Value>> {
        match self.arg(i).clone() {
            Argument::List(items) => items.iter().map(|arg| self.value_of(arg, i)).collect(),
            Argument::Value(id) => match self.of.values.get(&id) {
                Some(Held::List(values)) => Ok(values.clone()),
                _ => Err(self.wrong(i, "a list of tensors")),
            },
            _ => Err(self.wrong(i, "a list of tensors")),
        }
    }

    /// Returns a tensor in a list argument.
    pub(super) fn nested_tensor(&mut self, arg: &Argument) -> Result<Value> {
        self.value_of(arg, 0)
    }

    fn value_of(&mut self, arg: &Argument, i: usize) -> Result<Value> {
        match arg {
            Argument::Value(id) => match self.of.values.get(id) {
                Some(Held::One(value)) => Ok(value.clone()),
                _ => Err(self.wrong(i, "a tensor")),
            },
            Argument::Param(name) => self.of.param(name),
            Argument::Constant(k) => {
                let tensor = &self.of.constants[*k];
                self.of.place(Source::Made(format!("constant_{k}")), tensor)
            }
            Argument::Int(n) => Ok(self.number(*n as f64)),
            Argument::Float(n) => Ok(self.number(*n)),
            Argument::Beyond(sign) => Ok(self.number(beyond(*sign))),
            _ => Err(self.wrong(i, "a tensor")),
        }
    }

    fn number(&mut self, n: f64) -> Value {
        Value { name: self.file().number(n), shape: vec![], kind: "Float".into() }
    }

    /// Returns a weight and its name, for operations that store it in another order.
    pub(super) fn weight(&self, i: usize) -> Option<(String, Tensor)> {
        match self.arg(i) {
            Argument::Param(name) => {
                self.of.weights.get(name).map(|t| (name.clone(), t.shallow_clone()))
            }
            _ => None,
        }
    }

    /// Adds a tensor that is not a weight of the network. Calls with equal names must pass equal tensors.
    pub(super) fn place(&mut self, name: &str, tensor: &Tensor) -> Result<Value> {
        self.of.place(Source::Made(name.to_owned()), tensor)
    }

    pub(super) fn int(&self, i: usize) -> Result<i64> {
        match self.arg(i) {
            Argument::Int(n) => Ok(*n),
            Argument::Bool(yes) => Ok(i64::from(*yes)),
            _ => Err(self.wrong(i, "an integer that does not depend on the number of images")),
        }
    }

    pub(super) fn float(&self, i: usize) -> Result<f64> {
        match self.arg(i) {
            Argument::Float(n) => Ok(*n),
            Argument::Int(n) => Ok(*n as f64),
            Argument::Beyond(sign) => Ok(beyond(*sign)),
            _ => Err(self.wrong(i, "a number")),
        }
    }

    /// Returns a number argument, or `default` if it is absent.
    pub(super) fn float_or(&self, i: usize, default: f64) -> Result<f64> {
        match self.arg(i) {
            Argument::None => Ok(default),
            _ => self.float(i),
        }
    }

    pub(super) fn bool(&self, i: usize) -> Result<bool> {
        Ok(self.int(i)? != 0)
    }

    pub(super) fn text(&self, i: usize) -> Option<&str> {
        match self.arg(i) {
            Argument::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns a list of integers; a single integer is a list of one.
    pub(super) fn ints(&self, i: usize) -> Result<Vec<i64>> {
        let wrong = || self.wrong(i, "integers that do not depend on the number of images");
        match self.arg(i) {
            Argument::List(items) => items
                .iter()
                .map(|item| match item {
                    Argument::Int(n) => Ok(*n),
                    _ => Err(wrong()),
                })
                .collect(),
            Argument::Int(n) => Ok(vec![*n]),
            _ => Err(wrong()),
        }
    }

    /// Returns true if an argument is absent.
    pub(super) fn absent(&self, i: usize) -> bool {
        *self.arg(i) == Argument::None
    }

    pub(super) fn wrong(&self, i: usize, wanted: &str) -> Error {
        unsupported(format!("argument {i} is {:?} and not {wanted}", self.arg(i)))
    }
}

fn beyond(sign: i8) -> f64 {
    match sign {
        0 => f64::NAN,
        sign => f64::INFINITY * f64::from(sign),
    }
}
