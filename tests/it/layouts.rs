//! Weights with the names of other implementations, and models of this crate as the start of another
//! training.

use crate::pets::{self, BREEDS, photos};
use finetune::{
    Error,
    data::DataLoaders,
    format::{StateDict, Value, read_safetensors, write_pth, write_safetensors},
    model::{
        Arch, ArchSpec, HeadOptions, Model, UnetOptions, WeightsFrom, by_name, densenet121,
        efficientnet_b0, efficientnet_lite0, fastai_name, icnr, mobilenet_v3_small, resnet18,
        resnet34, squeezenet1_1,
    },
    prelude::*,
    seed::Seed,
    transform::Normalize,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The numbers of blocks in the stages of EfficientNet b0 and Lite0.
const STAGES: [usize; 7] = [1, 2, 2, 3, 3, 4, 1];

/// The numbers of blocks in the stages of MobileNet v3 small in timm; the last one is a convolution.
const SMALL: [usize; 6] = [1, 2, 3, 2, 3, 1];

fn model(arch: &Arch, seed: u64) -> Model {
    ArchSpec::new(arch, 3, 2, HeadOptions::new()).build(Device::Cpu, Seed(seed)).unwrap()
}

/// Fills the variables of the body with different noise and returns them.
fn body(model: &Model) -> StateDict {
    let _guard = tch::no_grad_guard();
    let of_body = model.state_dict().into_iter().filter(|(name, _)| !name.starts_with("head."));
    of_body.map(|(name, mut t)| (name, t.uniform_(0.5, 1.5).copy())).collect()
}

/// Returns timm's name for a variable of EfficientNet b0 or Lite0.
fn timm(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let of_two = |layer: &str, names: [&'static str; 2]| names[usize::from(layer == "1")];
    match parts[..] {
        ["features", "0", layer, rest] => format!("{}.{rest}", of_two(layer, ["conv_stem", "bn1"])),
        ["features", "8", layer, rest] => format!("{}.{rest}", of_two(layer, ["conv_head", "bn2"])),
        ["features", stage, block, "block", _, "fc1", rest] => {
            format!("blocks.{}.{block}.se.conv_reduce.{rest}", stage.parse::<usize>().unwrap() - 1)
        }
        ["features", stage, block, "block", _, "fc2", rest] => {
            format!("blocks.{}.{block}.se.conv_expand.{rest}", stage.parse::<usize>().unwrap() - 1)
        }
        ["features", stage, block, "block", part, layer, rest] => {
            let (stage, part) =
                (stage.parse::<usize>().unwrap() - 1, part.parse::<usize>().unwrap());
            // The parts of a block are: expand (not in stage 0), depthwise, squeeze (not in Lite0),
            // project.
            let layers: &[[&str; 2]] = match stage {
                0 => &[["conv_dw", "bn1"], ["conv_pw", "bn2"]],
                _ => &[["conv_pw", "bn1"], ["conv_dw", "bn2"], ["conv_pwl", "bn3"]],
            };
            let names = layers[part.min(layers.len() - 1)];
            format!("blocks.{stage}.{block}.{}.{rest}", of_two(layer, names))
        }
        _ => panic!("{name}"),
    }
}

/// Returns the name in `efficientnet_pytorch` for torchvision's `name`.
fn efficientnet_pytorch(name: &str) -> String {
    efficientnet_pytorch_of_timm(&timm(name))
}

/// Returns the name in `efficientnet_pytorch` for timm's `name`.
fn efficientnet_pytorch_of_timm(name: &str) -> String {
    let (first, rest) = name.split_once('.').unwrap();
    let first = match first {
        "conv_stem" => "_conv_stem",
        "bn1" => "_bn0",
        "conv_head" => "_conv_head",
        "bn2" => "_bn1",
        _ => {
            let parts: Vec<&str> = rest.splitn(3, '.').collect();
            let (stage, block): (usize, usize) =
                (parts[0].parse().unwrap(), parts[1].parse().unwrap());
            let flat = STAGES[..stage].iter().sum::<usize>() + block;
            let renamed = [
                ("se.conv_reduce", "_se_reduce"),
                ("se.conv_expand", "_se_expand"),
                ("conv_dw", "_depthwise_conv"),
                ("conv_pwl", "_project_conv"),
                ("conv_pw", if stage == 0 { "_project_conv" } else { "_expand_conv" }),
                ("bn1", if stage == 0 { "_bn1" } else { "_bn0" }),
                ("bn2", if stage == 0 { "_bn2" } else { "_bn1" }),
                ("bn3", "_bn2"),
            ];
            let (timm, own) = renamed.iter().find(|(timm, _)| parts[2].starts_with(timm)).unwrap();
            return format!("_blocks.{flat}.{own}{}", &parts[2][timm.len()..]);
        }
    };
    format!("{first}.{rest}")
}

/// Returns timm's name for a variable of MobileNet v3 small.
fn timm_mobilenet(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let of_two = |layer: &str, names: [&'static str; 2]| names[usize::from(layer == "1")];
    match parts[..] {
        ["features", "0", layer, rest] => format!("{}.{rest}", of_two(layer, ["conv_stem", "bn1"])),
        ["features", "12", layer, rest] => {
            format!("blocks.5.0.{}.{rest}", of_two(layer, ["conv", "bn1"]))
        }
        ["features", number, "block", part, layer, rest] => {
            let (mut stage, mut block) = (0, number.parse::<usize>().unwrap() - 1);
            while block >= SMALL[stage] {
                block -= SMALL[stage];
                stage += 1;
            }
            let own = match (layer, stage, part) {
                ("fc1", ..) => "se.conv_reduce",
                ("fc2", ..) => "se.conv_expand",
                (_, 0, "0") => of_two(layer, ["conv_dw", "bn1"]),
                (_, 0, _) => of_two(layer, ["conv_pw", "bn2"]),
                (_, _, "0") => of_two(layer, ["conv_pw", "bn1"]),
                (_, _, "1") => of_two(layer, ["conv_dw", "bn2"]),
                _ => of_two(layer, ["conv_pwl", "bn3"]),
            };
            format!("blocks.{stage}.{block}.{own}.{rest}")
        }
        _ => panic!("{name}"),
    }
}

/// Returns the name in torchvision before 0.3.
fn early(name: &str) -> String {
    let numbered = ["norm1", "norm2", "conv1", "conv2"];
    let part = |part: &str| match numbered.contains(&part) {
        true => format!("{}.{}", &part[..4], &part[4..]),
        false => part.to_owned(),
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

/// Writes the variables of a network with names changed by `name`, loads them into another model, and
/// compares.
fn check_layout(arch: &Arch, name: impl Fn(&str) -> String, more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.safetensors");
    let given = body(&model(arch, 1));
    let mut state: StateDict = given.iter().map(|(n, t)| (name(n), t.shallow_clone())).collect();
    state.extend(
        more.iter().map(|n| ((*n).to_owned(), Tensor::zeros([3, 4], tch::kind::FLOAT_CPU))),
    );
    write_safetensors(&file, &state, None).unwrap();
    let mut other = model(arch, 2);
    other.load_pretrained_from(&WeightsFrom::file(&file)).unwrap();
    let loaded: BTreeMap<String, Tensor> = other.state_dict().into_iter().collect();
    for (name, t) in given {
        assert!(loaded[&name].equal(&t), "{}: {name}", arch.name());
    }
}

#[test]
fn names_of_other_implementations_are_known() {
    for arch in [efficientnet_lite0(), efficientnet_b0()] {
        check_layout(&arch, timm, &["classifier.weight", "classifier.bias"]);
        check_layout(&arch, efficientnet_pytorch, &["_fc.weight", "_fc.bias"]);
    }
    for name in ["tf_efficientnet_b0", "tf_efficientnet_lite0"] {
        let arch = by_name(name).unwrap();
        check_layout(&arch, efficientnet_pytorch_of_timm, &["_fc.weight", "_fc.bias"]);
    }
    check_layout(&mobilenet_v3_small(), timm_mobilenet, &["conv_head.weight", "classifier.weight"]);
    check_layout(&densenet121(), early, &["classifier.weight"]);
    check_layout(&squeezenet1_1(), fastai_name, &["1.8.weight"]);
    check_layout(&efficientnet_lite0(), |n| format!("0.model.{}", timm(n)), &["1.4.weight"]);
}

#[test]
fn prefixes_of_wrappers_are_removed() {
    for prefix in
        ["module.", "model.", "backbone.", "encoder.", "module.backbone.", "_orig_mod.model."]
    {
        check_layout(&squeezenet1_1(), |n| format!("{prefix}{n}"), &["criterion.weight"]);
    }
}

/// The sums of all variables, in ascending order.
fn sums(state: &StateDict) -> Vec<f64> {
    let sum = |t: &Tensor| t.sum(tch::Kind::Double).double_value(&[]);
    let mut sums: Vec<f64> = state.iter().map(|(_, t)| sum(t)).collect();
    sums.sort_by(f64::total_cmp);
    sums
}

#[test]
fn networks_of_the_tables_know_other_layouts_and_prefixes() {
    let of = |name: &str| by_name(name).unwrap();
    for name in ["mobilenet_v2", "test_vit"] {
        for prefix in ["module.", "model.backbone."] {
            check_layout(&of(name), |n| format!("{prefix}{n}"), &["criterion.weight"]);
        }
    }
    // A complete network behind a prefix keeps its classifier.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.safetensors");
    let whole = |seed| {
        let spec = ArchSpec::classifier(&of("test_vit"), 3, 5);
        spec.build(Device::Cpu, Seed(seed)).unwrap()
    };
    let given = whole(1).state_dict();
    let wrapped = given.iter().map(|(n, t)| (format!("module.{n}"), t.shallow_clone()));
    write_safetensors(&file, &wrapped.collect::<StateDict>(), None).unwrap();
    let mut other = whole(2);
    other.load_pretrained_from(&WeightsFrom::file(&file)).unwrap();
    assert!(given.iter().zip(&other.state_dict()).all(|(a, b)| a.0 == b.0 && a.1.equal(&b.1)));
    // timm's names of torchvision's network.
    let given = body(&model(&of("timm/mobilenetv2_100"), 1));
    write_safetensors(&file, &given, None).unwrap();
    let mut other = model(&of("mobilenet_v2"), 2);
    other.load_pretrained_from(&WeightsFrom::file(&file)).unwrap();
    let loaded = other.state_dict().into_iter().filter(|(name, _)| !name.starts_with("head."));
    assert_eq!(sums(&given), sums(&loaded.collect()));
}

#[test]
fn a_decoder_stays_new() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.safetensors");
    for arch in [by_name("mobilenet_v2").unwrap(), squeezenet1_1()] {
        let given = body(&model(&arch, 1));
        write_safetensors(&file, &given, None).unwrap();
        let spec = ArchSpec::unet(&arch, 3, 2, UnetOptions::new().size_hw(64, 64));
        let mut unet = spec.build(Device::Cpu, Seed(2)).unwrap();
        let of = |unet: &Model| -> BTreeMap<String, Tensor> {
            unet.state_dict().into_iter().map(|(name, t)| (name, t.copy())).collect()
        };
        let before = of(&unet);
        unet.load_pretrained_from(&WeightsFrom::file(&file)).unwrap();
        let given: BTreeMap<String, Tensor> = given.into_iter().collect();
        for (name, t) in of(&unet) {
            let wanted = given.get(&name).unwrap_or(&before[&name]);
            assert!(t.equal(wanted), "{}: {name}", arch.name());
            assert_eq!(given.contains_key(&name), !name.starts_with("layers."), "{name}");
        }
    }
}

/// The file of a U-Net describes its network. The body of a Swin has variables that are named like those of a decoder.
#[test]
fn the_body_of_a_unet_is_the_start_of_a_classifier_and_of_another_unet() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("unet.safetensors");
    let of = |name: &str| by_name(name).unwrap();
    let tiny = of("swin_tiny_patch4_window7_224").image_size(64, 64);
    let unet = |arch: &Arch, n_out: usize, seed: u64| {
        let spec = ArchSpec::unet(arch, 3, n_out, UnetOptions::new().size_hw(64, 64));
        spec.build(Device::Cpu, Seed(seed)).unwrap()
    };
    // A checkpoint has the prefix.
    let write = |unet: &Model, prefix: &str| {
        let spec = serde_json::to_string(&unet.spec()).unwrap();
        let named = unet.state_dict().into_iter().map(|(n, t)| (format!("{prefix}{n}"), t));
        let about = [("arch".to_owned(), spec)].into_iter().collect();
        write_safetensors(&file, &named.collect::<StateDict>(), Some(about)).unwrap();
    };
    let archs = [(squeezenet1_1(), ""), (of("mobilenet_v2"), "model."), (tiny.clone(), "")];
    for (arch, prefix) in archs {
        let given = unet(&arch, 3, 1);
        write(&given, prefix);
        let given: BTreeMap<String, Tensor> = given.state_dict().into_iter().collect();
        for mut other in [model(&arch, 2), unet(&arch, 2, 2)] {
            let before: Vec<Tensor> = other.state_dict().iter().map(|(_, t)| t.copy()).collect();
            other.load_pretrained_from(&WeightsFrom::file(&file)).unwrap();
            let body: BTreeMap<String, Tensor> = model(&arch, 3).state_dict().into_iter().collect();
            for ((name, now), before) in other.state_dict().iter().zip(before) {
                let of_body = body.contains_key(name) && !name.starts_with("head.");
                let wanted = if of_body { &given[name] } else { &before };
                assert!(now.equal(wanted), "{}: {name}", arch.name());
            }
        }
    }
    // The additional blocks of a deeper body are not a decoder.
    let (mut state, mut about) = read_safetensors(&file).unwrap();
    let deeper =
        ("layers.2.blocks.6.norm1.bias".to_owned(), Tensor::zeros([384], tch::kind::FLOAT_CPU));
    state.push(deeper);
    let spec = about.get_mut("arch").unwrap();
    *spec = spec.replace("swin_tiny", "swin_small");
    write_safetensors(&file, &state, Some(about)).unwrap();
    let e = model(&tiny, 2).load_pretrained_from(&WeightsFrom::file(&file)).unwrap_err();
    let e = e.to_string();
    assert!(e.contains("unexpected: layers."), "{e}");
    assert!(e.ends_with("the weights of `swin_small_patch4_window7_224`"), "{e}");
}

/// Fills each variable with a wave, for which timm's outputs are known.
#[test]
fn lite0_computes_what_timm_computes() {
    let model = model(&efficientnet_lite0(), 1);
    let wave = |n: usize, phase: usize| {
        let waves: Vec<f64> = (0..n).map(|k| (k as f64 * 0.7 + phase as f64).sin()).collect();
        Tensor::from_slice(&waves)
    };
    let mut named: Vec<(String, Tensor)> = model
        .state_dict()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("head."))
        .map(|(name, t)| (timm(&name), t))
        .collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(named.len(), 245);
    let _guard = tch::no_grad_guard();
    for (i, (name, t)) in named.iter_mut().enumerate() {
        let size = t.size();
        let w = wave(t.numel(), i).view(size.as_slice());
        let value = match size[..] {
            [_, c, h, w_] => w * 1.5 / ((c * h * w_) as f64).sqrt(),
            _ if name.ends_with("weight") || name.ends_with("running_var") => w * 0.1 + 1.0,
            _ => w * 0.1,
        };
        t.copy_(&value);
    }
    // timm 1.0.31, `tf_efficientnet_lite0`, `forward_features`.
    let known = [
        ([64, 64], [2, 2], 0.399_185_24, [0.303_554, 0.773_134]),
        ([65, 75], [3, 3], 0.399_002_91, [0.303_606, 0.772_997]),
    ];
    for ([h, w], out, mean, values) in known {
        let x = wave(3 * (h * w) as usize, 0).view([1, 3, h, w]).to_kind(tch::Kind::Float);
        let mut features = Tensor::new();
        let mut visit = |name: &str, y: &Tensor| {
            if name == "features.8" {
                features = y.copy();
            }
        };
        let _ = model.forward_with(&x, false, &mut visit);
        assert_eq!(features.size(), [1, 1280, out[0], out[1]]);
        let found: f64 = f64::try_from(features.mean(tch::Kind::Double)).unwrap();
        assert!((found - mean).abs() < 1e-4, "{found} {mean}");
        for (channel, value) in (1..).zip(values) {
            let found = features.double_value(&[0, channel, -1, -1]);
            assert!((found - value).abs() < 1e-3, "{h}x{w} {channel}: {found} {value}");
        }
    }
}

#[test]
fn an_undefined_tensor_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net");
    let e = write_pth(&file, &Value::Tensor(Tensor::new())).unwrap_err();
    assert!(matches!(e, Error::Torch(_)), "{e}");
    let e = write_safetensors(&file, &[("a".to_owned(), Tensor::new())], None).unwrap_err();
    assert!(matches!(e, Error::Torch(_)), "{e}");
    assert!(!file.exists());
}

#[test]
fn an_unknown_file_names_the_closest_network() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.pth");
    let state = body(&model(&resnet18(), 1)).into_iter();
    let state = state.map(|(n, t)| (Value::Str(format!("backbone.{n}")), Value::Tensor(t)));
    write_pth(&file, &Value::Dict(state.collect())).unwrap();
    // The first missing variables, and the number of the others.
    let names = |arch: &Arch| -> BTreeSet<String> {
        body(&model(arch, 1)).into_iter().map(|(name, _)| name).collect()
    };
    let missing: Vec<String> = (&names(&resnet34()) - &names(&resnet18())).into_iter().collect();
    let (first, others) = missing.split_at(5);
    let of_resnet34 = format!("missing: {} and {} more. ", first.join(", "), others.len());
    for (arch, said) in [
        (resnet34(), of_resnet34.as_str()),
        (efficientnet_lite0(), "missing: "),
        (by_name("mobilenet_v2").unwrap(), "missing: "),
    ] {
        let e = model(&arch, 2).load_pretrained_from(&WeightsFrom::file(&file)).unwrap_err();
        assert!(matches!(e, Error::Checkpoint { .. }), "{e:?}");
        let e = e.to_string();
        assert!(e.contains("`resnet18`") && e.contains("`backbone.`"), "{e}");
        assert!(e.contains(said) && e.len() < 1500, "{e}");
    }
    // A network of the tables.
    let file = folder.path().join("table.safetensors");
    let b1 = model(&by_name("efficientnet_b1").unwrap(), 1);
    write_safetensors(&file, &body(&b1), None).unwrap();
    let e = model(&efficientnet_b0(), 2).load_pretrained_from(&WeightsFrom::file(&file));
    let e = e.unwrap_err().to_string();
    assert!(e.contains("network is `efficientnet_b1`"), "{e}");
    // Names that no network has.
    let state = vec![("a.weight".to_owned(), Tensor::zeros([2], tch::kind::FLOAT_CPU))];
    let file = folder.path().join("other.safetensors");
    write_safetensors(&file, &state, None).unwrap();
    let e = model(&resnet18(), 2).load_pretrained_from(&WeightsFrom::file(&file)).unwrap_err();
    assert!(e.to_string().contains("No compared network"), "{e}");
}

#[test]
fn files_without_weights_are_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let arch = squeezenet1_1();
    let state = body(&model(&arch, 1));
    write_safetensors(at("net.safetensors"), &state, None).unwrap();
    let entries = state.into_iter().map(|(n, t)| (Value::Str(n), Value::Tensor(t)));
    write_pth(at("net.pth"), &Value::Dict(entries.collect())).unwrap();
    let mut other = model(&arch, 2);
    let before: Vec<Tensor> = other.state_dict().iter().map(|(_, t)| t.copy()).collect();
    let mut refused = |name: &str, said: &str| {
        let e = other.load_pretrained_from(&WeightsFrom::file(at(name))).unwrap_err();
        assert!(matches!(e, Error::Checkpoint { .. } | Error::Io { .. }), "{e:?}");
        let e = e.to_string();
        assert!(e.contains(at(name).to_str().unwrap()) && e.contains(said), "{e}");
    };
    for extension in ["pth", "safetensors"] {
        let bytes = fs::read(at("net").with_extension(extension)).unwrap();
        for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
            let name = format!("cut-{length}.{extension}");
            fs::write(at(&name), &bytes[..length]).unwrap();
            refused(&name, "");
        }
        let of_format = if extension == "pth" { "torch.save" } else { "not a safetensors file" };
        let name = format!("page.{extension}");
        fs::write(at(&name), "<!DOCTYPE html><title>Sign in</title>").unwrap();
        refused(&name, of_format);
        let name = format!("pointer.{extension}");
        fs::write(at(&name), "version https://git-lfs.github.com/spec/v1\noid sha256:1").unwrap();
        refused(&name, "git lfs pull");
    }
    fs::create_dir(at("folder")).unwrap();
    refused("folder", "");
    refused("absent.pth", "");
    let after = other.state_dict();
    assert!(after.iter().zip(&before).all(|((_, now), before)| now.equal(before)));
}

/// Returns loaders of a few photos of `breeds`, with 1 or 3 channels.
fn few(breeds: &'static [&'static str], images: ImageBlock, size: u32) -> DataLoaders {
    let block = pets::few(breeds, images).item_tfms(Resize::new(size)).bs(2);
    block.dataloaders(photos()).unwrap()
}

fn start(arch: &Arch, dls: DataLoaders, file: &Path) -> Learner {
    let learner = vision_learner(dls, arch.clone()).weights(file);
    learner.build().unwrap().quiet()
}

fn body_of(learn: &Learner) -> StateDict {
    let all = learn.model().state_dict().into_iter();
    all.filter(|(n, _)| !n.starts_with("head.")).map(|(n, t)| (n, t.copy())).collect()
}

/// Returns the weights of the linear layers of the head.
fn head_of(learn: &Learner) -> StateDict {
    let all = learn.model().state_dict().into_iter();
    all.filter(|(n, t)| n.starts_with("head.") && t.dim() == 2).collect()
}

#[test]
fn a_model_of_this_crate_is_the_start_of_another_training() {
    check_start(&squeezenet1_1());
    check_start(&by_name("mobilenet_v2").unwrap());
}

fn check_start(arch: &Arch) {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("first.safetensors");
    let own = Normalize::new(vec![0.5, 0.4, 0.3], vec![0.2, 0.3, 0.4]).unwrap();
    let mut dls = few(&BREEDS, ImageBlock::rgb(), 64);
    dls.add_batch_tfm(own.clone()).unwrap();
    let learner = vision_learner(dls, arch.clone()).pretrained(false);
    let mut first = learner.build().unwrap().quiet().model_dir(folder.path());
    // Other values than those of a new head, which the seed determines.
    tch::no_grad(|| {
        for (_, t) in head_of(&first) {
            let _ = t.shallow_clone().fill_(0.25);
        }
    });
    first.export(&bundle).unwrap();
    let saved = first.save("weights").unwrap();
    let fastai = first.save("fastai.pth").unwrap();
    let checkpoint = first.training_mut().write_checkpoint("stopped").unwrap();
    let before = body_of(&first);

    for file in [&bundle, &saved, &checkpoint, &fastai] {
        // Two classes instead of three, another size: the body and its normalization are kept.
        let mut second = start(arch, few(&BREEDS[..2], ImageBlock::rgb(), 48), file);
        assert_eq!(second.dls().task().vocab().len(), 2);
        let after = body_of(&second);
        assert!(before.iter().zip(&after).all(|(a, b)| a.0 == b.0 && a.1.equal(&b.1)), "{file:?}");
        // fastai's format has no normalization.
        let expected = if file == &fastai { Normalize::imagenet() } else { own.clone() };
        let specs: Vec<_> = second.dls().batch_tfms().iter().map(|t| format!("{t:?}")).collect();
        assert_eq!(specs, [format!("{expected:?}")], "{file:?}");
        second.fine_tune(1).unwrap();
    }
    // The same number of classes: the head is new all the same.
    let second = start(arch, few(&BREEDS, ImageBlock::rgb(), 64), &bundle);
    let (old, new) = (head_of(&first), head_of(&second));
    assert_eq!(old.len(), 2);
    assert!(old.iter().zip(&new).all(|(a, b)| a.0 == b.0 && !a.1.equal(&b.1)));
    // Gray photos: the first layer is the sum over the colors, and the normalization has one channel.
    let second = start(arch, few(&BREEDS, ImageBlock::gray(), 64), &bundle);
    let after = body_of(&second);
    let (name, first_layer) = before.iter().find(|(_, t)| t.dim() == 4).unwrap();
    let adapted = &after.iter().find(|(n, _)| n == name).unwrap().1;
    let sum = first_layer.sum_dim_intlist(1, true, tch::Kind::Float);
    assert!(adapted.allclose(&sum, 1e-5, 1e-6, false));
    let gray = second.dls().batch_tfms()[0].spec().unwrap();
    assert!(format!("{gray:?}").contains("mean: [0.4]"), "{gray:?}");
    // From gray to RGB: one channel is spread over three.
    let bundle = folder.path().join("gray.safetensors");
    second.export(&bundle).unwrap();
    let third = start(arch, few(&BREEDS, ImageBlock::rgb(), 64), &bundle);
    let spread = &body_of(&third).into_iter().find(|(n, _)| n == name).unwrap().1;
    let back = spread.sum_dim_intlist(1, true, tch::Kind::Float);
    assert!(back.allclose(&sum, 1e-4, 1e-5, false));

    // A network that differs from that of the file.
    let dls = few(&BREEDS, ImageBlock::rgb(), 64);
    let e = vision_learner(dls, resnet18()).weights(bundle.as_path()).build().unwrap_err();
    assert!(e.to_string().ends_with(&format!("the weights of `{}`", arch.name())), "{e}");
}

/// The normalization is that of the weights published for the network, unless another one is set.
#[test]
fn weights_bring_their_normalization() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.safetensors");
    let half = Normalize::new(vec![0.5; 3], vec![0.5; 3]).unwrap();
    let own = Normalize::new(vec![0.1; 3], vec![0.9; 3]).unwrap();
    for (arch, expected) in [
        (efficientnet_lite0(), half.clone()),
        (by_name("test_vit").unwrap(), half),
        (squeezenet1_1(), Normalize::imagenet()),
        (by_name("xresnet18").unwrap(), Normalize::imagenet()), // without published weights
    ] {
        write_safetensors(&file, &body(&model(&arch, 1)), None).unwrap();
        let from = WeightsFrom::file(&file);
        let mut other = model(&arch, 2);
        let found = other.load_pretrained_from(&from).unwrap();
        assert_eq!(found, Some(expected), "{}", arch.name());
        let found = other.load_pretrained_from(&from.normalize(own.clone())).unwrap();
        assert_eq!(found, Some(own.clone()), "{}", arch.name());
    }
}

/// As in fastai, weights bring no normalization if the loaders have one.
#[test]
fn images_are_normalized_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.safetensors");
    let arch = squeezenet1_1();
    write_safetensors(&file, &body(&model(&arch, 1)), None).unwrap();
    let own = Normalize::new(vec![0.5; 3], vec![0.25; 3]).unwrap();
    let mut dls = few(&BREEDS, ImageBlock::rgb(), 48);
    dls.add_batch_tfm(own.clone()).unwrap();
    let learn = start(&arch, dls.clone(), &file);
    let specs: Vec<_> = learn.dls().batch_tfms().iter().map(|t| format!("{t:?}")).collect();
    assert_eq!(specs, [format!("{own:?}")]);
    // Two explicit ones are a contradiction.
    let both = WeightsFrom::file(&file).normalize(Normalize::imagenet());
    let e = vision_learner(dls.clone(), arch.clone()).weights(both.clone()).build().unwrap_err();
    assert!(matches!(&e, Error::Config { option: "WeightsFrom::normalize", .. }), "{e}");
    assert!(vision_learner(dls, arch).weights(both).normalize(false).build().is_ok());
}

/// Files of other programs may have metadata with the same keys.
#[test]
fn metadata_of_other_programs_is_not_a_description() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.safetensors");
    for arch in [by_name("test_vit").unwrap(), squeezenet1_1()] {
        let given = body(&model(&arch, 1));
        let about = [("arch".to_owned(), "ViT, version 2".to_owned())];
        write_safetensors(&file, &given, Some(about.into_iter().collect())).unwrap();
        let mut other = model(&arch, 2);
        other.load_pretrained_from(&WeightsFrom::file(&file)).unwrap();
        let loaded: BTreeMap<String, Tensor> = other.state_dict().into_iter().collect();
        assert!(given.iter().all(|(name, t)| loaded[name].equal(t)), "{}", arch.name());
    }
}

/// Other classes, another number of channels and another image size at once.
#[test]
fn a_transformer_of_this_crate_is_the_start_of_another_training() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("vit.safetensors");
    let arch = by_name("test_vit").unwrap();
    let learner = vision_learner(few(&BREEDS, ImageBlock::rgb(), 64), arch.clone());
    let first = learner.pretrained(false).build().unwrap().quiet();
    first.export(&bundle).unwrap();
    let mut second = start(&arch, few(&BREEDS[..2], ImageBlock::gray(), 96), &bundle);
    let after: BTreeMap<String, Tensor> = body_of(&second).into_iter().collect();
    for (name, t) in body_of(&first) {
        let now = &after[&name];
        match name.as_str() {
            // A class token, and 4×4 or 6×6 patches of 16 pixels.
            "pos_embed" => assert_eq!([t.size()[1], now.size()[1]], [17, 37]),
            "patch_embed.proj.weight" => {
                let sum = t.sum_dim_intlist(1, true, tch::Kind::Float);
                assert!(now.allclose(&sum, 1e-5, 1e-6, false));
            }
            _ => assert!(now.equal(&t), "{name}"),
        }
    }
    second.fine_tune(1).unwrap();
}

/// The maps of the last two stages are smaller than a window, which is then not square.
#[test]
fn relative_positions_fit_windows_that_are_not_square() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("swin.safetensors");
    let swin = by_name("swin_tiny_patch4_window7_224").unwrap();
    // Signs of directions: up or down, plus ten times left or right.
    let directions = |height: i64, width: i64| {
        let sign = |n: i64| (Tensor::arange(2 * n - 1, tch::kind::FLOAT_CPU) - (n - 1)).sign();
        sign(height).unsqueeze(1) + sign(width).unsqueeze(0) * 10
    };
    let is_table = |name: &String| name.ends_with("relative_position_bias_table");
    let square = directions(7, 7).view([-1, 1]);
    let given = model(&swin, 1).state_dict().into_iter().map(|(name, t)| {
        let t = if is_table(&name) { square.expand_as(&t).contiguous() } else { t };
        (name, t)
    });
    write_safetensors(&file, &given.collect::<StateDict>(), None).unwrap();
    let mut other = model(&swin.image_size(160, 96), 2);
    other.load_pretrained_from(&WeightsFrom::file(&file)).unwrap();
    let windows = [[7, 7], [7, 7], [7, 6], [5, 3]];
    for (name, t) in other.state_dict().into_iter().filter(|(name, _)| is_table(name)) {
        let stage: usize = name.split('.').find_map(|part| part.parse().ok()).unwrap();
        let [height, width] = windows[stage];
        let wanted = directions(height, width).view([-1, 1]).expand_as(&t);
        assert!(t.allclose(&wanted, 1e-6, 1e-6, false), "{name}");
    }
}

/// A file of this crate says for which images its positions are.
#[test]
fn positions_of_images_that_are_not_square_keep_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vit.safetensors");
    let vit = by_name("test_vit").unwrap();
    let wide = model(&vit.clone().image_size(64, 144), 1); // 4 × 9 patches of 16 pixels
    let rows = Tensor::arange(4, tch::kind::FLOAT_CPU).view([4, 1, 1]);
    let given = wide.state_dict().into_iter().map(|(name, t)| {
        if name != "pos_embed" {
            return (name, t);
        }
        let size = t.size();
        let map = rows.expand([4, 9, size[2]], false).reshape([1, 36, size[2]]);
        let first = Tensor::zeros([1, size[1] - 36, size[2]], tch::kind::FLOAT_CPU);
        (name, Tensor::cat(&[first, map], 1))
    });
    let spec = serde_json::to_string(&wide.spec()).unwrap();
    let about = [("arch".to_owned(), spec)].into_iter().collect();
    write_safetensors(&file, &given.collect::<StateDict>(), Some(about)).unwrap();
    // The same number of patches, in the other direction.
    let mut high = model(&vit.image_size(144, 64), 2);
    high.load_pretrained_from(&WeightsFrom::file(&file)).unwrap();
    let loaded: BTreeMap<String, Tensor> = high.state_dict().into_iter().collect();
    let map = &loaded["pos_embed"];
    let map = map.narrow(1, map.size()[1] - 36, 36).view([9, 4, -1]);
    let (low, top) = (map.amin([1], true), map.amax([1], true));
    assert!(low.allclose(&top, 1e-5, 1e-5, false), "equal along each row");
    let steps = map.diff(1, 0, None::<&Tensor>, None::<&Tensor>);
    assert!(steps.min().double_value(&[]) > 0.0, "growing from row to row");
}

#[test]
fn what_cannot_be_built_is_an_error() {
    let build = |spec: ArchSpec| spec.build(Device::Cpu, Seed(1)).unwrap_err().to_string();
    let e = build(ArchSpec::classifier(&resnet18(), 3, 1 << 45));
    assert!(e.contains("memory"), "{e}");
    let wide = HeadOptions::new().lin_ftrs(vec![1 << 45]);
    let e = build(ArchSpec::new(&resnet18(), 3, 2, wide.clone()));
    assert!(e.contains("memory"), "{e}");
    let vars = tch::nn::VarStore::new(Device::Cpu);
    let e = wide.build(&vars.root(), 512, 2).unwrap_err();
    assert!(matches!(e, Error::Torch(_)) && e.to_string().contains("memory"), "{e}");
    let e = icnr(&[1 << 45, 512, 1, 1], 2).unwrap_err();
    assert!(matches!(e, Error::Torch(_)) && e.to_string().contains("memory"), "{e}");
    let most = i64::MAX / 4 * 4;
    let e = icnr(&[most, i64::MAX, i64::MAX, 1], 2).unwrap_err();
    assert!(matches!(e, Error::Torch(_)), "{e}");
    let vit = by_name("test_vit").unwrap().image_size(-160, 160);
    let e = build(ArchSpec::new(&vit, 3, 2, HeadOptions::new()));
    assert!(e.contains("-160×160"), "{e}");
    let e = build(ArchSpec::new(
        &Arch::new("mine", |_, _| panic!("no layers")),
        3,
        2,
        HeadOptions::new(),
    ));
    assert!(e.contains("no layers"), "{e}");
    let e = HeadOptions::new().layers(i64::MAX, 1).unwrap_err().to_string();
    assert!(e.contains("9223372036854775807 channels are too many"), "{e}");
    // Networks for one size of image are probed at that size.
    let swin = by_name("swin_tiny_patch4_window7_224").unwrap().cut(-1);
    assert!(
        model(&swin, 1)
            .forward(&Tensor::zeros([1, 3, 224, 224], tch::kind::FLOAT_CPU), false)
            .is_ok()
    );
}
