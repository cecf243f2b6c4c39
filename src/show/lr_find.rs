//! The figure of the learning-rate finder.

use super::{Chart, Figure, axis::short};
use crate::{
    error::{Error, Result},
    learner::{LrCurve, Suggestion},
};

impl LrCurve {
    /// Draws the loss over the learning rate and marks the suggestions of this crate, except those
    /// for which the curve is too short.
    ///
    /// # Errors
    /// [`Error::Config`] if the curve is empty; [`Error::Mismatch`] if the numbers of rates and losses differ.
    pub fn plot(&self) -> Result<Figure> {
        let all = [
            ("valley", self.valley()),
            ("steep", self.steep()),
            ("minimum / 10", self.minimum()),
            ("slide", self.slide()),
        ];
        let mark = |(name, lr): (&str, Result<f64>)| {
            let lr = lr.ok()?;
            Some(Suggestion { name: name.to_owned(), lr, loss: self.loss_at(lr) })
        };
        self.plot_with(&all.into_iter().filter_map(mark).collect::<Vec<_>>())
    }

    /// Draws the loss over the learning rate and marks the given suggestions; see [`LrCurve::suggestions`].
    ///
    /// # Errors
    /// As [`LrCurve::plot`].
    pub fn plot_with(&self, suggestions: &[Suggestion]) -> Result<Figure> {
        if self.lrs.is_empty() {
            let why = "the curve has no points: use more steps, or start at a lower rate";
            return Err(Error::config("lr_find", why));
        }
        self.at_least(1, "plot")?;
        let curve = self.lrs.iter().copied().zip(self.losses.iter().copied());
        let mut chart =
            Chart::new("Learning rate finder").x("learning rate").log_x().y("loss").line("", curve);
        for Suggestion { name, lr, loss } in suggestions {
            chart = chart.mark(format!("{name}: {}", short(*lr)), (*lr, *loss));
        }
        Ok(chart.figure())
    }
}
