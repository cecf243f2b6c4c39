//! ONNX files of learners and networks: their content, and that their outputs equal those of the model.

use crate::pets;
use finetune::{
    data::MaskBlock,
    learner::{OnnxOptions, unet_learner},
    loss::BceWithLogits,
    model::{ArchSpec, HeadOptions, UnetOptions, by_name, resnet18, squeezenet1_1, xresnet18},
    prelude::*,
    seed::Seed,
    transform::{BatchFn, BatchTransform, Normalize},
};
use prost::Message;
use std::{collections::BTreeMap, fs, path::Path};
use tch::nn;

/// The metadata of an ONNX file, with the field numbers of `onnx.proto`.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "14")]
    metadata: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<Initializer>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    outputs: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Initializer {
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

fn metadata(path: &Path) -> BTreeMap<String, String> {
    let file = File::decode(&fs::read(path).unwrap()[..]).unwrap();
    file.metadata.into_iter().map(|entry| (entry.key, entry.value)).collect()
}

/// Options that verify the file if this build can.
fn options(path: &Path) -> OnnxOptions {
    OnnxOptions::new(path)
}

fn learner(tfms: impl BatchTransform + 'static) -> Learner {
    let block = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(pets::first_of(&pets::BREEDS, 3))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$").unwrap()))
        .item_tfms(Resize::new(48))
        .batch_tfms(tfms)
        .bs(3)
        .device(Device::Cpu);
    let dls = block.dataloaders(pets::photos()).unwrap();
    vision_learner(dls, squeezenet1_1()).pretrained(false).build().unwrap().quiet()
}

#[test]
fn a_file_holds_the_vocabulary_and_the_preparation() {
    let folder = tempfile::tempdir().unwrap();
    let learn = learner(Normalize::imagenet());
    let plain = learn.export_onnx(options(&folder.path().join("plain.onnx"))).unwrap();
    assert_eq!((plain.opset, plain.bytes as u64), (17, fs::metadata(&plain.path).unwrap().len()));
    let about = metadata(&plain.path);
    let labels: Vec<String> = serde_json::from_str(&about["labels"]).unwrap();
    assert_eq!(labels, pets::BREEDS);
    let card: serde_json::Value = serde_json::from_str(&about["finetune"]).unwrap();
    assert_eq!(card["version"], 1);
    assert_eq!(card["task"]["vocab"][1], "Bengal");
    assert_eq!(card["item_tfms"][0]["transform"], "resize");
    assert_eq!(card["input"], "prepared");
    assert_eq!(card["output"]["activation"], "softmax");
    assert_eq!(card["output"]["applied"], false);

    let small = options(&folder.path().join("small.onnx"));
    let small = learn.export_onnx(small.half(true).activation(true).pixels(true)).unwrap();
    assert!(small.bytes < plain.bytes * 6 / 10, "{} of {}", small.bytes, plain.bytes);
    let about = metadata(&small.path);
    let card: serde_json::Value = serde_json::from_str(&about["finetune"]).unwrap();
    assert_eq!(card["input"], "pixels");
    assert_eq!(card["output"]["applied"], true);
    assert_eq!(small.verified.is_some(), cfg!(feature = "onnx"));
    if let (Some(plain), Some(small)) = (plain.verified, small.verified) {
        assert_eq!(plain.items, learn.dls().valid().len());
        assert!(plain.differing.is_empty() && small.differing.is_empty());
        assert!(plain.scale > 0.0 && plain.largest_difference < 1e-5 * plain.scale, "{plain}");
        assert!(small.largest_difference > 0.0 && small.largest_difference < 1e-2, "{small}");
    }
}

#[test]
fn code_that_no_file_can_hold_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.onnx");
    let opaque = learner(BatchFn::new("negative", |x| Ok(1.0 - x)));
    let e = opaque.export_onnx(options(&path)).unwrap_err();
    assert!(matches!(e, Error::Unsupported { .. }) && e.to_string().contains("negative"), "{e}");
    let cropped = learner(aug_transforms().size(32));
    let e = cropped.export_onnx(options(&path).pixels(true)).unwrap_err();
    assert!(e.to_string().contains("item_tfms"), "{e}");
    let e = cropped.export_onnx(options(&path).tolerance(1.2)).unwrap_err();
    assert!(matches!(e, Error::Config { .. }) && e.to_string().contains("1.2"), "{e}");
    assert!(!path.exists());
    cropped.export_onnx(options(&path)).unwrap();
}

#[cfg(not(feature = "onnx"))]
#[test]
fn verification_without_a_runtime_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.onnx");
    let learn = learner(Normalize::imagenet());
    let e = learn.export_onnx(OnnxOptions::new(&path).verify(5)).unwrap_err();
    assert!(matches!(e, Error::Unsupported { .. }), "{e}");
    assert!(e.to_string().contains("feature `onnx`"), "{e}");
    assert!(!path.exists());
    let report = learn.export_onnx(&path).unwrap();
    assert!(report.verified.is_none());
    assert!(report.to_string().contains("not verified: built without the feature `onnx`"));
}

/// Plain images, one of which differs between its file and the data set, so that verification must fail.
#[cfg(feature = "onnx")]
struct Exchanged {
    folder: std::path::PathBuf,
    task: finetune::sample::Task,
}

#[cfg(feature = "onnx")]
impl Exchanged {
    const COLORS: [[u8; 3]; 3] = [[200, 30, 30], [30, 200, 30], [30, 30, 200]];

    fn image(i: usize) -> finetune::image::Image {
        finetune::image::Image::new(8, 8, 3, Self::COLORS[i % 3].repeat(64)).unwrap()
    }
}

#[cfg(feature = "onnx")]
impl finetune::data::Dataset for Exchanged {
    fn len(&self) -> usize {
        6
    }
    fn get(&self, index: usize) -> finetune::Result<finetune::sample::Sample> {
        let target = match self.task {
            finetune::sample::Task::Categories { .. } => {
                finetune::sample::Target::Categories(vec![index % 3])
            }
            _ => finetune::sample::Target::Category(index % 3),
        };
        Ok(finetune::sample::Sample::new(Self::image(index), target))
    }
    fn name(&self, index: usize) -> String {
        format!("color {index}")
    }
    fn task(&self) -> finetune::sample::Task {
        self.task.clone()
    }
    fn file(&self, index: usize) -> Option<std::path::PathBuf> {
        Some(self.folder.join(format!("{index}.ppm")))
    }
}

/// Returns a learner whose network averages each channel and passes the result to `last`, and writes the files of
/// its images into `folder`.
#[cfg(feature = "onnx")]
fn averages(folder: &Path, last: impl Fn(Tensor) -> Tensor + Send + 'static) -> Learner {
    let vocab = ["red", "green", "blue"].map(String::from).into();
    let task = finetune::sample::Task::Category { vocab };
    averages_for(folder, task, finetune::loss::CrossEntropy::new(), last)
}

/// As [`averages`], for other targets and another loss.
#[cfg(feature = "onnx")]
fn averages_for(
    folder: &Path,
    task: finetune::sample::Task,
    loss: impl finetune::loss::Loss + 'static,
    last: impl Fn(Tensor) -> Tensor + Send + 'static,
) -> Learner {
    for i in 0..6 {
        // The last file has the color of the item before.
        let image = Exchanged::image(if i == 5 { 4 } else { i });
        let bytes = [b"P6 8 8 255\n", image.pixels()].concat();
        fs::write(folder.join(format!("{i}.ppm")), bytes).unwrap();
    }
    let data = Exchanged { folder: folder.to_owned(), task };
    let splits = finetune::data::Splits { train: (0..6).collect(), valid: (0..6).collect() };
    let loading = finetune::data::LoaderOptions::new().bs(4).num_workers(0).device(Device::Cpu);
    let dls = DataLoaders::from_dataset(data, splits, finetune::data::Transforms::new(), loading)
        .unwrap();
    let vars = nn::VarStore::new(Device::Cpu);
    let scale = vars.root().var("scale", &[3], nn::Init::Const(2.0));
    let means =
        nn::func_t(move |x, _| last(x.mean_dim([2_i64, 3].as_slice(), false, x.kind()) * &scale));
    let model = finetune::model::Model::from_module(vars, means).unwrap();
    Learner::new(dls, model, loss).unwrap().quiet()
}

/// A loss of a program, with a threshold of 0.6. Its `spec` names the loss that it is given.
#[cfg(feature = "onnx")]
#[derive(Debug)]
struct Own {
    slope: f64,
    spec: BceWithLogits,
}

#[cfg(feature = "onnx")]
impl finetune::loss::Loss for Own {
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        finetune::loss::Loss::each(&self.spec, pred, y)
    }
    fn activation(&self, pred: &Tensor) -> Result<Tensor> {
        Ok(pred.f_mul_scalar(self.slope)?.f_sigmoid()?)
    }
    fn decode(&self, activated: &Tensor) -> Result<Tensor> {
        Ok(activated.f_gt(0.6)?)
    }
    fn spec(&self) -> Option<finetune::loss::LossSpec> {
        finetune::loss::Loss::spec(&self.spec)
    }
}

/// The probabilities are 0.83 and 0.56, so that a threshold of 0.6 selects one category, and one of 0.5 all.
#[cfg(feature = "onnx")]
#[test]
fn a_loss_that_decodes_unlike_its_description_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("colors.onnx");
    let export = |slope: f64, thresh: f64| {
        let vocab = ["red", "green", "blue"].map(String::from).into();
        let task = finetune::sample::Task::Categories { vocab };
        let loss = Own { slope, spec: BceWithLogits::new().thresh(thresh) };
        let learn = averages_for(folder.path(), task, loss, |x| x);
        // The file of the last item has another color.
        learn.export_onnx(OnnxOptions::new(&path).tolerance(0.2))
    };
    let e = export(1.0, 0.5).unwrap_err();
    assert!(matches!(e, Error::Export { .. }), "{e}");
    assert!(e.to_string().contains("6 of 6 items differ"), "{e}");
    let e = export(1.1, 0.6).unwrap_err();
    assert!(matches!(e, Error::Unsupported { .. }), "{e}");
    assert!(e.to_string().contains("`Own`") && e.to_string().contains("Sigmoid"), "{e}");
    assert!(!path.exists());
    assert_eq!(export(1.0, 0.6).unwrap().verified.unwrap().differing.len(), 1);
}

#[cfg(feature = "onnx")]
#[test]
fn a_file_that_no_predictor_can_load_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("colors.onnx");
    // Four outputs for three categories.
    let learn = averages(folder.path(), |x| Tensor::cat(&[&x, &x.narrow(1, 0, 1)], 1));
    let e = learn.export_onnx(&path).unwrap_err();
    assert!(matches!(e, Error::Unsupported { .. }), "{e}");
    let text = e.to_string();
    assert!(text.contains("colors.onnx") && text.contains("the task needs [1, 3]"), "{text}");
    assert!(!path.exists());
    learn.export_onnx(OnnxOptions::new(&path).verify(0)).unwrap();
    let e = finetune_predict::Predictor::load(&path).unwrap_err();
    assert!(e.to_string().contains("the task needs [1, 3]"), "{e}");
}

#[cfg(feature = "onnx")]
#[test]
fn labels_that_differ_are_an_error_that_names_the_items() {
    let folder = tempfile::tempdir().unwrap();
    let learn = averages(folder.path(), |x| x);
    let path = folder.path().join("colors.onnx");

    let e = learn.export_onnx(&path).unwrap_err();
    assert!(matches!(e, Error::Export { .. }), "{e}");
    let text = e.to_string();
    assert!(
        text.contains("1 of 6 items differ") && text.contains("color 5 (green instead of blue)"),
        "{text}"
    );
    assert!(!path.exists());

    let report = learn.export_onnx(OnnxOptions::new(&path).tolerance(0.2)).unwrap();
    let verified = report.verified.unwrap();
    let differing: Vec<_> = verified.differing.iter().map(|d| (d.item, d.found.as_str())).collect();
    assert_eq!((verified.items, differing), (6, vec![(5, "green")]));
    assert!(verified.largest_difference > 0.5, "{verified}");
    // A smaller sample is spread over the items.
    let report = learn.export_onnx(OnnxOptions::new(&path).verify(3)).unwrap();
    assert_eq!(report.verified.unwrap().items, 3);

    fs::write(folder.path().join("2.ppm"), [b"P6 9 8 255\n", &[90; 9 * 8 * 3][..]].concat())
        .unwrap();
    let e = learn.export_onnx(&path).unwrap_err();
    assert!(matches!(e, Error::Computation { .. }), "{e}");
    let text = e.to_string();
    assert!(text.contains("color 2") && text.contains("[1, 3, 8, 9]"), "{text}");
    assert!(text.contains("[N, 3, 8, 8]"), "{text}");
}

#[test]
fn several_categories_and_masks_can_be_exported() {
    let folder = tempfile::tempdir().unwrap();
    let photos = || {
        let photos = pets::first_of(&pets::BREEDS, 3);
        DataBlock::blocks(ImageBlock::rgb(), MultiCategoryBlock::new())
            .get_items(photos)
            .get_y(|path: &std::path::PathBuf| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                Ok(vec![name[..1].to_owned(), name[1..2].to_owned()])
            })
            .item_tfms(Resize::new(48))
            .bs(3)
            .device(Device::Cpu)
    };
    let dls = photos().dataloaders(pets::photos()).unwrap();
    let loss = BceWithLogits::new().thresh(0.3);
    let learn = vision_learner(dls, squeezenet1_1()).pretrained(false).loss(loss);
    let learn = learn.build().unwrap().quiet();
    let path = folder.path().join("several.onnx");
    let report = learn.export_onnx(options(&path).activation(true)).unwrap();
    let card: serde_json::Value = serde_json::from_str(&metadata(&path)["finetune"]).unwrap();
    assert_eq!(card["output"]["activation"], "sigmoid");
    assert_eq!(card["output"]["threshold"], 0.3);
    assert!(report.verified.is_none_or(|v| v.largest_difference < 1e-5), "sigmoids");

    let masks = DataBlock::blocks(ImageBlock::rgb(), MaskBlock::new(["dark", "light"]))
        .get_items(pets::first_of(&pets::BREEDS, 2))
        .get_y(|path: &std::path::PathBuf| {
            let image = finetune::image::Decode::new().open(path)?;
            let (w, h) = (image.width(), image.height());
            let codes = image.pixels().chunks(3).map(|p| u8::from(p[0] > 128)).collect();
            Ok(finetune::image::Image::new(w, h, 1, codes)?.into())
        })
        .item_tfms(Resize::new(64))
        .bs(2)
        .device(Device::Cpu);
    let dls = masks.dataloaders(pets::photos()).unwrap();
    let learn = unet_learner(dls, resnet18()).pretrained(false).build().unwrap().quiet();
    let path = folder.path().join("masks.onnx");
    let report = learn.export_onnx(options(&path).activation(true)).unwrap();
    let about = metadata(&path);
    assert_eq!(about["labels"], r#"["dark","light"]"#);
    assert!(report.verified.is_none_or(|v| v.largest_difference < 1e-4), "a softmax of pixels");
}

/// Writes a network, checks the names in its file, and runs it if this build can.
fn family(name: &str, spec: &ArchSpec, side: i64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.onnx");
    let model = spec.build(Device::Cpu, Seed(1)).unwrap();
    tch::manual_seed(1);
    let x = Tensor::randn([1, 3, side, side], tch::kind::FLOAT_CPU);
    model.export_onnx(&path, &x).unwrap();
    let bytes = fs::read(&path).unwrap();
    let graph = File::decode(&bytes[..]).unwrap().graph.unwrap();
    let mut known: std::collections::BTreeSet<&str> =
        graph.initializers.iter().map(|t| t.name.as_str()).chain(["image", ""]).collect();
    for node in &graph.nodes {
        assert!(node.inputs.iter().all(|input| known.contains(&**input)), "{name}: {node:?}");
        assert!(node.outputs.iter().all(|output| known.insert(output)), "{name}: {node:?}");
    }
    assert!(known.contains("outputs"), "{name}");
    let weights = model.params().iter().filter(|p| p.tensor.dim() == 4);
    let kept = weights.filter(|p| known.contains(&*p.name)).count();
    assert!(kept > 0, "{name}: weights keep their names");
    let expected = tch::no_grad(|| model.forward(&x, false)).unwrap();
    close(name, &bytes, &x, &expected);
}

#[cfg(not(feature = "onnx"))]
fn close(_: &str, _: &[u8], _: &Tensor, _: &Tensor) {}

#[cfg(feature = "onnx")]
fn close(name: &str, file: &[u8], x: &Tensor, expected: &Tensor) {
    use finetune_predict::Network;
    let network = Network::from_bytes(file).unwrap();
    let shape: Vec<usize> = x.size().iter().map(|n| *n as usize).collect();
    assert_eq!(network.input_shape(), &shape[1..], "{name}");
    let input = Vec::<f32>::try_from(&x.reshape([-1])).unwrap();
    let out = network.run(ndarray::ArrayD::from_shape_vec(shape, input).unwrap()).unwrap();
    let expected = Vec::<f32>::try_from(&expected.reshape([-1])).unwrap();
    let scale = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let difference =
        out.iter().zip(&expected).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    assert_eq!(out.len(), expected.len());
    assert!(scale > 0.0 && difference <= 1e-4 * scale, "{name}: {difference} of {scale}");
}

#[test]
fn convolutional_families_can_be_exported() {
    for name in ["resnet10t", "test_efficientnet", "mobilenetv3_small_050", "regnetx_002"] {
        family(name, &ArchSpec::classifier(&by_name(name).unwrap(), 3, 10), 64);
    }
    for name in ["test_convnext", "convnext_zepto_rms", "densenet121", "resnetv2_18", "regnety_002"]
    {
        family(name, &ArchSpec::new(&by_name(name).unwrap(), 3, 4, HeadOptions::new()), 64);
    }
    let unet = UnetOptions::new().size_hw(64, 64);
    family("unet", &ArchSpec::unet(&xresnet18(), 3, 2, unet), 64);
}

#[test]
fn transformers_can_be_exported() {
    for (name, side) in
        [("test_vit", 160), ("eva02_tiny_patch14_224", 112), ("tiny_vit_5m_224", 96)]
    {
        let arch = by_name(name).unwrap().image_size(side, side);
        family(name, &ArchSpec::classifier(&arch, 3, 10), side);
    }
    let swin = by_name("swin_tiny_patch4_window7_224").unwrap().image_size(64, 64);
    family("swin", &ArchSpec::new(&swin, 3, 4, HeadOptions::new()), 64);
    let unet = UnetOptions::new().size_hw(64, 64);
    family("swin with a decoder", &ArchSpec::unet(&swin, 3, 2, unet), 64);
}

#[test]
fn the_example_is_an_image_or_the_first_of_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.onnx");
    let spec = ArchSpec::classifier(&by_name("resnet10t").unwrap(), 3, 10);
    let model = spec.build(Device::Cpu, Seed(1)).unwrap();
    let zeros = |shape: &[i64]| Tensor::zeros(shape, tch::kind::FLOAT_CPU);
    let wrong: [&[i64]; 4] = [&[], &[8], &[0, 3, 64, 64], &[1, 3, 0, 64]];
    for shape in wrong {
        let e = model.export_onnx(&path, &zeros(shape)).unwrap_err();
        assert!(matches!(e, Error::Mismatch { .. }), "{e}");
        let text = e.to_string();
        assert!(text.contains(&format!("{shape:?}")) && text.contains("[1, C, H, W]"), "{text}");
        assert!(!path.exists());
    }
    tch::manual_seed(1);
    let batch = Tensor::randn([4, 3, 64, 64], tch::kind::FLOAT_CPU);
    model.export_onnx(&path, &batch).unwrap();
    let of_batch = fs::read(&path).unwrap();
    model.export_onnx(&path, &batch.narrow(0, 0, 1)).unwrap();
    assert!(of_batch == fs::read(&path).unwrap(), "the file is that of one image");
    let expected = tch::no_grad(|| model.forward(&batch, false)).unwrap();
    close("a batch", &of_batch, &batch, &expected);
}

#[test]
fn an_operation_without_an_onnx_form_is_named_with_its_module() {
    let folder = tempfile::tempdir().unwrap();
    let vars = nn::VarStore::new(Device::Cpu);
    let root = vars.root();
    let linear = nn::linear(&root / "blocks" / "0" / "mix", 8, 8, Default::default());
    let net = nn::func_t(move |x, _| x.apply(&linear).cumsum(1, tch::Kind::Float));
    let model = finetune::model::Model::from_module(vars, net).unwrap();
    let path = folder.path().join("model.onnx");
    let x = Tensor::zeros([1, 8], tch::kind::FLOAT_CPU);
    let e = model.export_onnx(&path, &x).unwrap_err();
    assert!(matches!(e, Error::Unsupported { .. }), "{e}");
    assert!(e.to_string().contains("`cumsum`") && e.to_string().contains("`blocks.0`"), "{e}");
    assert!(!path.exists());
}
