//! Images with their targets and predictions.

use super::{
    Cell, Figure, Grid,
    overlay::{beside, drawn, legend},
    seen::seen,
};
use crate::{
    data::{DataLoader, LoaderOptions},
    error::{Error, Result},
    interpret::{
        ClassificationInterpretation, Interpretation, MultiLabelInterpretation,
        RegressionInterpretation, SegmentationInterpretation,
    },
    learner::{Learner, Predictions},
    sample::{Split, Target, Task},
};

/// Adds the target and the prediction, green if they are equal and red if not. Numbers have no color, since
/// they are never exactly equal.
fn compared(cell: Cell, kept: &Predictions, at: usize) -> Cell {
    let (is, said) = (&kept.targets[at], &kept.decoded[at]);
    if kept.task.is_spatial() {
        // Target and prediction are drawn into the image.
        return cell.line(if *is == Target::None { "prediction" } else { "target · prediction" });
    }
    let said_words = kept.task.words(said);
    let cell = if *is == Target::None { cell } else { cell.line(kept.task.words(is)) };
    match (is, &kept.task) {
        (Target::None, _) | (_, Task::Values { .. }) => cell.line(said_words),
        _ if is == said => cell.right(said_words),
        _ => cell.wrong(said_words),
    }
}

/// Returns the probability of the prediction if the outputs are probabilities of one category.
fn probability(kept: &Predictions, at: usize) -> Option<f32> {
    match (&kept.decoded[at], &kept.task) {
        (Target::Category(c), Task::Category { .. }) => kept.preds.get((at, *c)).copied(),
        _ => None,
    }
}

fn grid(
    title: &str,
    loader: &DataLoader,
    kept: &Predictions,
    indices: &[usize],
    cell: impl Fn(Cell, usize) -> Cell,
) -> Result<Figure> {
    if let Some(far) = indices.iter().find(|i| **i >= kept.len()) {
        let why = format!("{far} must be below the number of predictions, {}", kept.len());
        return Err(Error::config("indices", why));
    }
    let items: Vec<usize> = indices.iter().map(|i| kept.items[*i]).collect();
    let pictures = seen(loader, &items)?;
    let cells = pictures.into_iter().zip(indices).map(|(picture, &i)| {
        let (is, said) = (&kept.targets[i], &kept.decoded[i]);
        let predicted = drawn(&picture, said, &kept.task)?;
        let picture = match is {
            Target::None => predicted,
            _ if kept.task.is_spatial() => beside(&drawn(&picture, is, &kept.task)?, &predicted)?,
            _ => predicted,
        };
        Ok(cell(Cell::new(picture), i))
    });
    let cells = cells.collect::<Result<Vec<_>>>()?;
    let paired = |i: &usize| kept.targets[*i] != Target::None;
    let pairs = kept.task.is_spatial() && indices.iter().any(paired);
    let grid = Grid::new(title, cells).legend(legend(&kept.task));
    Ok(if pairs { grid.pairs() } else { grid }.figure())
}

impl Learner {
    /// Shows `n` random validation items with their targets and predictions, green if correct and red if
    /// wrong: fastai's [`show_results`](https://docs.fast.ai/learner.html#learner.show_results). After more
    /// training, it shows other items.
    ///
    /// # Errors
    /// Errors of the data; [`Error::Config`] if `n` is 0; [`Error::EmptySplit`] if there are no validation items;
    /// [`Error::Unsupported`] if the inputs are not images.
    pub fn show_results(&mut self, n: usize) -> Result<Figure> {
        if n == 0 {
            return Err(Error::config("show_results", "`n` is 0; it must be 1 or more"));
        }
        let pass = self.training_mut().at.pass;
        let valid = self.dls().valid().clone();
        let some = LoaderOptions::new().shuffle(true).drop_last(false).split(Split::Valid);
        let batch = valid.with(some.bs(n))?.batches(pass).next().unwrap_or_else(|| {
            let why = "there are no validation items".to_owned();
            Err(Error::empty_split("validation", why))
        })?;
        let kept = self.get_preds_on(&valid.subset(batch.items)?)?;
        let all: Vec<usize> = (0..kept.len()).collect();
        Interpretation::from_predictions(kept)?.show_results(&valid, &all)
    }
}

impl Interpretation {
    /// Shows the items at some indices among the predictions, with their targets and predictions. `loader`
    /// is the one that was predicted, or another one of its data set.
    ///
    /// # Errors
    /// Errors of the data; [`Error::Config`] if an index is beyond the predictions; [`Error::Unsupported`] if the
    /// inputs are not images.
    pub fn show_results(&self, loader: &DataLoader, indices: &[usize]) -> Result<Figure> {
        let kept = self.predictions();
        grid("", loader, kept, indices, |cell, at| compared(cell, kept, at))
    }

    /// Shows the `k` items with the largest losses, each with its target, prediction, loss and, if
    /// available, the probability of the prediction: fastai's
    /// [`plot_top_losses`](https://docs.fast.ai/interpret.html#interpretation.plot_top_losses). `loader` is
    /// the one that was predicted, or another one of its data set.
    ///
    /// # Errors
    /// As [`show_results`](Self::show_results), and [`Error::Mismatch`] if there are no losses.
    pub fn plot_top_losses(&self, loader: &DataLoader, k: usize) -> Result<Figure> {
        let top = self.top_losses(k);
        if top.is_empty() {
            let why = "there are no losses: the items have no labels, or `k` is 0";
            return Err(Error::mismatch("predictions", why));
        }
        let kept = self.predictions();
        let indices: Vec<usize> = top.iter().map(|t| t.index).collect();
        grid("Highest losses", loader, kept, &indices, |cell, at| {
            let loss = format!("loss {:.2}", kept.losses[at]);
            let text = match probability(kept, at) {
                Some(p) => format!("{loss}, probability {p:.2}"),
                None => loss,
            };
            compared(cell, kept, at).line(text)
        })
    }
}

macro_rules! pictures_of_results {
    ($($interpretation:ty),*) => {$(
        impl $interpretation {
            /// Shows the items at some indices among the predictions: [`Interpretation::show_results`].
            ///
            /// # Errors
            /// As [`Interpretation::show_results`].
            pub fn show_results(&self, loader: &DataLoader, indices: &[usize]) -> Result<Figure> {
                self.as_ref().show_results(loader, indices)
            }

            /// Shows the items with the largest losses: [`Interpretation::plot_top_losses`].
            ///
            /// # Errors
            /// As [`Interpretation::plot_top_losses`].
            pub fn plot_top_losses(&self, loader: &DataLoader, k: usize) -> Result<Figure> {
                self.as_ref().plot_top_losses(loader, k)
            }
        }
    )*};
}

pictures_of_results!(
    ClassificationInterpretation,
    MultiLabelInterpretation,
    RegressionInterpretation,
    SegmentationInterpretation
);
