//! A summary of one sample and one batch, step by step.

use super::{
    DataBlock, DataLoaders, TargetBlock,
    caught::{caught, position},
};
use crate::{
    error::Result,
    sample::{Split, Target, Task},
    seed::Stream,
    transform,
};
use std::{fmt::Write as _, path::Path};

impl<Y: TargetBlock, I: Send + Sync + 'static> DataBlock<Y, I> {
    /// Describes the splits, and one sample and one batch after every transform, with shapes.
    ///
    /// # Errors
    /// As [`dataloaders`](Self::dataloaders), and errors of the sample or the batch, with the transform and
    /// the item.
    pub fn summary(&self, source: impl AsRef<Path>) -> Result<String> {
        let source = source.as_ref();
        let dls = self.dataloaders(source)?;
        let mut text =
            format!("items: {} from {}\n", dls.train().dataset().len(), source.display());
        text += &dls.summary()?;
        Ok(text)
    }
}

impl DataLoaders {
    /// Describes one training sample and one training batch after every transform, with shapes.
    ///
    /// # Errors
    /// Errors of the sample or the batch, with the transform and the item.
    pub fn summary(&self) -> Result<String> {
        let mut text = String::new();
        self.write_splits(&mut text);
        if !self.train().has_images() {
            let x = self.train().one_batch()?.x;
            line(&mut text, &format!("batch: {:?} {:?}, no transforms", x.size(), x.kind()));
            return Ok(text);
        }
        self.write_sample(&mut text)?;
        self.write_batch(&mut text)?;
        Ok(text)
    }

    fn write_splits(&self, text: &mut String) {
        let (train, valid) = (self.train(), self.valid());
        line(text, &format!("training: {} items, validation: {}", train.len(), valid.len()));
        line(text, &task(&self.task()));
        self.notes().iter().for_each(|note| line(text, &format!("note: {note}")));
    }

    fn write_sample(&self, text: &mut String) -> Result<()> {
        let loader = self.train();
        let item = loader.items()[0];
        let get = || loader.dataset().get(item);
        let sample = caught(get, || loader.name(item), || position(item))?;
        line(text, &format!("\nsample: {}", loader.name(item)));
        line(text, &format!("  decoded: {:?}", sample.image));
        let mut rng = self.seed().rng(Stream::Item { pass: 0, index: item as u64 });
        let transformed = || {
            transform::apply_item_tfms(
                loader.item_tfms(),
                sample,
                Split::Train,
                &mut rng,
                || loader.name(item),
                |tfm, sample| line(text, &format!("  {tfm:?}: {:?}", sample.image)),
            )
        };
        let sample = caught(transformed, || loader.name(item), || position(item))?;
        line(text, &format!("  target: {}", target(&sample.target, &self.task())));
        Ok(())
    }

    fn write_batch(&self, text: &mut String) -> Result<()> {
        let loader = self.train();
        let batch = loader.one_batch()?;
        let sample = loader.sample(batch.items[0], 0)?.image;
        let (n, size, c) =
            (batch.items.len(), (sample.width(), sample.height()), sample.channels());
        line(
            text,
            &format!("\nbatch: {n} samples of one size make {n}x{}x{}x{c} bytes", size.1, size.0),
        );
        let mut rng = self.seed().rng(Stream::Batch { pass: 0, index: 0 });
        let plan = transform::Plan::new(n, size, c);
        transform::plan_visited(loader.batch_tfms(), plan, Split::Train, &mut rng, |tfm, plan| {
            let (w, h) = plan.size_so_far();
            line(text, &format!("  {tfm:?}: {n}x{c}x{h}x{w}"));
        })?;
        line(
            text,
            &format!("  x: {:?} {:?} on {:?}", batch.x.size(), batch.x.kind(), batch.x.device()),
        );
        if let Some(y) = &batch.y {
            line(text, &format!("  y: {:?} {:?}", y.size(), y.kind()));
        }
        Ok(())
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "{line}");
}

fn task(task: &Task) -> String {
    let names = |vocab: &[String]| {
        let shown = vocab.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        let more = if vocab.len() > 10 { ", …" } else { "" };
        format!("{} categories: {shown}{more}", vocab.len())
    };
    match task {
        Task::Category { vocab } => format!("target: one of {}", names(vocab)),
        Task::Categories { vocab } => format!("target: any of {}", names(vocab)),
        Task::Values { n } => format!("target: {n} numbers"),
        Task::Mask { codes, .. } => format!("target: a mask of {}", names(codes)),
        Task::Points { n } => format!("target: {n} points"),
        Task::Boxes { vocab } => format!("target: boxes of {}", names(vocab)),
        other => format!("target: {other:?}"),
    }
}

fn target(target: &Target, task: &Task) -> String {
    match target {
        Target::Category(c) => format!("{} ({c})", task.words(target)),
        target => task.words(target),
    }
}
