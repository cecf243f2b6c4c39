//! Collects the operations and constants of a file.

use super::{
    message::{
        AttributeProto, AttributeType, DataType, DimensionProto, DimensionValue, NodeProto,
        TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    },
    record::Dim,
    unsupported::unsupported,
};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// A tensor of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value {
    pub(super) name: String,
    pub(super) shape: Vec<Dim>,
    /// libtorch's name for the type of the elements.
    pub(super) kind: String,
}

impl Value {
    pub(super) fn rank(&self) -> i64 {
        self.shape.len() as i64
    }

    /// Converts a dimension that may be negative to one counted from the start.
    pub(super) fn axis(&self, dim: i64) -> i64 {
        if dim < 0 { dim + self.rank() } else { dim }
    }

    /// Returns the size of a dimension, which may be negative.
    pub(super) fn side(&self, dim: i64) -> Result<i64> {
        let dim = self.shape.get(self.axis(dim) as usize).copied();
        dim.and_then(Dim::fixed).ok_or_else(|| {
            unsupported(format!(
                "dimension {:?} of `{}` depends on the number of images",
                dim, self.name
            ))
        })
    }
}

/// An argument of an operation that is not a tensor.
#[derive(Debug, Clone)]
pub(super) enum Attribute {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Text(&'static str),
}

impl From<i64> for Attribute {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<f64> for Attribute {
    fn from(value: f64) -> Self {
        Self::Float(value as f32)
    }
}
impl From<Vec<i64>> for Attribute {
    fn from(value: Vec<i64>) -> Self {
        Self::Ints(value)
    }
}
impl From<&'static str> for Attribute {
    fn from(value: &'static str) -> Self {
        Self::Text(value)
    }
}

/// Collects the operations and constants of a file.
#[derive(Debug)]
pub(super) struct Builder {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: BTreeMap<String, TensorProto>,
    /// The name of the input, whose first dimension is the number of images.
    input: String,
    /// The module whose operations are added.
    scope: String,
    /// Names in use, with the number of times that each was requested.
    used: BTreeMap<String, usize>,
    /// The numbers and lists of numbers in the file, by their text.
    shared: BTreeMap<String, String>,
}

impl Builder {
    /// Creates an empty file. `reserved` are the names of its input and outputs.
    pub(super) fn new(input: &str, reserved: &[&str]) -> Self {
        Self {
            nodes: vec![],
            constants: BTreeMap::new(),
            input: input.to_owned(),
            scope: String::new(),
            used: reserved.iter().map(|&name| (name.to_owned(), 1)).collect(),
            shared: BTreeMap::new(),
        }
    }

    /// Sets the module after which the following operations are named, such as `layer1.0.conv1`.
    pub(super) fn enter(&mut self, scope: &str) {
        scope.clone_into(&mut self.scope);
    }

    /// Adds an operation with one result, whose name it returns.
    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) -> String {
        self.nodes(operator, inputs, attributes, 1).swap_remove(0)
    }

    /// Adds an operation with `n` results, whose names it returns.
    pub(super) fn nodes(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
        n: usize,
    ) -> Vec<String> {
        let scope = self.scope.replace('.', "/");
        let base = if scope.is_empty() { operator.into() } else { format!("{scope}/{operator}") };
        let name = self.unused(&format!("/{base}"));
        let output: Vec<String> =
            (0..n).map(|i| self.unused(&format!("{name}_output_{i}"))).collect();
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: output.clone(),
            name,
            op_type: operator.to_owned(),
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
        });
        output
    }

    fn unused(&mut self, name: &str) -> String {
        let asked = self.used.get(name).copied().unwrap_or_default();
        self.used.insert(name.to_owned(), asked + 1);
        if asked == 0 {
            return name.to_owned();
        }
        // The name with a number may be in use too.
        self.unused(&format!("{name}_{asked}"))
    }

    /// Adds a constant under a name, or under another one if that is in use.
    pub(super) fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<String> {
        let name = self.unused(name);
        self.constants.insert(name.clone(), proto(&name, tensor)?);
        Ok(name)
    }

    /// Adds a number. Equal numbers share one constant.
    pub(super) fn number(&mut self, value: f64) -> String {
        let value = value as f32;
        let bytes = value.to_le_bytes().to_vec();
        self.shared(format!("number_{value:?}"), vec![], DataType::Float, bytes)
    }

    /// Adds a list of integers. Equal lists share one constant.
    pub(super) fn integers(&mut self, values: &[i64]) -> String {
        let words: Vec<String> = values.iter().map(ToString::to_string).collect();
        let name = format!("integers_{}", words.join("_"));
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let dims = vec![values.len() as i64];
        self.shared(name, dims, DataType::Int64, bytes)
    }

    /// Adds an integer. Equal integers share one constant.
    pub(super) fn integer(&mut self, value: i64) -> String {
        let bytes = value.to_le_bytes().to_vec();
        self.shared(format!("integer_{value}"), vec![], DataType::Int64, bytes)
    }

    /// Adds a constant that is shared by all calls with the same `text`.
    fn shared(&mut self, text: String, dims: Vec<i64>, kind: DataType, bytes: Vec<u8>) -> String {
        if let Some(name) = self.shared.get(&text) {
            return name.clone();
        }
        let name = self.unused(&text);
        self.constants.insert(name.clone(), raw(&name, dims, kind, bytes));
        self.shared.insert(text, name.clone());
        name
    }

    /// Adds a reshape of `x`. At most one dimension may depend on the number of images.
    pub(super) fn reshape(&mut self, x: &str, shape: &[Dim]) -> Result<String> {
        let dynamic = shape.iter().filter(|dim| dim.fixed().is_none()).count();
        if dynamic > 1 {
            return Err(unsupported("two dimensions of a tensor depend on the number of images"));
        }
        let sides: Vec<i64> = shape.iter().map(|dim| dim.fixed().unwrap_or(-1)).collect();
        let sides = self.integers(&sides);
        Ok(self.node("Reshape", &[x, &sides], &[]))
    }

    /// Adds a slice of `x` from `start` to before `end`, every `step` elements.
    pub(super) fn slice(&mut self, x: &str, axis: i64, start: i64, end: i64, step: i64) -> String {
        let [start, end, axis, step] = [start, end, axis, step].map(|n| self.integers(&[n]));
        self.node("Slice", &[x, &start, &end, &axis, &step], &[])
    }

    /// Adds a list of sizes, for operators that take it as a tensor.
    pub(super) fn sizes(&mut self, shape: &[Dim]) -> String {
        if let Some(fixed) = shape.iter().map(|dim| dim.fixed()).collect::<Option<Vec<_>>>() {
            return self.integers(&fixed);
        }
        let input = self.input.clone();
        let all = self.node("Shape", &[&input], &[]);
        let (start, end) = (self.integers(&[0]), self.integers(&[1]));
        let images = self.node("Slice", &[&all, &start, &end], &[]);
        let mut parts = vec![];
        for dim in shape {
            parts.push(match dim {
                Dim::Fixed(n) => self.integers(&[*n]),
                Dim::Batch(1) => images.clone(),
                Dim::Batch(n) => {
                    let n = self.integers(&[*n]);
                    self.node("Mul", &[&images, &n], &[])
                }
            });
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.node("Concat", &parts, &[("axis", 0.into())])
    }

    /// Renames a value wherever it is used.
    pub(super) fn rename(&mut self, value: &str, name: &str) {
        for node in &mut self.nodes {
            for used in node.input.iter_mut().chain(&mut node.output) {
                if used == value {
                    name.clone_into(used);
                }
            }
        }
    }

    /// Stores weights as 16-bit floats, which operations at the start convert to 32-bit ones. A tensor of less than 1024
    /// elements stays as it is, and so does one with a value that 16 bits cannot hold.
    pub(super) fn halve(&mut self) -> Result<()> {
        const SMALL: usize = 4 * 1024;
        let mut casts = vec![];
        let names: Vec<String> = self.constants.keys().cloned().collect();
        for name in names {
            let stored = self.unused(&format!("{name}.float16"));
            let Some(tensor) = self.constants.get_mut(&name) else { continue };
            if tensor.data_type != DataType::Float as i32 || tensor.raw_data.len() < SMALL {
                continue;
            }
            let floats: Vec<f32> = tensor
                .raw_data
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            let halves = Tensor::f_from_slice(&floats)?.f_to_kind(Kind::Half)?;
            if !bool::try_from(halves.f_isfinite()?.f_all()?)? {
                continue;
            }
            let bits = Vec::<i16>::try_from(&halves.f_view_dtype(Kind::Int16)?)?;
            tensor.raw_data = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
            tensor.data_type = DataType::Float16 as i32;
            tensor.name = stored;
            casts.push(NodeProto {
                input: vec![tensor.name.clone()],
                output: vec![name.clone()],
                name: format!("/{}/Cast", name.replace('.', "/")),
                op_type: "Cast".into(),
                attribute: vec![attribute("to", &i64::from(DataType::Float as i32).into())],
            });
        }
        self.nodes.splice(0..0, casts);
        Ok(())
    }
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let mut all = AttributeProto { name: name.to_owned(), ..Default::default() };
    let kind = match value {
        Attribute::Int(i) => {
            all.i = *i;
            AttributeType::Int
        }
        Attribute::Float(f) => {
            all.f = *f;
            AttributeType::Float
        }
        Attribute::Ints(ints) => {
            all.ints.clone_from(ints);
            AttributeType::Ints
        }
        Attribute::Text(text) => {
            all.s = text.as_bytes().to_vec();
            AttributeType::String
        }
    };
    all.r#type = kind as i32;
    all
}

fn raw(name: &str, dims: Vec<i64>, kind: DataType, raw_data: Vec<u8>) -> TensorProto {
    TensorProto { dims, data_type: kind as i32, name: name.to_owned(), raw_data }
}

/// A tensor in row-major order. Floats of any size are stored with 32 bits.
fn proto(name: &str, tensor: &Tensor) -> Result<TensorProto> {
    let (kind, to) = match tensor.kind() {
        Kind::Int64 => (DataType::Int64, Kind::Int64),
        Kind::Int => (DataType::Int32, Kind::Int),
        Kind::Bool => (DataType::Bool, Kind::Bool),
        Kind::Uint8 => (DataType::Uint8, Kind::Uint8),
        Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double => (DataType::Float, Kind::Float),
        kind => return Err(unsupported(format!("`{name}` has elements of type {kind:?}"))),
    };
    let flat = tensor.f_to_device(Device::Cpu)?.f_to_kind(to)?.f_contiguous()?.f_view([-1])?;
    let bytes = |e: tch::TchError| Error::from(e);
    let raw_data = match kind {
        DataType::Int64 => {
            let all: Vec<i64> = Vec::try_from(&flat).map_err(bytes)?;
            all.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        DataType::Int32 => {
            let all: Vec<i32> = Vec::try_from(&flat).map_err(bytes)?;
            all.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        DataType::Bool | DataType::Uint8 => {
            Vec::<u8>::try_from(&flat.f_to_kind(Kind::Uint8)?).map_err(bytes)?
        }
        _ => {
            let all: Vec<f32> = Vec::try_from(&flat).map_err(bytes)?;
            all.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
    };
    Ok(raw(name, tensor.size(), kind, raw_data))
}

/// Describes an input or output of the file. The number of images is named `batch`.
pub(super) fn described(name: &str, kind: DataType, shape: &[Dim]) -> ValueInfoProto {
    let dim = |dim: &Dim| {
        let value = match dim {
            Dim::Fixed(n) => DimensionValue::DimValue(*n),
            Dim::Batch(1) => DimensionValue::DimParam("batch".into()),
            Dim::Batch(n) => DimensionValue::DimParam(format!("{n}*batch")),
        };
        DimensionProto { value: Some(value) }
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = TensorTypeProto { elem_type: kind as i32, shape: Some(shape) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}
