//! Compares the recipe of transformers with timm's implementations, step by step, on a small network:
//! layer-wise learning rate decay, stochastic depth, warmup with a cosine, and an average of the
//! weights.
//!
//! `scripts/interop` runs it: `FINETUNE_INTEROP_PYTHON` names the Python that runs
//! `tests/interop/recipes.py`. Without it, nothing is compared.

#![allow(clippy::print_stdout, reason = "a test that says how close it is")]

use finetune::{
    Error, Result,
    callback::Ema,
    data::{Arrays, DataLoaders, LoaderOptions},
    learner::{Callback, Learner, Outcome, Scope, Step, Training, WarmupCosine},
    loss::CrossEntropy,
    model::{ArchSpec, WeightsFrom, by_name},
    sample::{Batch, Task},
    seed::Seed,
    tch::{self, Device, Kind, Tensor},
};
use std::{
    collections::BTreeMap,
    env,
    path::Path,
    process::{Command, ExitCode},
};

/// The largest allowed difference of weights, as a fraction of the largest weight of a tensor: Adam
/// divides by the root of squared gradients, which amplifies rounding where gradients are small.
const LIMIT: f64 = 1e-4;

/// The same value as in the Python half.
const STEPS: usize = 9;
const SEED: i64 = 1000;

type Values = BTreeMap<String, Tensor>;

fn main() -> ExitCode {
    let Some(python) = env::var_os("FINETUNE_INTEROP_PYTHON") else {
        println!(
            "interop_recipes: skipped, FINETUNE_INTEROP_PYTHON is not set: see `make interop`"
        );
        return ExitCode::SUCCESS;
    };
    match compare(Path::new(&python)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            println!("recipes: {e}");
            ExitCode::FAILURE
        }
    }
}

fn other(why: impl std::fmt::Display) -> Error {
    Error::unsupported("interop", why.to_string())
}

fn compare(python: &Path) -> Result<bool> {
    let folder = tempfile::tempdir().map_err(other)?;
    let file = folder.path().join("recipes.safetensors");
    let mut command = Command::new(python);
    // Python uses its own libtorch.
    let command = command.arg("tests/interop/recipes.py").arg(&file).env_remove("LD_LIBRARY_PATH");
    if !command.status().map_err(other)?.success() {
        return Err(other("the Python side failed"));
    }
    let values: Values = Tensor::read_safetensors(&file)?.into_iter().collect();
    let first = folder.path().join("first.safetensors");
    let of_first = values.iter().filter_map(|(n, t)| Some((n.strip_prefix("first.")?, t)));
    Tensor::write_safetensors(&of_first.collect::<Vec<_>>(), &first)?;
    let mut ok = true;
    let handles = values.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
    let mut all = Beside { values: handles, differences: vec![] };
    let _ends = train(&values, &first, STEPS, &mut all)?;
    for (step, (loss, weights)) in all.differences.iter().enumerate() {
        let average = train(&values, &first, step + 1, &mut Nothing)?;
        let average = largest(&average, &values, &format!("average.{step}."))?;
        let within = [*loss, *weights, average].iter().all(|d| *d <= LIMIT);
        let verdict = if within { "ok" } else { "NOT OK" };
        println!(
            "recipe step {step}: loss {loss:.1e}  weights {weights:.1e}  average {average:.1e}  {verdict}"
        );
        ok &= within;
    }
    Ok(ok && all.differences.len() == STEPS)
}

/// Trains for `steps` steps, and returns the averaged weights at the end of the fit.
fn train(
    values: &Values,
    first: &Path,
    steps: usize,
    watch: &mut dyn Callback,
) -> Result<Vec<(String, Tensor)>> {
    let classes: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).into();
    let task = Task::Category { vocab: classes.into() };
    let rows = || Arrays::from_tensors(&values["x"], &values["y"], task.clone());
    let options = LoaderOptions::new().bs(4).shuffle(false).device(Device::Cpu).num_workers(0);
    let dls = DataLoaders::from_arrays(rows()?, rows()?, options)?;
    let arch = by_name("test_vit")?.drop_path(0.4)?.image_size(64, 64).split_layers();
    let mut model = ArchSpec::classifier(&arch, 3, 4).build(Device::Cpu, Seed(0))?;
    model.load_pretrained_from(&WeightsFrom::file(first))?;
    let mut learn = Learner::new(dls, model, CrossEntropy::new())?.quiet();
    let recipe = WarmupCosine::new(2).warmup_epochs(0.5).lr(3e-3).layer_decay(0.65).wd(0.05);
    let mut ema = Ema::new().decay(0.99).warmup_power(0.75);
    learn.fit_with(&recipe, &mut [&mut Draws(steps), &mut ema, watch])?;
    let end = learn.model().state_dict();
    Ok(end.into_iter().map(|(name, t)| (name, t.copy())).collect())
}

/// Returns the largest difference of tensors from those of Python with a prefix.
fn largest(ours: &[(String, Tensor)], values: &Values, prefix: &str) -> Result<f64> {
    let mut found: f64 = 0.0;
    for (name, t) in ours {
        let theirs = values
            .get(&format!("{prefix}{name}"))
            .ok_or_else(|| other(format!("no `{prefix}{name}`")))?;
        let size = f64::try_from(theirs.abs().max())?;
        found = found.max(f64::try_from((t - theirs).abs().max())? / size);
    }
    Ok(found)
}

/// Uses Python's draws, and ends after some steps.
#[derive(Debug)]
struct Draws(usize);

impl Callback for Draws {
    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        if !t.at.is_training() {
            return Ok(());
        }
        if t.at.fit_batches == self.0 {
            return Scope::Fit.cancel();
        }
        tch::manual_seed(SEED + t.at.fit_batches as i64);
        Ok(())
    }
}

#[derive(Debug)]
struct Nothing;

impl Callback for Nothing {}

/// Compares the loss and the trained weights of each step.
#[derive(Debug)]
struct Beside {
    values: Values,
    differences: Vec<(f64, f64)>,
}

impl Callback for Beside {
    fn after_batch(&mut self, t: &mut Training, _: &Batch, outcome: &Outcome) -> Step {
        if !t.at.is_training() {
            return Ok(());
        }
        let step = self.differences.len();
        let number = |t: &Tensor| f64::try_from(t.to_kind(Kind::Double));
        let theirs = number(&self.values[&format!("loss.{step}")])?;
        let loss = outcome.loss.as_ref().map(number).transpose()?.unwrap_or(f64::NAN);
        let weights = largest(&t.model.state_dict(), &self.values, &format!("weights.{step}."))?;
        self.differences.push(((loss - theirs).abs() / theirs, weights));
        Ok(())
    }
}
