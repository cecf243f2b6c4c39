//! Runs that continue in the other library: fastai's checkpoints loaded here, and ours in fastai.
//!
//! Needs a Python with fastai: `FINETUNE_PYTHON=python3 cargo test --test interop_fastai -- --ignored`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panics, and says what it measured"
)]

use finetune::{
    Result,
    data::{Arrays, DataLoaders, LoaderOptions},
    format::{read_safetensors, write_safetensors},
    learner::{Learner, PredictOptions},
    loss::CrossEntropy,
    model::{ArchSpec, HeadOptions, UnetOptions, resnet18},
    sample::Task,
    seed::Seed,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use tch::{Device, Tensor};

/// Runs the Python half.
fn python(script: &str, step: &str, folder: &Path) {
    let python =
        std::env::var("FINETUNE_PYTHON").expect("FINETUNE_PYTHON names a Python with fastai");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script);
    let out = Command::new(python)
        .arg(script)
        .arg(step)
        .arg(folder)
        .env("OMP_NUM_THREADS", "1")
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .expect("python runs");
    let text = String::from_utf8_lossy(&out.stdout);
    println!("{text}");
    assert!(out.status.success(), "{step}: {text}\n{}", String::from_utf8_lossy(&out.stderr));
}

struct Shared {
    folder: PathBuf,
    data: Vec<(String, Tensor)>,
}

impl Shared {
    fn tensor(&self, name: &str) -> Tensor {
        let found = self.data.iter().find(|(n, _)| n == name);
        found.unwrap_or_else(|| panic!("no {name}")).1.shallow_clone()
    }

    /// Returns a learner with the network and batches of the Python half, but other weights.
    fn learner(&self) -> Result<Learner> {
        let vocab: Vec<String> = ["a", "b", "c"].map(ToOwned::to_owned).into();
        let task = || Task::Category { vocab: vocab.clone().into() };
        let rows = |x, y| Arrays::from_tensors(&self.tensor(x), &self.tensor(y), task());
        let (train, valid) = (rows("x_train", "y_train")?, rows("x_valid", "y_valid")?);
        let options = LoaderOptions::new().bs(8).shuffle(false).drop_last(true);
        let dls = DataLoaders::from_arrays(train, valid, options.device(Device::Cpu))?;
        let spec = ArchSpec::new(&resnet18(), 3, 3, HeadOptions::new().ps(vec![0.0]));
        let model = spec.build(Device::Cpu, Seed(9))?;
        Ok(Learner::new(dls, model, CrossEntropy::new())?.quiet().model_dir(&self.folder))
    }
}

fn preds(learn: &mut Learner) -> Result<Tensor> {
    let all = learn.get_preds()?.preds;
    Ok(Tensor::from_slice(&all.iter().copied().collect::<Vec<f32>>())
        .view([all.nrows() as i64, -1]))
}

#[track_caller]
fn close(what: &str, a: &Tensor, b: &Tensor, tolerance: f64) {
    let worst = f64::try_from((a - b).abs().max()).unwrap();
    println!("{what}: {worst:.2e}, allowed {tolerance:.0e}");
    assert!(worst <= tolerance, "{what}: differ by {worst}");
}

#[test]
#[ignore = "needs a Python with fastai, named by FINETUNE_PYTHON"]
fn a_run_started_in_one_library_continues_in_the_other() -> Result<()> {
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    python("fastai_learner.py", "make", folder.path());
    let data = read_safetensors(folder.path().join("data.safetensors"))?.0;
    let shared = Shared { folder: folder.path().to_owned(), data };
    let lrs = || 1e-4..=1e-3;

    // fastai's file with its optimizer: the predictions are equal, and the fit continues.
    let mut learn = shared.learner()?;
    learn.load("theirs.pth")?;
    let (before, after) = (shared.tensor("preds_before"), shared.tensor("preds_after"));
    close("fastai's predictions", &preds(&mut learn)?, &before, 1e-5);
    learn.save("ours.pth")?;
    learn.save("named")?;
    learn.fit_one_cycle(1, lrs())?;
    let losses: Vec<f64> = learn.recorder().raw_losses.clone();
    close("fit continued from fastai's file", &preds(&mut learn)?, &after, 1e-5);
    assert!(losses.iter().all(|l| l.is_finite()));
    // The moments matter: without them the fit takes another course.
    let mut cold = shared.learner()?;
    cold.load("theirs_weights.pth")?;
    close("weights alone", &preds(&mut cold)?, &before, 1e-5);
    cold.fit_one_cycle(1, lrs())?;
    let (warm, cold) = (preds(&mut learn)?, preds(&mut cold)?);
    let apart = |p: &Tensor| f64::try_from((p - &after).abs().max()).unwrap();
    println!("with the optimizer's state {:.2e}, without {:.2e}", apart(&warm), apart(&cold));
    assert!(apart(&warm) * 5.0 < apart(&cold));

    // A run that starts in this crate.
    let mut learn = shared.learner()?;
    learn.load("new.pth")?;
    learn.fit_one_cycle(1, lrs())?;
    learn.save("started.pth")?;
    let first = preds(&mut learn)?;
    learn.fit_one_cycle(1, lrs())?;
    let second = preds(&mut learn)?;
    let ours = [("preds_before".to_owned(), first), ("preds_after".to_owned(), second)];
    write_safetensors(folder.path().join("ours.safetensors"), &ours, None)?;
    let mut learn = shared.learner()?;
    learn.load("theirs_weights.pth")?;
    learn.save("weights_only.pth")?;
    python("fastai_learner.py", "check", folder.path());
    Ok(())
}

/// Exchanges a U-Net with attention in both directions: weights, moments and running vectors.
#[test]
#[ignore = "needs a Python with fastai, named by FINETUNE_PYTHON"]
fn a_unet_is_exchanged_in_both_directions() -> Result<()> {
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    python("fastai_unet.py", "make", folder.path());
    let data = read_safetensors(folder.path().join("data.safetensors"))?.0;
    let shared = Shared { folder: folder.path().to_owned(), data };
    let learner = || -> Result<Learner> {
        let codes: Vec<String> = (0..4).map(|i| i.to_string()).collect();
        let task = || Task::Mask { codes: codes.clone().into(), ignored: None };
        let rows = |x, y| Arrays::from_tensors(&shared.tensor(x), &shared.tensor(y), task());
        let (train, valid) = (rows("x_train", "y_train")?, rows("x_valid", "y_valid")?);
        let options = LoaderOptions::new().bs(4).shuffle(false).drop_last(true);
        let dls = DataLoaders::from_arrays(train, valid, options.device(Device::Cpu))?;
        let options = UnetOptions::new().size_hw(64, 64).self_attention(true).blur(true);
        let model = ArchSpec::unet(&resnet18(), 3, 4, options).build(Device::Cpu, Seed(9))?;
        let loss = CrossEntropy::new().axis(1);
        Ok(Learner::new(dls, model, loss)?.quiet().model_dir(&shared.folder))
    };
    let pixels = |learn: &mut Learner| -> Result<Tensor> {
        let all = learn.get_preds_with(&PredictOptions::new().pixels(true))?.pixels.unwrap();
        let shape: Vec<i64> = all.shape().iter().map(|n| *n as i64).collect();
        Ok(Tensor::from_slice(&all.iter().copied().collect::<Vec<f32>>()).view(&shape[..]))
    };
    let mut learn = learner()?;
    learn.load("theirs.pth")?;
    let before = shared.tensor("preds_before");
    close("fastai's masks", &pixels(&mut learn)?, &before, 1e-5);
    learn.save("ours.pth")?;
    learn.fit_one_cycle(1, 1e-4..=1e-3)?;
    let after = pixels(&mut learn)?;
    close("fit continued from fastai's file", &after, &shared.tensor("preds_after"), 1e-5);
    learn.save("started.pth")?;
    learn.fit_one_cycle(1, 1e-4..=1e-3)?;
    let last = pixels(&mut learn)?;
    let ours = [("preds_after".to_owned(), after), ("preds_last".to_owned(), last)];
    write_safetensors(folder.path().join("ours.safetensors"), &ours, None)?;
    python("fastai_unet.py", "check", folder.path());
    Ok(())
}
