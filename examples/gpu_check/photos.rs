//! The bundled photos: as data, and the speed of training on them.

use super::{
    Args, check, network,
    report::{Check, Checked, rounded},
};
use finetune::{data::Cache, prelude::*, transform::Normalize};
use serde_json::json;
use std::{path::Path, time::Instant};
use tch::Kind;

/// Returns a block of photos of a breed each.
fn breeds() -> Result<DataBlock<CategoryBlock>> {
    Ok(DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .splitter(RandomSplitter::new(0.2).seed(42))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?)))
}

/// Returns a block of photos of a breed each, augmented to `size` pixels. Each photo is listed `times` times.
pub(crate) fn block(args: &Args, size: u32, times: usize) -> Result<DataBlock<CategoryBlock>> {
    let most = args.of(usize::MAX, 24);
    let listed = move |folder: &Path| {
        let files = get_image_files(folder)?;
        // Of all breeds, also where only a few photos are used.
        let step = files.len().div_ceil(most).max(1);
        let few: Vec<_> = files.into_iter().step_by(step).collect();
        Ok(std::iter::repeat_n(few, times).flatten().collect())
    };
    Ok(breeds()?
        .get_items(listed)
        .item_tfms(Resize::new(size * 4 / 3))
        .batch_tfms(aug_transforms().size(size).min_scale(0.75))
        .batch_tfms(Normalize::imagenet())
        .num_workers(args.workers)
        .device(args.device()))
}

/// Returns at most `n` photos of `side` x `side` pixels as bytes, `[N, H, W, 3]`, and their number.
pub(crate) fn pixels(args: &Args, n: usize, side: u32) -> Result<(usize, Vec<u8>)> {
    let block = breeds()?.item_tfms(Resize::new(side)).bs(n).device(Device::Cpu);
    let x = block.dataloaders(&args.images)?.train().one_batch()?.x;
    // Without batch transforms, the values are bytes divided by 255.
    let bytes = (x.f_permute([0, 2, 3, 1])? * 255.0).f_round()?.f_to_kind(Kind::Uint8)?;
    let n = bytes.size()[0] as usize;
    Ok((n, Vec::try_from(bytes.f_contiguous()?.f_view([-1])?)?))
}

/// The time of each epoch's training, and the share of it that was spent waiting for data.
#[derive(Debug, Default)]
struct Epochs {
    start: Option<Instant>,
    images: usize,
    /// Seconds, images and share of waiting.
    seen: Vec<(f64, usize, f64)>,
}

impl Callback for Epochs {
    fn before_train(&mut self, _: &mut Training) -> Step {
        (self.start, self.images) = (Some(Instant::now()), 0);
        Ok(())
    }

    fn before_batch(&mut self, t: &mut Training, batch: &mut Batch) -> Step {
        if t.at.is_training() {
            self.images += batch.items.len();
        }
        Ok(())
    }

    fn after_train(&mut self, t: &mut Training) -> Step {
        super::wait_for(t.model.device());
        let seconds = self.start.map_or(f64::NAN, |start| start.elapsed().as_secs_f64());
        self.seen.push((seconds, self.images, t.data_wait_fraction()));
        Ok(())
    }

    fn before_validate(&mut self, _: &mut Training) -> Step {
        Scope::Validate.cancel()
    }
}

pub(crate) fn checks(args: &Args) -> Vec<Check<'_>> {
    vec![
        check("training on photos", || trained(args, None)),
        check("training on photos with the presize cache", || trained(args, Some(8 << 30))),
    ]
}

/// Trains a ResNet-50 (on the CPU, a smaller network) in bfloat16 on photos. The first epoch chooses kernels and fills the cache.
fn trained(args: &Args, cache: Option<u64>) -> Result<Checked> {
    let block = block(args, args.size, args.of(40, 1))?.bs(args.bs);
    let block = match cache {
        Some(limit) => block.cache(Cache::memory(limit)),
        None => block,
    };
    let dls = block.dataloaders(&args.images)?;
    let learn =
        vision_learner(dls, args.of(resnet50(), network(args))).pretrained(false).build()?;
    let mut learn = learn.to_bf16().quiet();
    let mut epochs = Epochs::default();
    learn.fit_with(&OneCycle::new(args.of(3, 2)).lr(1e-3), &mut [&mut epochs])?;
    let all: Vec<_> = epochs
        .seen
        .iter()
        .map(|(seconds, images, waited)| {
            json!({
                "images_per_s": rounded(*images as f64 / seconds, 1), "images": images,
                "seconds": rounded(*seconds, 2), "share_of_waiting": rounded(*waited, 3),
            })
        })
        .collect();
    let ok = !all.is_empty() && learn.recorder().raw_losses.iter().all(|loss| loss.is_finite());
    let figures = json!({
        "epochs": all, "bs": args.bs, "size": args.size, "workers": args.workers, "precision": "bf16",
    });
    Ok((ok, figures))
}
