//! The learning rate finder, resuming, export and prediction.

use super::{
    Args, check, network, photos,
    report::{Check, Checked, digits, rounded},
};
use finetune::{
    learner::{Checkpoint, Flat, Stop},
    prelude::*,
};
use serde_json::json;
use std::{path::Path, path::PathBuf, thread, time::Instant};

pub(crate) fn checks(args: &Args) -> Vec<Check<'_>> {
    vec![
        check("lr_find", || lr_find(args)),
        check("resume", || resume(args)),
        check("export and load on the CPU", || export(args)),
        check("predictors in several threads", || threads(args)),
    ]
}

/// Returns a learner on photos.
fn learner(args: &Args, folder: &Path) -> Result<Learner> {
    let block = photos::block(args, args.of(128, 32), 1)?.bs(args.of(16, 4));
    let dls = block.dataloaders(&args.images)?;
    let learn = vision_learner(dls, network(args)).pretrained(false).metric(accuracy()).build()?;
    Ok(learn.model_dir(folder).quiet())
}

fn temporary() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(Error::io("the temporary folder"))
}

fn lr_find(args: &Args) -> Result<Checked> {
    let folder = temporary()?;
    let mut learn = learner(args, folder.path())?;
    let weights = |learn: &Learner| learn.model().params()[0].tensor.detach().copy();
    let before = weights(&learn);
    let curve = learn.lr_find_with(finetune::learner::LrFinder::new().steps(args.of(100, 17)))?;
    let restored = before.equal(&weights(&learn));
    let valley = curve.valley()?;
    let ok = restored && curve.lrs.len() > 10 && valley > 0.0;
    Ok((
        ok,
        json!({ "valley": digits(valley), "points": curve.lrs.len(), "weights_restored": restored }),
    ))
}

/// Ends a fit with an error in the given step.
#[derive(Debug)]
struct Interrupt(u64);

impl Callback for Interrupt {
    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        if t.at.is_training() && t.at.step == self.0 {
            return Err(Stop::Failed(Error::other("interrupted on purpose")));
        }
        Ok(())
    }
}

/// Compares a run that was interrupted and resumed with an undisturbed one. On a CPU both are equal; kernels
/// of a GPU add in any order.
fn resume(args: &Args) -> Result<Checked> {
    let limit = args.of(0.02, 0.0);
    let (folder, other) = (temporary()?, temporary()?);
    let run = || Checkpoint::new("run").every(2);
    let plan = || Flat::new(2).lr(1e-4);
    let mut undisturbed = learner(args, other.path())?;
    undisturbed.fit_or_resume(run(), plan())?;
    let mut first = learner(args, folder.path())?;
    let ended = first.fit_or_resume_with(run(), plan(), &mut [&mut Interrupt(3)]);
    drop(first);
    let mut second = learner(args, folder.path())?;
    second.fit_or_resume(run(), plan())?;
    let (a, b) = (&undisturbed.recorder().raw_losses, &second.recorder().raw_losses);
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let ok = ended.is_err() && a.len() == b.len() && !a.is_empty() && off <= limit;
    Ok((
        ok,
        json!({ "steps": a.len(), "largest_difference_of_losses": digits(off), "limit": limit }),
    ))
}

/// Returns the largest difference of two lists of probabilities.
fn far(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let all = a.iter().flatten().zip(b.iter().flatten());
    if a.len() != b.len() {
        return f64::NAN;
    }
    all.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

fn few_photos(args: &Args) -> Result<Vec<PathBuf>> {
    let files = get_image_files(&args.images)?;
    let step = (files.len() / args.of(32, 6)).max(1);
    Ok(files.into_iter().step_by(step).collect())
}

fn probs(predictor: &Predictor, photos: &[PathBuf]) -> Result<Vec<Vec<f32>>> {
    Ok(predictor.predict_batch(photos)?.into_iter().map(|p| p.probs).collect())
}

/// Trains a little, exports, and compares the predictions of the learner with those of the file on both
/// devices.
fn export(args: &Args) -> Result<Checked> {
    let folder = temporary()?;
    let mut learn = learner(args, folder.path())?;
    learn.fit(1, 1e-3)?;
    let file = folder.path().join("model.safetensors");
    learn.export(&file)?;
    let photos = few_photos(args)?;
    let here = Predictor::load(&file, args.device())?;
    let start = Instant::now();
    let on_device = probs(&here, &photos)?;
    let seconds = start.elapsed().as_secs_f64();
    let on_cpu = probs(&Predictor::load(&file, Device::Cpu)?, &photos)?;
    let of_learner: Vec<_> =
        photos.iter().map(|p| Ok(learn.predict(p)?.probs)).collect::<Result<_>>()?;
    let in_bf16 = probs(&Predictor::load(&file, args.device())?.to_bf16(), &photos)?;
    let (off, off_learner) = (far(&on_device, &on_cpu), far(&on_device, &of_learner));
    let off_bf16 = far(&on_device, &in_bf16);
    let finite =
        learn.model().params().iter().all(|p| p.tensor.isfinite().all().int64_value(&[]) == 1);
    let ok = finite && off <= 1e-3 && off_learner <= 1e-3 && off_bf16 <= 0.05;
    Ok((
        ok,
        json!({
            "photos": photos.len(), "largest_difference_from_cpu": digits(off),
            "largest_difference_from_learner": digits(off_learner), "limit": 1e-3,
            "largest_difference_in_bf16": digits(off_bf16), "limit_in_bf16": 0.05,
            "ms_of_first_batches": rounded(seconds * 1e3, 1),
        }),
    ))
}

/// Predicts in several threads at once, each with a predictor of its own, and compares with one thread.
fn threads(args: &Args) -> Result<Checked> {
    let (count, repeats) = (4, args.of(8, 1));
    let folder = temporary()?;
    let file = folder.path().join("model.safetensors");
    learner(args, folder.path())?.export(&file)?;
    let photos = few_photos(args)?;
    let alone = probs(&Predictor::load(&file, args.device())?, &photos)?;
    let start = Instant::now();
    let work = || -> Result<f64> {
        let predictor = Predictor::load(&file, args.device())?;
        let mut most = 0.0_f64;
        for _ in 0..repeats {
            most = most.max(far(&probs(&predictor, &photos)?, &alone));
        }
        Ok(most)
    };
    let all: Vec<Result<f64>> = thread::scope(|s| {
        let running: Vec<_> = (0..count).map(|_| s.spawn(work)).collect();
        let joined = running.into_iter().map(|t| t.join());
        joined.map(|done| done.unwrap_or_else(|_| Err(Error::other("a thread panicked")))).collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    let off = all.into_iter().collect::<Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max);
    let predicted = (count * repeats * photos.len()) as f64;
    Ok((
        off <= 1e-4,
        json!({
            "threads": count, "largest_difference": digits(off), "limit": 1e-4,
            "photos_per_s": rounded(predicted / seconds, 1),
        }),
    ))
}
