//! The picture of a sweep of the learning rate.

use super::{Chart, Figure, axis::short};
use crate::{
    error::{Error, Result},
    learner::LrFind,
};

impl LrFind {
    /// The loss over the learning rate, with the suggestions marked. One that the curve is too short
    /// for is left out.
    ///
    /// # Errors
    /// [`Error::Config`] if the curve is empty.
    pub fn plot(&self) -> Result<Figure> {
        if self.lrs.is_empty() {
            let why = "the curve has no points: use more steps, or start at a lower rate";
            return Err(Error::config("lr_find", why));
        }
        let curve = self.lrs.iter().copied().zip(self.losses.iter().copied());
        let mut chart =
            Chart::new("Learning rate finder").x("learning rate").log_x().y("loss").line("", curve);
        let suggestions = [
            ("valley", self.valley()),
            ("steep", self.steep()),
            ("minimum / 10", self.minimum()),
            ("slide", self.slide()),
        ];
        for (name, lr) in suggestions {
            if let Ok(lr) = lr {
                chart = chart.mark(format!("{name}: {}", short(lr)), (lr, self.loss_at(lr)));
            }
        }
        Ok(chart.figure())
    }
}
