//! Compares ONNX files of networks with random weights in ONNX Runtime and in tract with libtorch, one line per name.
//!
//! `scripts/interop` runs it: `FINETUNE_INTEROP_PYTHON` names the Python that runs `tests/interop/onnx_run.py`,
//! `FINETUNE_INTEROP_ONNX` the networks, otherwise those of `tests/interop/onnx.txt`. A name stands for the network with its
//! own classifier; `head:NAME` for its body with fastai's head, and `unet:NAME` for its body with a decoder. `all` stands for
//! every network, and `all:A:B` for those at positions A to B. Without the Python it does nothing.

#![allow(clippy::print_stdout, reason = "a test that says how close it is")]

#[path = "interop/peer.rs"]
mod peer;

use finetune::{
    Result,
    model::{ArchSpec, HeadOptions, Model, UnetOptions, by_name, list},
    seed::Seed,
    tch::{self, Device, Kind, Tensor},
};
use finetune_predict::Network;
use ndarray::ArrayD;
use peer::{Peer, other};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    panic::{self, AssertUnwindSafe},
    path::Path,
    process::ExitCode,
    time::Instant,
};

/// Names from all families, for a run without `FINETUNE_INTEROP_ONNX`.
const NAMES: &str = include_str!("interop/onnx.txt");

/// The largest allowed difference of outputs, as a fraction of the largest output.
const LIMIT: f64 = 1e-4;

fn main() -> ExitCode {
    let Some(python) = env::var_os("FINETUNE_INTEROP_PYTHON") else {
        println!("interop_onnx: skipped, FINETUNE_INTEROP_PYTHON is not set: see `make interop`");
        return ExitCode::SUCCESS;
    };
    let names = env::var("FINETUNE_INTEROP_ONNX").unwrap_or_default();
    let mut peer = match Peer::new(Path::new(&python), "tests/interop/onnx_run.py") {
        Ok(peer) => peer,
        Err(e) => {
            println!("{}: {e}", Path::new(&python).display());
            return ExitCode::FAILURE;
        }
    };
    let (mut right, mut wrong) = (0, vec![]);
    for name in wanted(if names.trim().is_empty() { NAMES } else { &names }) {
        let start = Instant::now();
        let run = || compare(&mut peer, &name);
        let found = panic::catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|_| Err(other("a panic".to_owned())));
        let seconds = start.elapsed().as_secs_f64();
        match found {
            Ok(found) => {
                let ok = found.runtime <= LIMIT && found.tract <= LIMIT;
                let verdict = if ok { "ok" } else { "NOT OK" };
                println!(
                    "{name:<44} ONNX Runtime {:.1e}  tract {:.1e}  {verdict}  {seconds:.0} s",
                    found.runtime, found.tract
                );
                if ok { right += 1 } else { wrong.push(name) }
            }
            Err(e) => {
                println!("{name:<44} NOT OK  {e}  {seconds:.0} s");
                wrong.push(name);
            }
        }
    }
    println!("{right} ok, {} not ok {}", wrong.len(), wrong.join(" "));
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the networks for a list of names.
fn wanted(text: &str) -> Vec<String> {
    let mut names = vec![];
    for word in text.split_whitespace() {
        let Some(range) = word.strip_prefix("all") else {
            names.push(word.to_owned());
            continue;
        };
        let every: BTreeSet<(u64, String)> = list("")
            .into_iter()
            .map(|info| {
                let plain = info.name.split('.').next().unwrap_or_default().to_owned();
                (
                    info.parameters,
                    if info.source == "timm" { format!("timm/{plain}") } else { plain },
                )
            })
            .collect();
        let mut ends = range.split(':').filter_map(|n| n.parse().ok());
        let (from, to) = (ends.next().unwrap_or(0), ends.next().unwrap_or(usize::MAX));
        let some = every.into_iter().enumerate().filter(|(i, _)| (from..to).contains(i));
        names.extend(some.map(|(_, (_, name))| name));
    }
    names
}

/// The largest differences, as fractions of the largest output.
struct Found {
    runtime: f64,
    tract: f64,
}

fn compare(peer: &mut Peer, name: &str) -> Result<Found> {
    tch::manual_seed(7);
    let (model, size) = build(name)?;
    let _guard = tch::no_grad_guard();
    randomize(&model, size)?;
    let input = |n: i64| Tensor::randn([n, 3, size[0], size[1]], tch::kind::FLOAT_CPU);
    let folder = tempfile::tempdir().map_err(|e| other(e.to_string()))?;
    let file = folder.path().join("model.onnx");
    let batches = [input(1), input(3)];
    model.export_onnx(&file, &batches[0])?;
    let expected = [model.forward(&batches[0], false)?, model.forward(&batches[1], false)?];
    drop(model);
    let named: Vec<_> = batches.iter().enumerate().map(|(i, x)| (format!("x{i}"), x)).collect();
    Tensor::write_safetensors(&named, folder.path().join("inputs.safetensors"))?;
    peer.ask(&json!({"folder": folder.path()}))?;
    let answers: BTreeMap<String, Tensor> =
        Tensor::read_safetensors(folder.path().join("outputs.safetensors"))?.into_iter().collect();
    let mut found = Found { runtime: 0.0, tract: 0.0 };
    for (i, expected) in expected.iter().enumerate() {
        let answer = answers.get(&format!("y{i}")).ok_or_else(|| other(format!("no y{i}")))?;
        found.runtime = found.runtime.max(difference(answer, expected)?);
    }
    let bytes = fs::read(&file).map_err(|e| other(e.to_string()))?;
    found.tract = difference(&tract(&bytes, &batches[0], &expected[0])?, &expected[0])?;
    Ok(found)
}

/// Runs a file with tract.
fn tract(file: &[u8], x: &Tensor, like: &Tensor) -> Result<Tensor> {
    let shape: Vec<usize> = x.size().iter().map(|n| *n as usize).collect();
    let values = Vec::<f32>::try_from(&x.contiguous().view([-1]))?;
    let input = ArrayD::from_shape_vec(shape, values).map_err(|e| other(e.to_string()))?;
    let out: Vec<f32> = Network::from_bytes(file)?.run(input)?.into_iter().collect();
    Ok(Tensor::f_from_slice(&out)?.f_view(&like.size()[..])?)
}

/// Builds a network and returns the height and width of its images, which are small if the network
/// accepts any size.
fn build(name: &str) -> Result<(Model, [i64; 2])> {
    let (kind, plain) = name.split_once(':').unwrap_or(("", name));
    let mut arch = by_name(plain)?;
    let size = match arch.image_size_of_build() {
        Some([h, w]) if h > 256 => {
            let step = step(plain);
            [h, w].map(|n| (n / 2 / step).max(1) * step)
        }
        Some(size) => size,
        None if kind == "unet" => [64, 96],
        // Smaller images would shrink below the kernel size of some networks.
        None => [128, 96],
    };
    if arch.image_size_of_build().is_some() {
        arch = arch.image_size(size[0], size[1]);
    }
    let spec = match kind {
        "head" => ArchSpec::new(&arch, 3, 7, HeadOptions::new()),
        "unet" => {
            let options = UnetOptions::new().size_hw(size[0] as u32, size[1] as u32);
            ArchSpec::unet(&arch, 3, 5, options)
        }
        _ => ArchSpec::classifier(&arch, 3, 1000),
    };
    Ok((spec.build(Device::Cpu, Seed(1))?, size))
}

/// Returns the number of which image sides must be multiples.
fn step(name: &str) -> i64 {
    let patch = name
        .split("patch")
        .nth(1)
        .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    match patch.and_then(|n| n.parse().ok()) {
        Some(patch) if patch > 8 => patch,
        _ => 32,
    }
}

/// Sets weights so that every parameter matters, and running statistics from a random batch with small
/// changes.
fn randomize(model: &Model, size: [i64; 2]) -> Result<()> {
    const TOKENS: &[&str] = &[
        "pos_embed",
        "pos_embedding",
        "cls_token",
        "class_token",
        "dist_token",
        "reg_token",
        "relative_position_bias_table",
        "attention_biases",
        "latent",
        "freqs",
    ];
    for p in model.params() {
        let own = p.name.rsplit('.').next().unwrap_or_default();
        let mut t = p.tensor.shallow_clone();
        let _ = if TOKENS.contains(&own) {
            t.normal_(0.0, 0.3)
        } else if own.contains("gamma") || own == "layer_scale" {
            t.uniform_(0.2, 0.6)
        } else if t.dim() == 1 && own == "weight" {
            t.uniform_(0.5, 1.5)
        } else if t.dim() <= 1 {
            t.normal_(0.0, 0.1)
        } else {
            let fan = t.numel() as f64 / t.size()[0] as f64;
            let gain = if t.dim() == 4 { 2.0 } else { 1.0 };
            t.normal_(0.0, (gain / fan).sqrt())
        };
    }
    let buffers = |what: &str| -> Vec<Tensor> {
        let named = model.buffers().iter().filter(|(name, _)| name.ends_with(what));
        named.map(|(_, t)| t.shallow_clone()).collect()
    };
    let (mut means, mut vars) = (buffers("running_mean"), buffers("running_var"));
    if means.is_empty() {
        return Ok(());
    }
    // A running value becomes `(1 - m) old + m batch`. Two different old values give the batch's value
    // for any `m`.
    let x = Tensor::randn([4, 3, size[0], size[1]], tch::kind::FLOAT_CPU);
    let mut after = vec![];
    for old in [0.0, 1.0] {
        for t in means.iter_mut().chain(&mut vars) {
            let _ = t.fill_(old);
        }
        tch::manual_seed(8);
        let _ = model.forward(&x, true)?;
        after.push(means.iter().chain(&vars).map(Tensor::copy).collect::<Vec<_>>());
    }
    let batch = |i: usize| {
        let taken: Tensor = 1.0 - (&after[1][i] - &after[0][i]);
        &after[0][i] / taken.clamp_min(1e-6)
    };
    let n = means.len();
    for (i, mean) in means.iter_mut().enumerate() {
        let var = batch(n + i);
        let noise = Tensor::randn_like(mean) * 0.1 * var.sqrt();
        mean.copy_(&(batch(i) + noise));
        let wide = &var * (Tensor::rand_like(&var) + 0.5);
        vars[i].copy_(&(&wide + wide.mean(Kind::Float) + 1e-3));
    }
    Ok(())
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
