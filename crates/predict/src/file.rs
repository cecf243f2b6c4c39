//! Exported ONNX files.

use finetune_image::{
    Error, Result,
    card::{ModelCard, NetworkInput},
    sample::Task,
};
use prost::Message as _;
use std::{collections::HashSet, path::Path};
use tract_onnx::pb::{
    GraphProto, ModelProto, TensorProto, TypeProto, tensor_proto::DataType,
    tensor_shape_proto::dimension::Value as Side, type_proto::Value,
};

/// The maximum number of values of an input, as of an image.
const MAX_INPUT: usize = 1 << 28;

/// A parsed file whose description, input and output were checked.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) proto: ModelProto,
    pub(crate) card: ModelCard,
    /// The shape of the input without the batch: `[C, H, W]`, or `[H, W, C]` for bytes.
    pub(crate) input: [usize; 3],
}

impl File {
    /// Parses an ONNX file. Errors call it `name`.
    pub(crate) fn parse(bytes: &[u8], name: &Path) -> Result<Self> {
        Self::checked(bytes).map_err(|why| Error::checkpoint(name, why))
    }

    fn checked(bytes: &[u8]) -> Result<Self, String> {
        let proto = ModelProto::decode(bytes)
            .map_err(|e| format!("is not an ONNX file, or damaged: {e}"))?;
        let card = proto.metadata_props.iter().find(|entry| entry.key == ModelCard::KEY);
        let card = card.ok_or(
            "has no description of how images are prepared: write it with `Learner::export_onnx`",
        )?;
        let card = ModelCard::from_json(&card.value).map_err(|e| e.to_string())?;
        if let Task::Boxes { .. } = card.task {
            return Err("is an object detector, which this crate does not run".into());
        }
        let graph = proto.graph.as_ref().ok_or("has no network")?;
        graph.initializer.iter().try_for_each(whole)?;
        let input = input(graph, card.input)?;
        known_output(graph)?;
        Ok(Self { proto, card, input })
    }
}

/// Returns an error unless a tensor has as many bytes as its shape says.
fn whole(tensor: &TensorProto) -> Result<(), String> {
    let name = &tensor.name;
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
    let typed = tensor.float_data.len() + tensor.int32_data.len() + tensor.int64_data.len();
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

fn input(graph: &GraphProto, kind: NetworkInput) -> Result<[usize; 3], String> {
    let [image] = &graph.input[..] else {
        return Err(format!("has {} inputs; it must have one", graph.input.len()));
    };
    let wanted = match kind {
        NetworkInput::Prepared => DataType::Float,
        NetworkInput::Pixels => DataType::Uint8,
        _ => return Err(format!("has an input of an unknown kind: {kind:?}")),
    };
    match shape(image.r#type.as_ref()) {
        Some((found, sides)) if found == wanted as i32 => {
            let [_, Some(a), Some(b), Some(c)] = sides[..] else {
                return Err(format!(
                    "the shape of its input is {sides:?}; it must have three fixed sides"
                ));
            };
            match a.checked_mul(b).and_then(|ab| ab.checked_mul(c)) {
                Some(1..=MAX_INPUT) => Ok([a, b, c]),
                _ => Err(format!("the input of {a}x{b}x{c} values is empty or too large")),
            }
        }
        found => {
            Err(format!("the type and shape of its input are {found:?}, which is not {kind:?}"))
        }
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
