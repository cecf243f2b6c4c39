//! A run that is stopped in the middle of an epoch continues bit for bit, for any number of workers.

use crate::{
    alone,
    pets::{BREEDS, first_of, photos},
};
use finetune::{
    callback::{Checkpoint, GradientAccumulation},
    learner::History,
    loss::CrossEntropy,
    model::{Model, batch_norm2d},
    prelude::*,
    sample::Batch,
    tch::{self, nn},
};
use std::path::Path;

fn learner(workers: usize, folder: &Path) -> Result<Learner> {
    let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(first_of(&BREEDS, 9))
        .splitter(RandomSplitter::new(0.2).seed(42))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(48))
        .batch_tfms(aug_transforms().size(32).min_scale(0.75))
        .bs(4)
        .num_workers(workers)
        .device(Device::Cpu)
        .dataloaders(photos())?;
    let learner = Learner::new(dls, small()?, CrossEntropy::new())?.metric(accuracy());
    Ok(learner.quiet().model_dir(folder))
}

/// Returns a learner with convolution, normalization and dropout, in two groups, always with the same
/// initial weights.
fn small() -> Result<Model> {
    tch::manual_seed(5);
    let vs = nn::VarStore::new(Device::Cpu);
    let root = vs.root();
    let body = root.set_group(0) / "body";
    let conv = nn::ConvConfig { stride: 2, padding: 1, ..Default::default() };
    let net = nn::seq_t()
        .add(nn::conv2d(&body / "conv", 3, 8, 3, conv))
        .add(batch_norm2d(&(&body / "norm"), 8, nn::BatchNormConfig::default()))
        .add_fn(|x| x.relu().adaptive_avg_pool2d([2, 2]).flatten(1, -1))
        .add_fn_t(|x, train| x.dropout(0.5, train))
        .add(nn::linear(root.set_group(1) / "head", 32, 3, nn::LinearConfig::default()));
    Model::from_module(vs, net)
}

/// Fails before a batch, counted over all fits, like a killed program.
#[derive(Debug)]
struct Killed {
    step: u64,
}

impl Callback for Killed {
    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        if t.at.is_training() && t.at.step == self.step {
            return Err(finetune::Error::other("killed").into());
        }
        Ok(())
    }
}

/// Returns weights, moments and the record, without the seconds.
fn end(learn: &mut Learner) -> (Vec<(String, Vec<u32>)>, History) {
    let bits = |t: Tensor| -> Vec<u32> {
        let flat = t.to_kind(tch::Kind::Float).reshape([-1]);
        Vec::<f32>::try_from(&flat).unwrap().into_iter().map(f32::to_bits).collect()
    };
    let opt = learn.training_mut().opt.state();
    let all = learn.model().state_dict().into_iter().chain(opt);
    let all = all.map(|(name, t)| (name, bits(t))).collect();
    let mut history = learn.recorder().clone();
    history.rows.iter_mut().for_each(|row| row.seconds = 0.0);
    (all, history)
}

#[test]
fn a_run_killed_in_an_epoch_resumes_bit_for_bit() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    // Five batches of four items per epoch, and one step every two batches.
    let how = || FineTune::new(2).base_lr(1e-3);
    let gather = || GradientAccumulation::new(8);
    let mut whole = learner(2, folder.path())?;
    assert_eq!(whole.dls().train().num_batches(), 5);
    whole.fine_tune_with(how(), &mut [&mut gather()])?;
    let whole = end(&mut whole);

    // In the frozen stage, and in the first and second epoch of the other; resumed with another number
    // of workers.
    for (step, workers) in [(3, 0), (7, 1), (14, 3)] {
        let name = format!("at_{step}");
        let mut checkpoint = Checkpoint::new(&*name).every(1);
        let mut killed = Killed { step };
        let mut first = learner(2, folder.path())?;
        let done = first
            .fine_tune_with(how(), &mut [&mut gather(), &mut checkpoint, &mut killed])
            .unwrap_err();
        assert!(done.to_string().contains("killed"));

        let mut second = learner(workers, folder.path())?;
        assert!(second.has_checkpoint(&name) && !second.has_checkpoint("none"));
        second.resume(&name, &mut [&mut gather(), &mut checkpoint])?;
        let resumed = end(&mut second);
        assert_eq!(resumed.1, whole.1, "the record, killed at step {step}");
        for (ours, theirs) in resumed.0.iter().zip(&whole.0) {
            assert_eq!(ours.0, theirs.0);
            assert!(ours.1 == theirs.1, "{}, killed at step {step}", ours.0);
        }
    }

    let mut other = learner(0, folder.path())?;
    std::fs::write(folder.path().join("bad.00000001.checkpoint.safetensors"), "no such file")
        .unwrap();
    let before = end(&mut other);
    assert!(other.resume("bad", &mut []).unwrap_err().to_string().contains("bad.00000001"));
    let e = other.resume("../bad", &mut []).unwrap_err().to_string();
    assert!(e.contains("`../bad` must be a file name inside"), "{e}");
    assert!(end(&mut other) == before, "nothing is loaded from a file that cannot be used");
    Ok(())
}
