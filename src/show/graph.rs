//! A figure of the losses during a training.

use crate::learner::{Callback, Step, Training, order};
use std::path::PathBuf;

/// Draws the losses to an image file at the end of each epoch, replacing the previous one: fastai's
/// `ShowGraphCallback`, for programs without a notebook. A viewer that watches the file shows the curve as
/// it grows.
///
/// The format is determined by the extension, as in [`Figure::save`](super::Figure::save).
///
/// ```no_run
/// # fn f(learn: finetune::learner::Learner) -> finetune::Result<()> {
/// let mut learn = learn.callback(finetune::show::ShowGraph::new("losses.png"));
/// learn.fine_tune(10)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct ShowGraph {
    path: PathBuf,
}

impl ShowGraph {
    /// Creates a callback that draws to `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Callback for ShowGraph {
    fn order(&self) -> i32 {
        order::SCHEDULER
    }

    fn skip_evaluation(&self) -> bool {
        true
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        t.read_losses()?;
        if t.history.losses.is_empty() {
            return Ok(());
        }
        let figure = t.history.plot_loss()?;
        Ok(figure.save(&self.path)?)
    }
}
