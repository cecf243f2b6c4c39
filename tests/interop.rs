//! Compares with the real torchvision and fastai, one trial per model.
//!
//! `scripts/interop` writes the folder that `FINETUNE_INTEROP_DIR` names, with
//! `tests/interop/models.py`: random weights, an input and the outputs of every architecture, and
//! fastai's names and groups. Without the folder, each trial is skipped by name. The trials of one small
//! model per family also write TorchScript files there, which the Python half then runs.

#![allow(clippy::print_stdout, reason = "a test that says how close it is")]

use finetune::{
    model::{Arch, ArchSpec, HeadOptions, Model, all, fastai_name},
    seed::Seed,
    tch::{CModule, Device, Kind, Tensor},
};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

/// One small model per family, which is exported.
const EXPORTED: &[&str] = &[
    "resnet18",
    "resnext50_32x4d",
    "xresnet18",
    "vgg11_bn",
    "densenet121",
    "squeezenet1_1",
    "alexnet",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
];

fn main() {
    let arguments = Arguments::from_args();
    let folder = env::var_os("FINETUNE_INTEROP_DIR").map(PathBuf::from);
    if folder.is_none() && !arguments.list {
        println!("interop: skipped, FINETUNE_INTEROP_DIR is not set: see scripts/interop");
    }
    // Networks of timm are compared with known values, in `tests/it/layouts.rs`.
    let torchvision = |arch: &Arch| {
        arch.published().iter().all(|weights| weights.url().contains("download.pytorch.org"))
    };
    let trials = all().into_iter().filter(torchvision).map(|arch| {
        let folder = folder.clone();
        let missing = folder.is_none();
        let name = arch.name().to_owned();
        let run = move || compare(&arch, &folder.ok_or("FINETUNE_INTEROP_DIR is not set")?);
        Trial::test(name, run).with_ignored_flag(missing)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// The values that the Python half wrote for one model.
struct Given {
    state: Vec<(String, Tensor)>,
    others: BTreeMap<String, Tensor>,
    about: Value,
}

impl Given {
    fn read(folder: &Path, name: &str) -> Result<Self, Failed> {
        let about = fs::read(folder.join(format!("{name}.json")))?;
        let (mut state, mut others) = (vec![], BTreeMap::new());
        for (key, t) in Tensor::read_safetensors(folder.join(format!("{name}.safetensors")))? {
            let t = t.to_kind(Kind::Float);
            match key.strip_prefix("state.") {
                Some(name) => state.push((name.to_owned(), t)),
                None => drop(others.insert(key, t)),
            }
        }
        Ok(Self { state, others, about: serde_json::from_slice(&about)? })
    }

    fn strings(&self, key: &str) -> Vec<String> {
        serde_json::from_value(self.about[key].clone()).unwrap_or_default()
    }
}

/// Returns an error unless the difference is at most 1e-4, relative to the largest number if that is
/// below 1.
fn close(what: &str, ours: &Tensor, theirs: &Tensor) -> Result<(), Failed> {
    if ours.size() != theirs.size() {
        return Err(format!("{what}: {:?} instead of {:?}", ours.size(), theirs.size()).into());
    }
    let largest = f64::try_from(theirs.abs().max())?;
    let error = f64::try_from((ours - theirs).abs().max())?;
    println!("{what}: off by {error:.1e}, the largest is {largest:.1e}");
    let limit = 1e-4 * largest.min(1.0);
    if error <= limit && largest > 0.0 {
        return Ok(());
    }
    Err(format!("{what}: off by {error:e} > {limit:e}").into())
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, ours: &T, theirs: &T) -> Result<(), Failed> {
    if ours == theirs {
        return Ok(());
    }
    Err(format!("{what}: {ours:?} instead of {theirs:?}").into())
}

fn compare(arch: &Arch, folder: &Path) -> Result<(), Failed> {
    let name = arch.name();
    let given = Given::read(folder, name)?;
    let _guard = tch::no_grad_guard();
    let mut whole = ArchSpec::classifier(arch, 3, 1000).build(Device::Cpu, Seed(0))?;
    whole.load_state_dict(&given.state)?; // fails if a name or shape differs
    let logits = whole.forward(&given.others["x"], false)?;
    close(&format!("{name}: logits"), &logits, &given.others["logits"])?;
    whole.channels_last();
    let x = given.others["x"].permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
    let last = whole.forward(&x, false)?;
    close(&format!("{name}: logits, channels last"), &last, &given.others["logits"])?;
    drop(whole);

    let spec = ArchSpec::new(arch, 3, 7, HeadOptions::new());
    let mut model = spec.build(Device::Cpu, Seed(0))?;
    load_body(&mut model, &given)?;
    let mut features = Tensor::new();
    let out = model.forward_with(&given.others["x"], false, &mut |child, out| {
        if child != "head" {
            features = out.copy();
        }
    })?;
    close(&format!("{name}: features"), &features, &given.others["features"])?;
    equal("features", &arch.features()?, &given.others["features"].size()[1])?;
    names_and_groups(&model, &given)?;
    if !name.starts_with('x') {
        let published: Vec<(String, String)> =
            serde_json::from_value(given.about["weights"].clone())?;
        weights(arch, &published, given.about["default"] == Value::Bool(true))?;
    }
    if EXPORTED.contains(&name) {
        export(&model, &folder.join(name), &given.others["x"], &out)?;
    }
    Ok(())
}

/// Loads torchvision's weights into the body. The head does not change.
fn load_body(model: &mut Model, given: &Given) -> Result<(), Failed> {
    let own = model.state_dict();
    let theirs: BTreeMap<_, _> = given.state.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let state: Vec<_> = own
        .iter()
        .map(|(name, t)| (name.clone(), theirs.get(name.as_str()).unwrap_or(&t).shallow_clone()))
        .collect();
    Ok(model.load_state_dict(&state)?)
}

/// Compares fastai's names, and its parameters by group.
fn names_and_groups(model: &Model, given: &Given) -> Result<(), Failed> {
    let body = |n: &&String| !n.starts_with("head.");
    let state = model.state_dict();
    let ours: BTreeSet<String> =
        state.iter().map(|(n, _)| n).filter(body).map(|n| fastai_name(n)).collect();
    equal("fastai's names", &ours, &given.strings("names").into_iter().collect())?;
    let theirs: Vec<Vec<String>> = serde_json::from_value(given.about["groups"].clone())?;
    let mut ours = vec![vec![]; theirs.len()];
    for p in model.params().iter().filter(|p| !p.name.starts_with("head.")) {
        let group = ours.get_mut(p.group).ok_or("a group too many")?;
        group.push(fastai_name(&p.name));
    }
    equal("groups", &ours, &theirs)
}

/// Compares the weights that torchvision publishes, and fastai's choice among them.
fn weights(arch: &Arch, theirs: &[(String, String)], newest: bool) -> Result<(), Failed> {
    let ours: BTreeSet<(String, String)> =
        arch.published().iter().map(|w| (w.name.to_owned(), w.url())).collect();
    let chosen = arch.weights().ok_or("no weights")?.name.to_owned();
    equal("published weights", &ours, &theirs.iter().cloned().collect())?;
    // fastai requests the newest weights for architectures it knows, and `pretrained` for others, which
    // torchvision interprets as its first weights.
    let pick = if newest { theirs.last() } else { theirs.first() };
    equal("chosen weights", &Some(&chosen), &pick.map(|w| &w.0))
}

/// Writes TorchScript with its inputs and outputs, and reads it back.
fn export(model: &Model, stem: &Path, x: &Tensor, out: &Tensor) -> Result<(), Failed> {
    let file = stem.with_extension("pt");
    let about = r#"{"vocab": ["a", "b", "c", "d", "e", "f", "g"]}"#;
    model.export_torchscript(&file, &x.narrow(0, 0, 1), about)?;
    let read = CModule::load(&file)?;
    close("torchscript", &read.forward_ts(&[x])?, out)?;
    // Another number of images, of another size.
    let small = x.narrow(0, 0, 1).narrow(2, 0, 80).narrow(3, 8, 72).contiguous();
    let small_out = model.forward(&small, false)?;
    close("torchscript, another size", &read.forward_ts(&[&small])?, &small_out)?;
    let state = model.state_dict();
    let state = state.iter().map(|(n, t)| (format!("state.{n}"), t.contiguous()));
    let given = [("x", x), ("out", out), ("x.small", &small), ("out.small", &small_out)];
    let given = given.map(|(n, t)| (n.to_owned(), t.contiguous()));
    let all: Vec<(String, Tensor)> = given.into_iter().chain(state).collect();
    Ok(Tensor::write_safetensors(&all, stem.with_extension("out"))?)
}
