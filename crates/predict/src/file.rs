//! Exported ONNX files.

use crate::parts::Parts;
use finetune_image::{
    Error, Result,
    card::{ModelCard, NetworkInput},
    sample::Task,
};
use prost::{Message as _, bytes::Buf};
use std::{collections::HashSet, fs, io::Read as _, path::Path};
use tract_onnx::{
    pb::{
        GraphProto, ModelProto, TensorProto, TypeProto,
        tensor_proto::{DataLocation, DataType},
        tensor_shape_proto::dimension::Value as Side,
        type_proto::Value,
    },
    prelude::DatumType,
};

/// The maximum number of values of an input without the batch, as of an image.
const MAX_INPUT: usize = 1 << 28;

/// A parsed file whose network, input and output were checked.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) proto: ModelProto,
    /// The type of the input.
    pub(crate) kind: DatumType,
    /// The shape of the input without the batch.
    pub(crate) input: Vec<usize>,
}

/// Reads and parses an ONNX file, in parts if it is a regular file.
pub(crate) fn read(path: &Path) -> Result<ModelProto> {
    let mut file = fs::File::open(path).map_err(Error::io(path))?;
    let about = file.metadata().map_err(Error::io(path))?;
    if !about.is_file() {
        let mut bytes = vec![];
        file.read_to_end(&mut bytes).map_err(Error::io(path))?;
        return decode(&bytes[..], path);
    }
    let mut parts = Parts::new(file, about.len());
    let proto = decode(&mut parts, path);
    parts.finish().map_err(Error::io(path))?;
    proto
}

/// Parses an ONNX file, which errors call `name`.
pub(crate) fn decode(bytes: impl Buf, name: &Path) -> Result<ModelProto> {
    ModelProto::decode(bytes)
        .map_err(|e| Error::checkpoint(name, format!("is not an ONNX file, or damaged: {e}")))
}

/// Returns the description in an ONNX file.
pub(crate) fn card(proto: &ModelProto) -> Result<ModelCard, String> {
    let card = proto.metadata_props.iter().find(|entry| entry.key == ModelCard::KEY);
    let card = card.ok_or(
        "has no description of how images are prepared: write it with `Learner::export_onnx`",
    )?;
    let card = ModelCard::from_json(&card.value).map_err(|e| e.to_string())?;
    if let Task::Boxes { .. } = card.task {
        return Err("is an object detector, which this crate does not run".into());
    }
    Ok(card)
}

impl File {
    /// Checks the network, its input and its output.
    pub(crate) fn checked(mut proto: ModelProto) -> Result<Self, String> {
        let graph = proto.graph.as_mut().ok_or("has no network")?;
        graph.initializer.iter().try_for_each(whole)?;
        // Files of the first versions of ONNX list the weights as inputs too.
        let weights: HashSet<&String> = graph.initializer.iter().map(|t| &t.name).collect();
        graph.input.retain(|input| !weights.contains(&input.name));
        let (kind, input) = input(graph)?;
        let mut names: HashSet<&String> = graph.input.iter().map(|input| &input.name).collect();
        if let Some(twice) = graph.initializer.iter().find(|tensor| !names.insert(&tensor.name)) {
            return Err(format!("contains two tensors called `{}`", twice.name));
        }
        known_output(graph)?;
        Ok(Self { proto, kind, input })
    }

    /// Returns the sides of the input, whose type must be the one of the description: `[C, H, W]`, or `[H, W, C]`
    /// for bytes.
    pub(crate) fn image(&self, kind: NetworkInput) -> Result<[usize; 3], String> {
        let wanted = match kind {
            NetworkInput::Prepared => DatumType::F32,
            NetworkInput::Pixels => DatumType::U8,
            _ => return Err(format!("has an input of an unknown kind: {kind:?}")),
        };
        match self.input[..] {
            [a, b, c] if self.kind == wanted => Ok([a, b, c]),
            _ => Err(format!(
                "the input for an image is {:?} of type {:?}; it must have three sides and the type \
                 {wanted:?}",
                self.input, self.kind
            )),
        }
    }
}

/// Returns an error unless a tensor has as many bytes as its shape says.
fn whole(tensor: &TensorProto) -> Result<(), String> {
    let name = &tensor.name;
    if tensor.data_location == Some(DataLocation::External as i32) {
        return Err(format!(
            "the values of `{name}` are in another file, which is not read: write the network into one file"
        ));
    }
    let mut n = Some(1_usize);
    for side in &tensor.dims {
        n = usize::try_from(*side).ok().and_then(|side| n?.checked_mul(side));
    }
    let n = n.ok_or_else(|| format!("the shape of `{name}` is {:?}", tensor.dims))?;
    let each = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float | DataType::Int32) => 4,
        Ok(DataType::Float16) => 2,
        Ok(DataType::Int64 | DataType::Double) => 8,
        Ok(DataType::Uint8 | DataType::Int8 | DataType::Bool) => 1,
        _ => return Err(format!("the type of `{name}` is {}", tensor.data_type)),
    };
    let typed = tensor.float_data.len()
        + tensor.double_data.len()
        + tensor.int32_data.len()
        + tensor.int64_data.len();
    match tensor.raw_data.len() {
        0 if typed == n => Ok(()),
        bytes if Some(bytes) == n.checked_mul(each) => Ok(()),
        bytes => {
            Err(format!("`{name}` of the shape {:?} has {bytes} bytes: copy it again", tensor.dims))
        }
    }
}

/// Returns the type and the sides of a tensor; a side that is not a number is `None`.
fn shape(value: Option<&TypeProto>) -> Option<(i32, Vec<Option<usize>>)> {
    let Value::TensorType(tensor) = value?.value.as_ref()?;
    let side = |value: &Option<Side>| match value {
        Some(Side::DimValue(n)) => usize::try_from(*n).ok(),
        _ => None,
    };
    let sides = tensor.shape.as_ref()?.dim.iter().map(|dim| side(&dim.value)).collect();
    Some((tensor.elem_type, sides))
}

/// Returns the type of the input and its shape without the batch.
fn input(graph: &GraphProto) -> Result<(DatumType, Vec<usize>), String> {
    let [input] = &graph.input[..] else {
        return Err(format!("has {} inputs; it must have one", graph.input.len()));
    };
    let (kind, sides) = shape(input.r#type.as_ref()).ok_or("its input has no shape")?;
    let kind = match DataType::try_from(kind) {
        Ok(DataType::Float) => DatumType::F32,
        Ok(DataType::Uint8) => DatumType::U8,
        _ => return Err(format!("the type of its input is {kind}; it must be float or uint8")),
    };
    let fixed: Option<Vec<usize>> = sides.iter().skip(1).copied().collect();
    let Some(fixed) = fixed.filter(|_| !sides.is_empty()) else {
        let why = "the first side must be the number of images, and the other sides must be fixed";
        return Err(format!("the shape of its input is {sides:?}; {why}"));
    };
    match fixed.iter().try_fold(1_usize, |n, side| n.checked_mul(*side)) {
        Some(1..=MAX_INPUT) => Ok((kind, fixed)),
        _ => Err(format!("the input of the shape {fixed:?} is empty or too large")),
    }
}

/// Returns an error unless the only output is computed by the network.
fn known_output(graph: &GraphProto) -> Result<(), String> {
    let [output] = &graph.output[..] else {
        return Err(format!("has {} outputs; it must have one", graph.output.len()));
    };
    let known: HashSet<&String> = graph.node.iter().flat_map(|node| &node.output).collect();
    match known.contains(&output.name) {
        true => Ok(()),
        false => Err(format!("the network does not compute its output `{}`", output.name)),
    }
}
