use super::{Cell, Figure, Grid};
use crate::{
    data::{DataLoader, DataLoaders},
    error::{Error, Result},
    image::Image,
    interpret::ClassificationInterpretation,
    sample::{Batch, Split, Target, Task},
    transform,
};
use tch::{Device, Kind, Tensor};

/// What a target says, in the words of the task.
fn words(target: &Target, task: &Task) -> String {
    let name = |i: &usize| task.vocab().get(*i).cloned().unwrap_or_else(|| i.to_string());
    match target {
        Target::Category(i) => name(i),
        Target::Categories(all) => all.iter().map(name).collect::<Vec<_>>().join("; "),
        Target::Values(v) => v.iter().map(|v| format!("{v:.3}")).collect::<Vec<_>>().join(", "),
        Target::None => String::new(),
    }
}

/// The first `n` pictures of a batch as the network sees them, without normalization.
fn pictures(loader: &DataLoader, batch: &Batch, n: usize) -> Result<Vec<Image>> {
    let x = transform::denormalize(loader.batch_tfms(), &batch.x);
    let bytes = (x * 255.0).round().to_kind(Kind::Uint8).to_device(Device::Cpu);
    let rows = bytes.permute([0, 2, 3, 1]).contiguous();
    (0..(n as i64).min(rows.size()[0])).map(|i| picture(&rows.get(i))).collect()
}

fn picture(row: &Tensor) -> Result<Image> {
    let (h, w, c) = row.size3()?;
    let pixels: Vec<u8> = Vec::try_from(&row.contiguous().view([-1]))?;
    Image::new(w as u32, h as u32, c as u8, pixels)
}

impl DataLoaders {
    /// Up to `n` training items as the network sees them, augmented, with their labels: fastai's
    /// `show_batch`.
    ///
    /// # Errors
    /// Whatever the data reports.
    pub fn show_batch(&self, n: usize) -> Result<Figure> {
        self.of(Split::Train).show_batch(n)
    }
}

impl DataLoader {
    /// Up to `n` items of the first batch as the network sees them, with their labels.
    ///
    /// # Errors
    /// Whatever the data reports; [`Error::Config`] if the inputs are no images.
    pub fn show_batch(&self, n: usize) -> Result<Figure> {
        let batch = self.one_batch()?;
        if batch.x.dim() != 4 {
            return Err(Error::config("show_batch", "the inputs of these loaders are no images"));
        }
        let task = self.task();
        let cells = pictures(self, &batch, n)?.into_iter().zip(&batch.items);
        let cells = cells
            .map(|(picture, &item)| {
                Ok(Cell::new(picture).line(words(&self.dataset().target(item)?, &task)))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Grid::new("", cells).figure())
    }
}

impl ClassificationInterpretation {
    /// The `k` items with the highest loss: the picture under prediction, actual class, loss and
    /// probability of the prediction, as fastai's `plot_top_losses`. `loader` is the one that was
    /// predicted.
    ///
    /// # Errors
    /// Whatever the data reports.
    pub fn plot_top_losses(&self, loader: &DataLoader, k: usize) -> Result<Figure> {
        let kept = self.predictions();
        let cells = self
            .top_losses(k)
            .into_iter()
            .map(|top| {
                let at = top.index;
                let picture = loader.sample(kept.items[at], 0)?.image;
                let (said, is) = (&kept.decoded[at], &kept.targets[at]);
                let most = kept.preds.row(at).iter().copied().fold(0.0, f32::max);
                let cell = Cell::new(picture);
                let said_text = words(said, &kept.task);
                let cell = if said == is { cell.right(said_text) } else { cell.wrong(said_text) };
                Ok(cell
                    .line(format!("is {}", words(is, &kept.task)))
                    .line(format!("loss {:.2}, p {most:.2}", top.loss)))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Grid::new("Highest losses", cells).figure())
    }
}
