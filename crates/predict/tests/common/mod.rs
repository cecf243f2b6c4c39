//! Small ONNX files with known answers: networks on the mean color of an image.
#![allow(dead_code, reason = "each test uses a part")]

use finetune_image::{
    card::{ModelCard, NetworkInput, NetworkOutput, OutputActivation},
    image::{Decode, Image},
    sample::Task,
    transform::{BatchSpec, ItemSpec, Normalize, Resize},
};
use prost::Message as _;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_proto::DataType, tensor_shape_proto, type_proto,
};

/// The width and height of the network's input.
pub(crate) const SIDE: u32 = 8;

/// The vocabulary of the classifiers.
pub(crate) const COLORS: [&str; 3] = ["red", "green", "blue"];

/// Returns an image of one color.
pub(crate) fn plain(color: [u8; 3], width: u32, height: u32) -> Image {
    let pixels = color.iter().copied().cycle().take((width * height * 3) as usize);
    Image::new(width, height, 3, pixels.collect()).unwrap()
}

/// Returns the bytes of an image as a PNM file.
pub(crate) fn pnm(image: &Image) -> Vec<u8> {
    let mut file = format!("P6\n{} {}\n255\n", image.width(), image.height()).into_bytes();
    file.extend_from_slice(image.pixels());
    file
}

/// A file to be built.
pub(crate) struct Model {
    pub(crate) card: ModelCard,
    /// The factor of the outputs.
    pub(crate) scale: f32,
    /// Changes the message before it is written.
    pub(crate) change: fn(&mut ModelProto),
}

impl Model {
    /// A classifier of the colors, whose logits are 10 times the mean color.
    pub(crate) fn colors() -> Self {
        let vocab = COLORS.map(String::from).into();
        Self::new(Task::Category { vocab }, OutputActivation::Softmax)
    }

    pub(crate) fn new(task: Task, activation: OutputActivation) -> Self {
        let items = vec![ItemSpec::Resize(Resize::new(SIDE))];
        let output = NetworkOutput::new(activation, false, 0.5);
        let input = NetworkInput::Prepared;
        let card = ModelCard::new(task, Decode::new(), items, vec![], input, output);
        Self { card, scale: 10.0, change: |_| () }
    }

    /// Normalizes by a mean and deviation of 0.5, from -1 to 1.
    pub(crate) fn normalized(mut self) -> Self {
        let half = Normalize::new(vec![0.5; 3], vec![0.5; 3]).unwrap();
        self.card.batch_tfms = vec![BatchSpec::Normalize(half)];
        self
    }

    /// Returns the bytes of the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut proto = self.proto();
        (self.change)(&mut proto);
        proto.encode_to_vec()
    }

    fn proto(&self) -> ModelProto {
        let side = i64::from(SIDE);
        let n = self.card.task.n_out() as i64;
        let mut nodes = vec![];
        let bytes = self.card.input == NetworkInput::Pixels;
        let mut at = "image";
        if bytes {
            nodes.push(node("Cast", &[at], "floats", vec![int("to", DataType::Float as i64)]));
            nodes.push(node("Transpose", &["floats"], "planes", vec![ints("perm", &[0, 3, 1, 2])]));
            nodes.push(node("Div", &["planes", "levels"], "prepared", vec![]));
            at = "prepared";
        }
        // Output `i` is the mean of channel `i % 3`.
        let weights: Vec<f32> = (0..n)
            .flat_map(|i| (0..3).map(move |c| if c == i % 3 { 1.0 } else { 0.0 }))
            .map(|w: f32| w * self.scale)
            .collect();
        let mask = matches!(self.card.task, Task::Mask { .. });
        let output = if mask {
            nodes.push(node("Conv", &[at, "weights"], "outputs", vec![]));
            vec![None, Some(n), Some(side), Some(side)]
        } else {
            nodes.push(node("GlobalAveragePool", &[at], "mean", vec![]));
            nodes.push(node("Flatten", &["mean"], "flat", vec![int("axis", 1)]));
            nodes.push(node("Gemm", &["flat", "weights"], "outputs", vec![int("transB", 1)]));
            vec![None, Some(n)]
        };
        let shape = if mask { vec![n, 3, 1, 1] } else { vec![n, 3] };
        let mut initializer = vec![tensor("weights", &shape, &weights)];
        if bytes {
            initializer.push(tensor("levels", &[1], &[255.0]));
        }
        let input = match bytes {
            true => value("image", DataType::Uint8, &[None, Some(side), Some(side), Some(3)]),
            false => value("image", DataType::Float, &[None, Some(3), Some(side), Some(side)]),
        };
        let graph = GraphProto {
            name: "colors".into(),
            node: nodes,
            initializer,
            input: vec![input],
            output: vec![value("outputs", DataType::Float, &output)],
            ..Default::default()
        };
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { version: 17, ..Default::default() }],
            graph: Some(graph),
            metadata_props: vec![StringStringEntryProto {
                key: ModelCard::KEY.into(),
                value: self.card.to_json().unwrap(),
            }],
            ..Default::default()
        }
    }
}

/// Makes a side of the input depend on the image.
pub(crate) fn open_side(proto: &mut ModelProto, side: usize) {
    use tensor_shape_proto::dimension::Value as Side;
    let input = proto.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap();
    let Some(type_proto::Value::TensorType(tensor)) = &mut input.value else { panic!() };
    tensor.shape.as_mut().unwrap().dim[side].value = Some(Side::DimParam("height".into()));
}

fn node(kind: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: kind.into(),
        name: format!("/{output}"),
        input: inputs.iter().map(|i| (*i).to_owned()).collect(),
        output: vec![output.into()],
        attribute,
        ..Default::default()
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    let r#type = AttributeType::Int as i32;
    AttributeProto { name: name.into(), i, r#type, ..Default::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let r#type = AttributeType::Ints as i32;
    AttributeProto { name: name.into(), ints: ints.to_vec(), r#type, ..Default::default() }
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn value(name: &str, kind: DataType, sides: &[Option<i64>]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value as Side};
    let side = |side: &Option<i64>| Dimension {
        value: Some(side.map_or_else(|| Side::DimParam("batch".into()), Side::DimValue)),
        ..Default::default()
    };
    let shape = TensorShapeProto { dim: sides.iter().map(side).collect() };
    let tensor = type_proto::Tensor { elem_type: kind as i32, shape: Some(shape) };
    let r#type =
        TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
}
