//! Writes networks as ONNX files, by converting the operations that libtorch runs.

mod arithmetic;
mod builder;
mod call;
mod convert;
mod fold;
mod layers;
pub(crate) mod message;
mod pooling;
mod record;
mod shapes;
mod unsupported;

use crate::{
    disk,
    error::{Error, Result},
    model::Model,
    sys,
};
pub(crate) use finetune_image::card::{ModelCard, NetworkInput, NetworkOutput, OutputActivation};

use builder::{Builder, described};
use convert::Converter;
use message::{DataType, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use prost::Message as _;
use record::{Dim, Recording};
use std::{collections::BTreeMap, io::Write as _, path::Path};
use tch::{Kind, Tensor};
use unsupported::unsupported;

/// The version of the operators: that of ONNX 1.12, the first with `LayerNormalization`.
pub(crate) const OPSET: i64 = 17;
/// The version of the file format that belongs to it.
const IR_VERSION: i64 = 8;
/// The name of the input.
const INPUT: &str = "image";
/// The names of the output without and with an activation.
const OUTPUTS: [&str; 2] = ["outputs", "probabilities"];

/// Options of a file.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    /// The input: floats as the network takes them, or bytes.
    pub(crate) input: NetworkInput,
    /// Mean and standard deviation of each channel for the normalization of bytes.
    pub(crate) normalize: Option<(&'a [f32], &'a [f32])>,
    /// The activation that is part of the file.
    pub(crate) activation: OutputActivation,
    /// Whether weights are stored with 16 bits.
    pub(crate) half: bool,
    /// Metadata: names and texts.
    pub(crate) metadata: &'a [(&'a str, String)],
}

/// Writes the network in evaluation mode as ONNX. `example` is an image `[1, C, H, W]` as it goes into the network; the
/// file takes any number of images of that size.
pub(crate) fn write(model: &Model, example: &Tensor, how: &Writing<'_>) -> Result<Vec<u8>> {
    let mut recording = recorded(model, example)?;
    let mut weights: BTreeMap<String, Tensor> =
        model.state_dict().into_iter().map(|(name, t)| (name, t.detach())).collect();
    fold::fold(&mut recording, &mut weights)?;
    let mut file = Builder::new(INPUT, &[INPUT, OUTPUTS[0], OUTPUTS[1]]);
    let network = recording.input.shape.clone().unwrap_or_default();
    let (input, kind, shape) = match how.input {
        NetworkInput::Pixels => {
            let [n, c, h, w] = network[..] else {
                return Err(unsupported("the network does not take images `[N, C, H, W]`"));
            };
            (prepare(&mut file, how, c)?, DataType::Uint8, vec![n, h, w, c])
        }
        _ => (INPUT.to_owned(), DataType::Float, network),
    };
    let (mut file, logits) = Converter::run(file, &recording, &weights, &input)?;
    file.enter("");
    let (output, name) = match how.activation {
        OutputActivation::Softmax => {
            (file.node("Softmax", &[&logits.name], &[("axis", 1.into())]), OUTPUTS[1])
        }
        OutputActivation::Sigmoid => (file.node("Sigmoid", &[&logits.name], &[]), OUTPUTS[1]),
        _ => (logits.name.clone(), OUTPUTS[0]),
    };
    // The output may be the unchanged input or a weight.
    let made = file.nodes.iter().any(|node| node.output.contains(&output));
    let output = if made { output } else { file.node("Identity", &[&output], &[]) };
    file.rename(&output, name);
    if how.half {
        file.halve()?;
    }
    let metadata = how.metadata.iter().map(|(key, value)| StringStringEntryProto {
        key: (*key).to_owned(),
        value: value.clone(),
    });
    let proto = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "finetune".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(GraphProto {
            node: file.nodes,
            name: model.arch().map_or("network", |arch| arch.name()).to_owned(),
            initializer: file.constants.into_values().collect(),
            input: vec![described(INPUT, kind, &shape)],
            output: vec![described(name, DataType::Float, &logits.shape)],
        }),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata.collect(),
    };
    // The limit of the file format.
    if proto.encoded_len() >= 1 << 31 {
        return Err(unsupported("the weights are larger than 2 GiB: store them with 16 bits"));
    }
    Ok(proto.encode_to_vec())
}

impl Model {
    /// Writes the model in evaluation mode as an ONNX file, by recording what it does to `example`, an image
    /// `[1, C, H, W]`. Of a batch `[N, C, H, W]`, the first image is used. The file takes any number of images of that
    /// size as `image`, 32-bit floats, and returns what [`forward`](Self::forward) does as `outputs`.
    ///
    /// [`Learner::export_onnx`](crate::learner::Learner::export_onnx) also stores what the outputs mean, verifies the file, and
    /// has options.
    ///
    /// The recording sees operations of libtorch only. A module of your own must not create tensors from Rust data in its
    /// forward pass, for example with `Tensor::from_slice`: create them when the module is built.
    ///
    /// ```
    /// use finetune::{model::{ArchSpec, HeadOptions, squeezenet1_1}, seed::Seed};
    /// use finetune::tch::{self, Device, Tensor};
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// let spec = ArchSpec::new(&squeezenet1_1(), 3, 2, HeadOptions::new());
    /// let model = spec.build(Device::Cpu, Seed(1))?;
    /// let x = Tensor::zeros([1, 3, 64, 64], tch::kind::FLOAT_CPU);
    /// model.export_onnx(folder.path().join("model.onnx"), &x)?;
    /// # Ok::<(), finetune::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NonFiniteWeights`] if a weight is NaN or infinite; [`Error::Mismatch`] if `example` is empty or has fewer
    /// than two dimensions; [`Error::Unsupported`] if the network does something for which there is no ONNX operation in
    /// this crate, which is named; [`Error::Io`] if the file cannot be written.
    pub fn export_onnx(&self, path: impl AsRef<Path>, example: &Tensor) -> Result<()> {
        self.check_finite()?;
        // The inputs of networks for other data than images have other dimensions, such as `[1, features]`.
        let shape = example.size();
        if shape.len() < 2 || shape.contains(&0) {
            let why = format!("`example` is {shape:?}; it must be an image [1, C, H, W]");
            return Err(Error::mismatch("export_onnx", why));
        }
        let how = Writing {
            input: NetworkInput::Prepared,
            normalize: None,
            activation: OutputActivation::None,
            half: false,
            metadata: &[],
        };
        let bytes = write(self, &example.f_narrow(0, 0, 1)?, &how)?;
        disk::replace(path.as_ref(), |file| file.write_all(&bytes))
    }
}

/// Records what the network does to batches of two sizes.
fn recorded(model: &Model, example: &Tensor) -> Result<Recording> {
    let parameters: Vec<_> =
        model.params().iter().map(|p| (p.name.clone(), p.tensor.shallow_clone())).collect();
    let record = |n: i64| {
        let batch = model.copies_of(example, n)?.f_to_kind(Kind::Float)?;
        sys::graph(&batch, &parameters, model.buffers(), |x| model.forward(x, false))
    };
    let [small, large] = sys::BATCHES;
    Recording::new(record(small)?, &record(large)?)
}

/// Adds the conversion of bytes `[N, H, W, C]` to the input of the network, and returns the name of the result.
fn prepare(file: &mut Builder, how: &Writing<'_>, channels: Dim) -> Result<String> {
    file.enter("preparation");
    let float = [("to", i64::from(DataType::Float as i32).into())];
    let x = file.node("Cast", &[INPUT], &float);
    let x = file.node("Transpose", &[&x], &[("perm", vec![0, 3, 1, 2].into())]);
    let n = channels.fixed().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let (mean, std) = match how.normalize {
        Some((mean, std)) => (mean.to_vec(), std.to_vec()),
        None => (vec![0.0; n], vec![1.0; n]),
    };
    if mean.len() != n || std.len() != n {
        let why = format!("{} statistics for {n} channels", mean.len());
        return Err(Error::mismatch("Normalize", why));
    }
    // As one multiplication and one addition, like the preparation of images outside of the file.
    let of = |values: Vec<f32>| -> Result<Tensor> {
        Ok(Tensor::f_from_slice(&values)?.f_view([1, n as i64, 1, 1])?)
    };
    let scale = of(std.iter().map(|s| 1.0 / (255.0 * s)).collect())?;
    let shift = of(mean.iter().zip(&std).map(|(m, s)| -m / s).collect())?;
    let scale = file.tensor("preparation.scale", &scale)?;
    let shift = file.tensor("preparation.shift", &shift)?;
    let x = file.node("Mul", &[&x, &scale], &[]);
    Ok(file.node("Add", &[&x, &shift], &[]))
}

#[cfg(test)]
mod tests {
    use super::{message::DimensionValue, *};
    use crate::{
        model::{ArchSpec, HeadOptions, resnet18},
        seed::Seed,
    };
    use tch::{Device, nn, nn::VarStore};

    const FLOATS: Writing<'_> = Writing {
        input: NetworkInput::Prepared,
        normalize: None,
        activation: OutputActivation::None,
        half: false,
        metadata: &[],
    };

    fn image(side: i64) -> Tensor {
        Tensor::zeros([1, 3, side, side], tch::kind::FLOAT_CPU)
    }

    fn graph(model: &Model, how: &Writing<'_>) -> GraphProto {
        let bytes = write(model, &image(64), how).unwrap();
        let file = ModelProto::decode(&bytes[..]).unwrap();
        assert_eq!((file.ir_version, file.opset_import[0].version), (8, 17));
        file.graph.unwrap()
    }

    fn own(net: impl Fn(&Tensor) -> Tensor + Send + 'static) -> Model {
        let vars = VarStore::new(Device::Cpu);
        Model::from_module(vars, nn::func_t(move |x, _| net(x))).unwrap()
    }

    #[test]
    fn a_resnet_keeps_its_names_and_takes_any_number_of_images() {
        let spec = ArchSpec::new(&resnet18(), 3, 5, HeadOptions::new());
        let model = spec.build(Device::Cpu, Seed(1)).unwrap();
        let graph = graph(&model, &FLOATS);
        let names: Vec<&str> = graph.node.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names[0], "/conv1/Conv");
        assert!(names.contains(&"/layer4/1/conv2/Conv"), "{names:?}");
        // The normalizations of the body are folded into its convolutions; those of the head precede
        // linear layers.
        let norms = graph.node.iter().filter(|n| n.op_type == "BatchNormalization");
        assert_eq!(norms.count(), 2);
        let weight = graph.initializer.iter().find(|t| t.name == "layer1.0.conv1.weight").unwrap();
        assert_eq!(weight.dims, [64, 64, 3, 3]);
        assert_eq!(weight.raw_data.len(), 64 * 64 * 9 * 4);
        for (value, name, sides) in
            [(&graph.input[0], "image", vec![3, 64, 64]), (&graph.output[0], "outputs", vec![5])]
        {
            assert_eq!(value.name, name);
            let tensor = value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
            let dims: Vec<_> = tensor
                .shape
                .as_ref()
                .unwrap()
                .dim
                .iter()
                .map(|d| d.value.clone().unwrap())
                .collect();
            assert_eq!(dims[0], DimensionValue::DimParam("batch".into()));
            let fixed: Vec<_> = sides.into_iter().map(DimensionValue::DimValue).collect();
            assert_eq!(dims[1..], fixed[..]);
        }
        // Every value is defined once, and before it is used.
        let mut known: std::collections::BTreeSet<&str> =
            graph.initializer.iter().map(|t| t.name.as_str()).chain(["image"]).collect();
        for node in &graph.node {
            assert!(node.input.iter().all(|name| known.contains(&**name)), "{node:?}");
            assert!(node.output.iter().all(|name| known.insert(name)), "{node:?}");
        }
        assert!(known.contains("outputs"));
    }

    #[test]
    fn folded_weights_are_those_of_both_layers() {
        let vars = VarStore::new(Device::Cpu);
        let root = vars.root();
        let conv = nn::conv2d(
            &root / "conv",
            3,
            4,
            3,
            nn::ConvConfig { bias: false, ..Default::default() },
        );
        let mut norm = nn::batch_norm2d(&root / "norm", 4, Default::default());
        norm.running_mean = norm.running_mean.fill_(0.5);
        norm.running_var = norm.running_var.fill_(4.0 - 1e-5);
        let old: Vec<f32> = Vec::try_from(&conv.ws.flatten(0, -1)).unwrap();
        let scale: Vec<f32> = Vec::try_from(norm.ws.as_ref().unwrap()).unwrap();
        let net = nn::seq_t().add(conv).add(norm);
        let graph = graph(&Model::from_module(vars, net).unwrap(), &FLOATS);
        assert_eq!(graph.node.len(), 1);
        let floats = |name: &str| -> Vec<f32> {
            let tensor = graph.initializer.iter().find(|t| t.name == name).unwrap();
            tensor.raw_data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        for (i, (new, old)) in floats("conv.weight").iter().zip(old).enumerate() {
            assert!((new - old * scale[i / 27] / 2.0).abs() < 1e-6, "{i}");
        }
        for (bias, scale) in floats("conv.bias").iter().zip(scale) {
            assert!((bias + 0.5 * scale / 2.0).abs() < 1e-6);
        }
    }

    #[test]
    fn bytes_probabilities_and_half_weights_are_options() {
        let spec = ArchSpec::new(&resnet18(), 3, 5, HeadOptions::new());
        let model = spec.build(Device::Cpu, Seed(1)).unwrap();
        let how = Writing {
            input: NetworkInput::Pixels,
            normalize: Some((&[0.5, 0.4, 0.3], &[0.2, 0.2, 0.2])),
            activation: OutputActivation::Softmax,
            half: true,
            metadata: &[],
        };
        let graph = graph(&model, &how);
        let input = graph.input[0].r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
        assert_eq!(input.elem_type, DataType::Uint8 as i32);
        let sides = &input.shape.as_ref().unwrap().dim;
        assert_eq!(sides[3].value, Some(DimensionValue::DimValue(3)));
        assert_eq!(graph.output[0].name, "probabilities");
        assert_eq!(graph.node.last().unwrap().op_type, "Softmax");
        let size: usize = graph.initializer.iter().map(|t| t.raw_data.len()).sum();
        let elements: usize = model.params().iter().map(|p| p.tensor.numel()).sum();
        assert!(size < elements * 2 + elements / 20, "{size} bytes for {elements} weights");
    }

    #[test]
    fn unsupported_operations_are_named() {
        let e = write(&own(|x| x.cumsum(1, Kind::Float)), &image(8), &FLOATS).unwrap_err();
        assert!(e.to_string().contains("`cumsum`"), "{e}");
        let twice = own(|x| x.view([-1]).unsqueeze(0) * x.size()[0] as f64);
        let e = write(&twice, &image(8), &FLOATS).unwrap_err();
        assert!(e.to_string().contains("number of images"), "{e}");
    }

    #[test]
    fn operations_in_place_become_those_that_return_a_tensor() {
        let graph = graph(&own(|x| (x * 2.0).relu_().view([-1, 192]).sigmoid_()), &FLOATS);
        let operators: Vec<&str> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
        assert_eq!(operators, ["Mul", "Relu", "Reshape", "Sigmoid"]);
        // The first two channels of `y` change too.
        let part = own(|x| {
            let y = x * 2.0;
            let _ = y.narrow(1, 0, 2).relu_();
            y
        });
        let halves = own(|x| {
            let mut halves = (x * 2.0).chunk(2, 3);
            halves[0].relu_() * &halves[1]
        });
        write(&halves, &image(8), &FLOATS).unwrap(); // they do not overlap
        let e = write(&part, &image(8), &FLOATS).unwrap_err();
        assert!(e.to_string().contains("`relu_` changes a tensor in place"), "{e}");
    }

    #[test]
    fn names_of_variables_do_not_clash_with_those_of_the_file() {
        let vars = VarStore::new(Device::Cpu);
        let root = vars.root();
        let names = ["image", "outputs", "number_2.0", "constant_0"];
        let own = names.map(|name| match name.split_once('.') {
            Some((path, name)) => (&root / path).var(name, &[1], nn::Init::Const(3.0)),
            None => root.var(name, &[1], nn::Init::Const(3.0)),
        });
        let constant = Tensor::from_slice(&[5.0_f32]);
        let net = nn::func_t(move |x, _| {
            let sum = own.iter().fold(x * 2.0, |sum, variable| sum + variable);
            sum * &constant
        });
        let graph = graph(&Model::from_module(vars, net).unwrap(), &FLOATS);
        let mut found: Vec<f32> = graph
            .initializer
            .iter()
            .map(|t| f32::from_le_bytes(t.raw_data[..].try_into().unwrap()))
            .collect();
        found.sort_by(f32::total_cmp);
        assert_eq!(found, [2.0, 3.0, 3.0, 3.0, 3.0, 5.0]);
        let names: std::collections::BTreeSet<&str> =
            graph.initializer.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names.len(), 6);
        assert!(!names.contains("image") && !names.contains("outputs"), "{names:?}");
    }

    #[test]
    fn sizes_that_depend_on_the_batch_stay_open() {
        let net = own(|x| {
            let n = x.size()[0];
            let windows = x.view([n, 3, 2, 4, 8]).permute([0, 2, 1, 3, 4]).reshape([n * 2, 3, 32]);
            let extra = Tensor::ones([1, 3, 1], tch::kind::FLOAT_CPU).expand([n * 2, 3, 1], false);
            Tensor::cat(&[windows, extra], 2).reshape([n, -1])
        });
        let bytes = write(&net, &image(8), &FLOATS).unwrap();
        let graph = ModelProto::decode(&bytes[..]).unwrap().graph.unwrap();
        let shapes: Vec<&str> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
        for operator in ["Reshape", "Transpose", "Shape", "Expand", "Concat"] {
            assert!(shapes.contains(&operator), "{shapes:?}");
        }
    }
}
