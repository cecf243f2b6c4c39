//! Compares networks with the real timm and torchvision, one line per name.
//!
//! `scripts/interop` runs it: `FINETUNE_INTEROP_PYTHON` names the Python that runs
//! `tests/interop/networks.py`, `FINETUNE_INTEROP_NAMES` the networks, otherwise those of `NAMES`.
//! `FINETUNE_INTEROP_WEIGHTS` has lines with a name and a file of published weights, with which photos are
//! classified. Without the Python nothing is compared.

#![allow(clippy::print_stdout, reason = "a test that says how close it is")]

#[path = "interop/peer.rs"]
mod peer;
#[path = "interop/published.rs"]
mod published;

use finetune::{
    Result,
    model::{Arch, ArchSpec, Model, ParamKind, WeightsFrom, all, by_name},
    seed::Seed,
    tch::{self, Device, Kind, Tensor},
};
use peer::{Peer, other};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    env,
    panic::{self, AssertUnwindSafe},
    path::Path,
    process::ExitCode,
};

/// Names from all families, for a run without `FINETUNE_INTEROP_NAMES`.
const NAMES: &str = include_str!("interop/networks.txt");

/// The largest allowed difference of logits, as a fraction of the largest logit.
const LIMIT: f64 = 1e-4;

/// The largest allowed difference of outputs in training mode and of gradients. The batch statistics of
/// four images amplify rounding.
const TRAINING_LIMIT: f64 = 1e-3;

/// The seed of the draws of stochastic depth.
const SEED: i64 = 5;

fn main() -> ExitCode {
    let Some(python) = env::var_os("FINETUNE_INTEROP_PYTHON") else {
        println!(
            "interop_networks: skipped, FINETUNE_INTEROP_PYTHON is not set: see `make interop`"
        );
        return ExitCode::SUCCESS;
    };
    let names = env::var("FINETUNE_INTEROP_NAMES").unwrap_or_default();
    let names = if names.trim().is_empty() { NAMES.to_owned() } else { names };
    let mut peer = match Peer::new(Path::new(&python), "tests/interop/networks.py") {
        Ok(peer) => peer,
        Err(e) => {
            println!("{}: {e}", Path::new(&python).display());
            return ExitCode::FAILURE;
        }
    };
    let mut wrong = vec![];
    let published = env::var("FINETUNE_INTEROP_WEIGHTS").unwrap_or_default();
    let mut right = match photos(Path::new(&python), &published, &mut wrong) {
        Ok(right) => right,
        Err(e) => {
            println!("{}: {e}", Path::new(&python).display());
            return ExitCode::FAILURE;
        }
    };
    for name in names.split_whitespace() {
        match peer.compare(name) {
            Ok(found) => {
                let verdict = if found.is_ok() { "ok" } else { "NOT OK" };
                println!("{name:<44} {:.1e}  {verdict}{}", found.logits, found.rest());
                if found.is_ok() {
                    right += 1;
                } else {
                    wrong.push(name.to_owned());
                }
            }
            Err(e) => {
                println!("{name:<44} -        NOT OK  {e}");
                wrong.push(name.to_owned());
            }
        }
    }
    println!("{right} ok, {} not ok {}", wrong.len(), wrong.join(" "));
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Compares the networks of `lines`, each of a name and a file of published weights, on photos. Returns the number of
/// those that are ok, and adds the names of the others to `wrong`.
fn photos(python: &Path, lines: &str, wrong: &mut Vec<String>) -> std::io::Result<usize> {
    if lines.trim().is_empty() {
        return Ok(0);
    }
    let mut peer = Peer::new(python, "tests/interop/published.py")?;
    let mut right = 0;
    for line in lines.lines() {
        let (name, file) = line.split_once(' ').unwrap_or((line, ""));
        let about = format!("{name} with published weights");
        match published::compare(&mut peer, name, Path::new(file)) {
            Ok(found) => {
                let verdict = if found.is_ok() { "ok" } else { "NOT OK" };
                println!("{about:<44} {:.1e}  {verdict}{}", found.logits, found.rest());
                if found.is_ok() {
                    right += 1;
                } else {
                    wrong.push(about);
                }
            }
            Err(e) => {
                println!("{about:<44} -        NOT OK  {e}");
                wrong.push(about);
            }
        }
    }
    Ok(right)
}

/// The largest relative differences of a network.
#[derive(Default)]
struct Found {
    logits: f64,
    training: Option<f64>,
    gradients: Option<f64>,
    dropped: Option<f64>,
}

impl Found {
    fn is_ok(&self) -> bool {
        let within = |found: Option<f64>| found.is_none_or(|x| x <= TRAINING_LIMIT);
        self.logits <= LIMIT
            && [self.training, self.gradients, self.dropped].into_iter().all(within)
    }

    fn rest(&self) -> String {
        let text = |what: &str, found: Option<f64>| {
            found.map_or(String::new(), |x| format!("  {what} {x:.1e}"))
        };
        text("training", self.training)
            + &text("gradients", self.gradients)
            + &text("drop path", self.dropped)
    }
}

impl Peer {
    fn compare(&mut self, name: &str) -> Result<Found> {
        let arch = by_name(name)?;
        // Plain names that torchvision has are those of torchvision.
        let shipped = all().iter().any(|a| a.name() == name.trim_start_matches("torchvision/"));
        let torchvision = arch.weights().is_some_and(|w| w.repo.is_none()) || shipped;
        let source = if torchvision { "torchvision" } else { "timm" };
        let plain = name.trim_start_matches("torchvision/").trim_start_matches("timm/");
        let folder = tempfile::tempdir().map_err(|e| other(e.to_string()))?;
        let request = json!({"name": plain, "source": source, "folder": folder.path()});
        let answer = self.ask(&request)?;
        let run = || checked(&arch, shipped, &answer, folder.path());
        panic::catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|_| Err(other("the forward pass panicked".to_owned())))
    }
}

/// Returns the largest difference as a fraction of the largest number of `theirs`.
fn difference(ours: &Tensor, theirs: &Tensor) -> Result<f64> {
    if ours.size() != theirs.size() {
        return Err(other(format!("{:?} instead of {:?}", ours.size(), theirs.size())));
    }
    let largest = f64::try_from(theirs.abs().max())?;
    let error = f64::try_from((ours - theirs).abs().max())?;
    if !(largest > 0.0 && largest.is_finite() && error.is_finite()) {
        return Err(other(format!("the outputs reach {largest}, and the difference {error}")));
    }
    Ok(error / largest)
}

fn checked(arch: &Arch, shipped: bool, answer: &Value, folder: &Path) -> Result<Found> {
    let values: BTreeMap<String, Tensor> =
        Tensor::read_safetensors(folder.join("values.safetensors"))?.into_iter().collect();
    let sizes: Vec<[i64; 2]> = serde_json::from_value(answer["sizes"].clone())
        .map_err(|e| other(format!("the sizes: {e}")))?;
    let from = WeightsFrom::file(folder.join("weights.safetensors"));
    let build = |size: [i64; 2], rate: f64| -> Result<Model> {
        let arch = if answer["fixed"] == json!(true) {
            arch.clone().image_size(size[0], size[1])
        } else {
            arch.clone()
        };
        let arch = if shipped { arch } else { arch.dropout(0.0)? };
        // VGG and DenseNet have no stochastic depth.
        let arch = arch.clone().drop_path(rate).unwrap_or(arch);
        let mut model = ArchSpec::classifier(&arch, 3, 1000).build(Device::Cpu, Seed(0))?;
        model.load_pretrained_from(&from)?;
        Ok(model)
    };
    let mut found = Found::default();
    let mut model = build(sizes[0], 0.0)?;
    let params: i64 = model.params().iter().map(|p| p.tensor.numel() as i64).sum();
    if answer["params"] != json!(params) {
        return Err(other(format!("{params} parameters instead of {}", answer["params"])));
    }
    for (i, size) in sizes.iter().enumerate() {
        if i > 0 && answer["fixed"] == json!(true) {
            model = build(*size, 0.0)?;
        }
        let out = tch::no_grad(|| model.forward(&values[&format!("x{i}")], false))?;
        found.logits = found.logits.max(difference(&out, &values[&format!("logits{i}")])?);
    }
    if shipped {
        return Ok(found); // their dropout cannot be disabled
    }
    grouped(arch, answer)?;
    if let Some(theirs) = values.get("dropped") {
        model = build(sizes[0], 0.3)?;
        tch::manual_seed(SEED);
        let out = tch::no_grad(|| model.forward(&values["x_train"], true))?;
        found.dropped = Some(difference(&out, theirs)?);
    }
    model = build(sizes[0], 0.0)?;
    train(&model, &values, &mut found)?;
    Ok(found)
}

/// Compares the parameter groups of layers, and which parameters decay, with those of timm.
fn grouped(arch: &Arch, answer: &Value) -> Result<()> {
    let Some(theirs) = answer["layers"].as_object() else { return Ok(()) };
    let arch = arch.clone().split_layers();
    let model = ArchSpec::classifier(&arch, 3, 1000).build(Device::Cpu, Seed(0))?;
    let last = model.groups() - 1;
    // timm counts each layer of a dense block, and each normalization of a VGG.
    let coarser = ["densenet", "vgg"].iter().any(|family| arch.name().contains(family));
    for p in model.params() {
        // timm trains the frequencies of positions with the rate of the head.
        let coarser = coarser || p.name == "rope.freqs";
        let layer = if coarser { theirs[&p.name][0].clone() } else { json!(last - p.group) };
        let ours = json!([layer, f64::from(u8::from(p.kind == ParamKind::Weight))]);
        if theirs.get(&p.name) != Some(&ours) {
            let theirs = theirs.get(&p.name);
            let why = format!("layer and decay of `{}` are {ours} instead of {theirs:?}", p.name);
            return Err(other(why));
        }
    }
    Ok(())
}

/// Compares outputs in training mode, and the gradients of some parameters.
fn train(model: &Model, values: &BTreeMap<String, Tensor>, found: &mut Found) -> Result<()> {
    let x = &values["x_train"];
    let Some(direction) = values.get("direction") else {
        let out = tch::no_grad(|| model.forward(x, true))?;
        found.training = Some(difference(&out, &values["train"])?);
        return Ok(());
    };
    let out = model.forward(x, true)?;
    found.training = Some(difference(&out, &values["train"])?);
    let loss = (out * direction).sum(Kind::Float) / x.size()[0];
    loss.backward();
    let params: BTreeMap<&str, &Tensor> =
        model.params().iter().map(|p| (p.name.as_str(), &p.tensor)).collect();
    let gradients: Vec<(&str, &Tensor)> =
        values.iter().filter_map(|(name, t)| Some((name.strip_prefix("grad.")?, t))).collect();
    let sizes: Vec<f64> = gradients
        .iter()
        .map(|(_, t)| f64::try_from(t.abs().max()))
        .collect::<std::result::Result<_, _>>()?;
    // The gradient of a bias before a normalization is 0 up to rounding, which grows with the other gradients.
    let rounding = sizes.iter().fold(1e-6, |most: f64, size| most.max(1e-7 * size));
    let mut largest: f64 = 0.0;
    for ((name, theirs), size) in gradients.into_iter().zip(sizes) {
        let own = params.get(name).ok_or_else(|| other(format!("no parameter `{name}`")))?;
        if size < rounding {
            continue;
        }
        largest = largest.max(difference(&own.grad(), theirs)?);
    }
    found.gradients = Some(largest);
    Ok(())
}
