//! Exported models and checkpoints: predictions equal those of the trained model, and files that do not
//! match are rejected completely.

use super::{
    pets::{BREEDS, first_of, photos},
    process,
    reports_data::folders,
};
use finetune::{
    Error,
    data::{ImageSource, IndexSplitter},
    format::{read_safetensors, write_safetensors},
    image::Image,
    learner::{ExportOptions, Learner, PredictOptions},
    model::{HeadOptions, resnet34},
    prelude::*,
    sample::Sample,
    seed::Rng,
    transform::{ItemTransform, Normalize},
};
use serde_json::{Value, json};
use std::{
    env, fs,
    path::{Path, PathBuf},
    thread,
};
use tch::Kind;

fn block(breeds: &'static [&'static str]) -> DataBlock<CategoryBlock> {
    DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(first_of(breeds, 6))
        .splitter(RandomSplitter::new(0.3).seed(1))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$").unwrap()))
        .item_tfms(Resize::new(72))
        .batch_tfms(aug_transforms().size(64))
        .bs(4)
        .num_workers(0)
        .device(Device::Cpu)
}

fn learner(
    breeds: &'static [&'static str],
    arch: finetune::model::Arch,
    folder: &Path,
) -> Result<Learner> {
    let dls = block(breeds).dataloaders(photos())?;
    Ok(vision_learner(dls, arch).pretrained(false).build()?.quiet().model_dir(folder))
}

#[test]
fn a_predictor_can_be_sent_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Predictor>();
}

/// Returns the number of threads of this process.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
#[ignore = "the other half of the next test, in a process of its own"]
#[cfg(target_os = "linux")]
fn server_of_one() {
    tch::set_num_threads(1); // libtorch's threads
    let before = threads();
    let served = Predictor::load(env::var("SERVED").unwrap(), Device::Cpu).unwrap();
    let answer = served.predict(first_of(&BREEDS, 6)(&photos()).unwrap().remove(0)).unwrap();
    assert_eq!(answer.probs.len(), 3);
    assert_eq!(threads(), before);
}

#[test]
#[cfg(target_os = "linux")]
fn serving_starts_no_threads() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pets.safetensors");
    learner(&BREEDS, resnet18(), folder.path())?.export(&file)?;
    let (passed, said) = process::run(process::test("served::server_of_one").env("SERVED", &file));
    assert!(passed, "{said}");
    Ok(())
}

#[test]
fn a_predictor_in_bf16_predicts_like_a_learner_in_bf16() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pets.safetensors");
    let learn = learner(&BREEDS, resnet18(), folder.path())?;
    learn.export(&file)?;
    let photo = first_of(&BREEDS, 6)(&photos())?.remove(0);
    let full = Predictor::load(&file, Device::Cpu)?.predict(&photo)?;
    let half = Predictor::load(&file, Device::Cpu)?.to_bf16().predict(&photo)?;
    let expected = learn.to_bf16().predict(&photo)?;
    assert_eq!(half.probs, expected.probs);
    assert_ne!(half.probs, full.probs);
    for (half, full) in half.probs.iter().zip(&full.probs) {
        assert!((half - full).abs() < 0.02, "{half} {full}");
    }
    Ok(())
}

#[test]
fn an_exported_model_decodes_at_the_reduced_size_of_the_learner() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pets.safetensors");
    let all = first_of(&BREEDS, 4)(&photos())?;
    let dls = DataBlock::blocks(ImageBlock::rgb().reduce_to(16), CategoryBlock::new())
        .get_items(first_of(&BREEDS, 4))
        .splitter(IndexSplitter::new(vec![0, 5]))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$").unwrap()))
        .item_tfms(Resize::new(64))
        .batch_tfms(Normalize::imagenet())
        .bs(5)
        .num_workers(0)
        .device(Device::Cpu)
        .dataloaders(photos())?;
    let mut learn = vision_learner(dls, resnet18()).pretrained(false).build()?.quiet();
    learn.export(&file)?;
    let valid = learn.get_preds()?.preds;
    let served = Predictor::load(&file, Device::Cpu)?;
    let far =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    for (row, item) in [0, 5].into_iter().enumerate() {
        let reduced = ImageBlock::rgb().reduce_to(16).open(&(&all[item]).into(), "reduced")?;
        let full = ImageBlock::rgb().open(&(&all[item]).into(), "full")?;
        assert!(reduced.width() * 4 < full.width(), "{}", all[item].display());
        let valid = valid.row(row).to_vec();
        let of_file = served.predict(&all[item])?.probs;
        assert!(far(&of_file, &valid) < 1e-5, "{of_file:?} {valid:?}");
        assert!(far(&served.predict(reduced)?.probs, &valid) < 1e-5);
        assert!(far(&served.predict(full)?.probs, &valid) > 1e-4, "reduced images differ");
    }
    Ok(())
}

#[test]
fn an_exported_model_predicts_like_the_trained_one() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let mut learn = learner(&BREEDS, resnet18(), folder.path())?;
    learn.fit_one_cycle(1, 1e-3)?;
    let file = folder.path().join("pets.safetensors");
    learn.export(&file)?;
    let served = Predictor::load(&file, Device::Cpu)?.batch_size(4);
    let some = first_of(&BREEDS, 6)(&photos())?;
    let expected: Vec<_> = some.iter().map(|p| learn.predict(p)).collect::<Result<_>>()?;
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);

    // Paths, bytes, decoded images and tensors result in the same predictions.
    let batch = served.predict_batch(&some)?;
    assert_eq!(batch.len(), 18);
    for (a, b) in batch.iter().zip(&expected) {
        assert!(close(&a.probs, &b.probs), "{a:?} {b:?}");
        assert_eq!(a.label, b.label);
    }
    let bytes = fs::read(&some[0]).unwrap();
    let image = ImageBlock::rgb().open(&bytes.clone().into(), "bytes")?;
    let mixed: [ImageSource; 3] = [(&some[0]).into(), bytes.into(), image.clone().into()];
    for answer in served.predict_batch(mixed)? {
        assert!(close(&answer.probs, &expected[0].probs));
    }
    let (w, h) = (i64::from(image.width()), i64::from(image.height()));
    let tensor = Tensor::from_slice(&image.into_pixels()).view([1, h, w, 3]).permute([0, 3, 1, 2]);
    assert!(close(&served.predict_tensor(&tensor)?[0].probs, &expected[0].probs));
    let ready = learn.dls().valid().one_batch()?.x;
    let ready = served.predict_tensor(&ready)?;
    assert!(close(&ready[0].probs, &learn.get_preds()?.preds.row(0).to_vec()));

    let top = batch[0].top_k(2);
    assert_eq!(top.len(), 2);
    assert_eq!(top[0], (batch[0].label.clone(), batch[0].probs[batch[0].index]));
    assert!(top[0].1 >= top[1].1);
    assert_eq!(batch[0].top_k(9).len(), 3);

    // The file has the permissions of any new file.
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    let permissions = |file: &Path| fs::metadata(file).unwrap().permissions();
    assert_eq!(permissions(&file), permissions(&plain));

    // From memory and on another thread.
    let served = Predictor::from_bytes(&fs::read(&file).unwrap(), Device::Cpu)?;
    let photo = some[0].clone();
    let answer = thread::spawn(move || served.predict(photo).unwrap()).join().unwrap();
    assert!(close(&answer.probs, &expected[0].probs));
    let served = Predictor::load(&file, Device::Cpu)?;
    assert!(served.predict_batch(Vec::<PathBuf>::new())?.is_empty());
    let e = served.predict("absent.jpg").unwrap_err().to_string();
    assert!(e.contains("absent.jpg"), "{e}");
    let e = served.predict(b"no image".to_vec()).unwrap_err().to_string();
    assert!(e.contains("image 0"), "{e}");
    let flat = Tensor::zeros([1, 5, 64, 64], (Kind::Float, Device::Cpu));
    let e = served.predict_tensor(&flat).unwrap_err().to_string();
    assert!(e.contains("[1, 5, 64, 64]"), "{e}");
    Ok(())
}

#[test]
fn images_of_another_size_are_an_error_with_their_number_in_the_call() -> Result<()> {
    let folder = folders(&["photos"]);
    let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .splitter(RandomSplitter::new(0.25).seed(1))
        .get_y(parent_label)
        .bs(2)
        .num_workers(0)
        .device(Device::Cpu)
        .dataloaders(folder.path())?;
    let file = folder.path().join("any_size.safetensors");
    vision_learner(dls, resnet18()).pretrained(false).build()?.quiet().export(&file)?;
    let served = Predictor::load(&file, Device::Cpu)?.batch_size(2);

    let image = |side: u32| Image::new(side, side, 3, vec![100; (side * side * 3) as usize]);
    let predict = |sides: &[u32]| {
        let images = sides.iter().map(|side| image(*side)).collect::<Result<Vec<_>>>()?;
        served.predict_batch(images)
    };
    assert_eq!(predict(&[48; 5])?.len(), 5);
    // Within a batch and in a later one.
    for (sides, two) in [
        (vec![40, 48], ["image 0", "image 1"]),
        (vec![40, 40, 48, 48], ["image 0", "image 2"]),
        (vec![40, 40, 40, 48], ["image 2", "image 3"]),
        (vec![40, 40, 40, 40, 48], ["image 0", "image 4"]),
    ] {
        let e = predict(&sides).unwrap_err();
        let Error::Collate { first, first_size, other, other_size, .. } = &e else {
            panic!("{sides:?}: {e}")
        };
        assert_eq!([first.as_str(), other.as_str()], two, "{sides:?}");
        assert_eq!((*first_size, *other_size), ((40, 40), (48, 48)), "{sides:?}");
    }
    let good = fs::read(&get_image_files(folder.path())?[0]).unwrap();
    let (bad, at_3) = (b"no image".to_vec(), vec![good.clone(), good.clone(), good.clone()]);
    let e = served.predict_batch([at_3, vec![bad, good]].concat()).unwrap_err().to_string();
    assert!(e.starts_with("image 3 cannot be decoded"), "{e}");
    Ok(())
}

/// Calls all methods of a model.
fn weights(learn: &Learner) -> Vec<f64> {
    let sum = |t: &Tensor| f64::try_from(t.to_kind(Kind::Double).abs().sum(None)).unwrap();
    learn.model().state_dict().iter().map(|(_, t)| sum(t)).collect()
}

#[test]
fn a_checkpoint_of_another_model_is_rejected_completely() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let mut learn = learner(&BREEDS, resnet18(), folder.path())?;
    learn.fit(1, 1e-3)?;
    for name in ["small", "small.pth"] {
        learn.save(name)?;
        let mut deep = learner(&BREEDS, resnet34(), folder.path())?;
        let before = weights(&deep);
        let e = deep.load(name).unwrap_err().to_string();
        assert!(e.contains(name) && e.contains("missing: layer1.2.bn1.bias"), "{e}");
        assert_eq!(weights(&deep), before);

        let mut two = learner(&["Abyssinian", "Bengal"], resnet18(), folder.path())?;
        let before = weights(&two);
        let e = two.load(name).unwrap_err().to_string();
        let why = match name {
            "small" => "is for the classes [\"Abyssinian\", \"Bengal\", \"american_bulldog\"]",
            _ => "of another shape: head.8.weight is [3, 512] instead of [2, 512]",
        };
        assert!(e.contains(why), "{e}");
        assert_eq!(weights(&two), before);
        assert!(two.training_mut().opt.state().is_empty(), "nor is the optimizer's state");
    }
    // The error of weights alone lists all differences.
    fs::remove_file(folder.path().join("small.opt.safetensors")).unwrap();
    let e = learner(&BREEDS, resnet34(), folder.path())?.load("small").unwrap_err().to_string();
    let first_and_last = ["missing: layer1.2.bn1.bias, ", ", layer4.2.conv2.weight"];
    assert!(first_and_last.iter().all(|name| e.contains(name)), "{e}");
    assert_eq!(e.matches(".running_var").count(), 16, "every name: {e}");
    let mut small = learner(&BREEDS, resnet18(), folder.path())?;
    learner(&BREEDS, resnet34(), folder.path())?.save("deep")?;
    fs::remove_file(folder.path().join("deep.opt.safetensors")).unwrap();
    let e = small.load("deep").unwrap_err().to_string();
    assert!(e.contains("unexpected: layer1.2.bn1.bias"), "{e}");
    // Missing, unexpected and differing variables at once.
    learn.save("small")?;
    let file = folder.path().join("small.safetensors");
    let (mut state, about) = read_safetensors(&file)?;
    state.retain(|(name, _)| name != "conv1.weight" && name != "head.8.weight");
    state.push(("conv9.weight".into(), Tensor::from(1_f32)));
    state.push(("head.8.weight".into(), Tensor::zeros([2, 512], tch::kind::FLOAT_CPU)));
    write_safetensors(&file, &state, Some(about))?;
    let mut three = learner(&BREEDS, resnet18(), folder.path())?;
    let before = weights(&three);
    let e = three.load("small").unwrap_err().to_string();
    let said = "missing: conv1.weight; unexpected: conv9.weight; of another shape: head.8.weight is \
                [2, 512] instead of [3, 512]";
    assert!(e.contains(said), "{e}");
    assert_eq!(weights(&three), before);
    // If only the optimizer's state does not match, the weights do not change either.
    learn.save("small")?;
    let file = folder.path().join("small.opt.safetensors");
    let (mut state, about) = read_safetensors(&file)?;
    state.pop();
    write_safetensors(&file, &state, Some(about))?;
    let before = weights(&small);
    let e = small.load("small").unwrap_err().to_string();
    assert!(e.contains("small.opt.safetensors"), "{e}");
    assert_eq!(weights(&small), before);
    assert!(small.training_mut().opt.state().is_empty());
    Ok(())
}

#[test]
fn a_file_of_another_version_or_with_an_unknown_transform_is_rejected() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let learn = learner(&BREEDS, resnet18(), folder.path())?;
    let file = folder.path().join("pets.safetensors");
    learn.export(&file)?;
    let (state, about) = read_safetensors(&file)?;
    let rewritten = |change: &dyn Fn(&mut finetune::format::Metadata)| {
        let mut about = about.clone();
        change(&mut about);
        write_safetensors(&file, &state, Some(about)).unwrap();
        Predictor::load(&file, Device::Cpu).unwrap_err().to_string()
    };
    let edit = |from: &'static str, to: &'static str| {
        move |about: &mut finetune::format::Metadata| {
            let export = about.get_mut("export").unwrap();
            assert!(export.contains(from), "{export}");
            *export = export.replacen(from, to, 1);
        }
    };
    let e = rewritten(&|about| drop(about.insert("finetune".into(), "99".into())));
    assert!(e.contains("version 99"), "{e}");
    let e = rewritten(&|about| drop(about.remove("export")));
    assert!(e.contains("not written by `export`"), "{e}");
    let e = rewritten(&edit("\"transform\":\"resize\"", "\"transform\":\"sparkle\""));
    assert!(e.contains("sparkle"), "{e}");
    let e = rewritten(&edit("resnet18", "resnet9000"));
    assert!(e.contains("resnet9000"), "{e}");
    let e = rewritten(&edit("resnet18", "resnet34"));
    assert!(e.contains("missing: layer"), "{e}");
    // 27 GB, if the network were built first.
    let e = rewritten(&edit("resnet18", "vit_7b_patch16_dinov3"));
    assert!(e.contains("larger model"), "{e}");
    let e = rewritten(&edit("\"n_out\":3", "\"n_out\":4"));
    assert!(e.contains("head.8.weight is [3, 512] instead of [4, 512]"), "{e}");
    let e = rewritten(&edit("\"n_out\":3", "\"n_out\":9000000000000"));
    assert!(e.contains("larger model"), "{e}");
    // The description in another form of JSON, with many small layers, with images larger than any
    // memory.
    let set = |at: &'static str, to: Value| {
        move |about: &mut finetune::format::Metadata| {
            let export = about.get_mut("export").unwrap();
            let mut all: Value = serde_json::from_str(export).unwrap();
            *all.pointer_mut(at).unwrap() = to.clone();
            *export = all.to_string();
        }
    };
    let e = rewritten(&set("/arch/head", json!([[9_000_000_000_i64]])));
    assert!(e.contains("larger model"), "{e}");
    let e = rewritten(&set("/arch/head/lin_ftrs", json!(vec![1; 100_000])));
    assert!(e.contains("larger model"), "{e}");
    let e = rewritten(&set("/arch/head", json!(null)));
    assert!(e.contains("missing: fc.bias, fc.weight"), "{e}");
    let e = rewritten(&set("/arch/n_in", json!(1_i64 << 40)));
    assert!(e.contains("larger model"), "{e}");
    let e = rewritten(&set("/item_tfms/0/width", json!(u32::MAX)));
    assert!(e.contains("pixels are allowed"), "{e}");
    let e = rewritten(&edit("\"Bengal\",", ""));
    assert!(e.contains("3 outputs for a vocabulary of 2"), "{e}");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let e = Predictor::load(&file, Device::Cpu).unwrap_err();
    assert!(matches!(&e, Error::Checkpoint { path, .. } if *path == file), "{e}");
    Ok(())
}

#[test]
fn a_checkpoint_describes_itself_and_another_version_is_rejected() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let dls = block(&BREEDS).batch_tfms(Normalize::imagenet()).dataloaders(photos())?;
    let learn = vision_learner(dls, resnet18()).pretrained(false).build()?.quiet();
    let mut learn = learn.model_dir(folder.path());
    learn.save("stage")?;
    let file = folder.path().join("stage.safetensors");
    let (state, mut about) = read_safetensors(&file)?;
    let field = |key: &str| serde_json::from_str::<Value>(&about[key]).unwrap();
    assert_eq!(field("arch")["arch"], "resnet18");
    assert_eq!(field("task")["vocab"], json!(&BREEDS));
    assert_eq!(field("item_tfms")[0]["transform"], "resize");
    let batch = field("batch_tfms").to_string();
    assert!(batch.contains("normalize") && batch.contains("0.485"), "{batch}");
    about.insert("finetune".into(), "99".into());
    write_safetensors(&file, &state, Some(about))?;
    let before = weights(&learn);
    let e = learn.load("stage").unwrap_err().to_string();
    assert!(e.contains("stage.safetensors") && e.contains("version 99"), "{e}");
    assert_eq!(weights(&learn), before);
    Ok(())
}

/// A transform that is code and cannot be exported.
#[derive(Debug)]
struct Sparkle;

impl ItemTransform for Sparkle {
    fn apply(&self, sample: Sample, _: finetune::sample::Split, _: &mut Rng) -> Result<Sample> {
        Ok(sample)
    }
}

#[test]
fn a_user_transform_that_cannot_be_exported_is_named() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let dls = block(&BREEDS).item_tfms(Sparkle).dataloaders(photos())?;
    let learn = vision_learner(dls, resnet18()).pretrained(false).build()?.quiet();
    let file = folder.path().join("pets.safetensors");
    let e = learn.export(&file).unwrap_err().to_string();
    assert!(e.contains("Sparkle"), "{e}");
    assert!(!file.exists());
    Ok(())
}

#[test]
fn weights_that_are_nan_are_not_exported_unless_allowed() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let learn = learner(&BREEDS, resnet18(), folder.path())?;
    let _spoiled =
        tch::no_grad(|| learn.model().params()[0].tensor.shallow_clone().fill_(f64::NAN));
    let (bundle, script) = (folder.path().join("pets.safetensors"), folder.path().join("pets.pt"));
    for result in [learn.export(&bundle), learn.export_torchscript(&script)] {
        assert!(matches!(result, Err(Error::NonFiniteWeights { .. })), "{result:?}");
    }
    assert!(!bundle.exists() && !script.exists());
    learn.export(ExportOptions::new(&bundle).allow_non_finite(true))?;
    learn.export_torchscript(ExportOptions::new(&script).allow_non_finite(true))?;
    assert!(script.exists());
    let served = Predictor::load(&bundle, Device::Cpu)?;
    let e = served.predict(first_of(&BREEDS, 6)(&photos())?.remove(0)).unwrap_err().to_string();
    assert!(e.contains("NaN"), "{e}");
    Ok(())
}

/// A softmax of an infinite output is NaN, and the first category would be the label.
#[test]
fn infinite_outputs_are_errors() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pets.safetensors");
    let head = HeadOptions::new().bn_final(true);
    let learn = vision_learner(block(&BREEDS).dataloaders(photos())?, resnet18());
    let mut learn = learn.pretrained(false).head(head).build()?.quiet();
    let last = learn.model().params().iter().rfind(|p| p.name.ends_with(".bias")).unwrap();
    let bias = last.tensor.shallow_clone();
    assert_eq!(bias.size(), [BREEDS.len() as i64]);
    let _spoiled = tch::no_grad(|| bias.narrow(0, 1, 1).fill_(f64::INFINITY));
    learn.export(ExportOptions::new(&file).allow_non_finite(true))?;
    let served = Predictor::load(&file, Device::Cpu)?;
    let photo = first_of(&BREEDS, 6)(&photos())?.remove(0);
    let all = [
        learn.get_preds().map(drop),
        learn.get_preds_with(&PredictOptions::new().activation(false)).map(drop),
        learn.predict(photo.clone()).map(drop),
        served.predict(photo).map(drop),
    ];
    for said in all {
        let e = said.unwrap_err();
        assert!(matches!(e, Error::Computation { .. }), "{e}");
        assert!(e.to_string().contains("outputs are infinite"), "{e}");
    }
    Ok(())
}
