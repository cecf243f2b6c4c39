//! Sources of random numbers for transforms.

use crate::{
    error::{Error, Result},
    seed::Rng,
};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

/// A source of random numbers for transforms: a random generator, or a list of recorded draws, for
/// example those of a run of fastai.
pub trait Draw {
    /// Returns a uniformly distributed number between `low` and `high`.
    fn uniform(&mut self, low: f64, high: f64) -> f64;

    /// Returns a uniformly distributed integer between `low` and `high`, both included.
    ///
    /// # Panics
    /// A random generator panics if `low` is above `high`.
    fn integer(&mut self, low: i64, high: i64) -> i64;
}

impl Draw for Rng {
    fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.random::<f64>()
    }

    fn integer(&mut self, low: i64, high: i64) -> i64 {
        self.random_range(low..=high)
    }
}

/// Returns true with probability `p`. Draws no number if `p` is 1.
pub(super) fn happens(p: f64, draw: &mut dyn Draw) -> bool {
    p == 1.0 || draw.uniform(0.0, 1.0) < p
}

/// Fixed values in place of random ones: one for all images, or one per image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum DrawnValues {
    /// The same value for every image.
    All(f64),
    /// One value per image. Values in excess of the images are ignored.
    Each(Vec<f64>),
}

impl From<f64> for DrawnValues {
    fn from(value: f64) -> Self {
        Self::All(value)
    }
}

impl From<Vec<f64>> for DrawnValues {
    fn from(values: Vec<f64>) -> Self {
        Self::Each(values)
    }
}

/// The random choice of a value for each image of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Chance {
    /// The probability that an image gets its value instead of the neutral one.
    pub(super) p: f64,
    /// Whether one draw is used for the whole batch.
    pub(super) batch: bool,
}

impl Chance {
    pub(super) fn new(p: f64) -> Self {
        Self { p, batch: false }
    }

    pub(super) fn check(self) -> Result<()> {
        let fits = (0.0..=1.0).contains(&self.p);
        let why = || format!("is {}; it must be between 0 and 1", self.p);
        if fits { Ok(()) } else { Err(Error::config("p", why())) }
    }

    /// Returns a value for each of `n` images: a given or drawn one, or `neutral` for images that are
    /// not changed. For each image, or once for the batch, the value is drawn before the choice whether
    /// to use it; a choice with probability 1 is not drawn.
    pub(super) fn values(
        self,
        n: usize,
        neutral: f64,
        given: Option<&DrawnValues>,
        draw: &mut dyn Draw,
        mut drawn: impl FnMut(&mut dyn Draw) -> f64,
    ) -> Result<Vec<f64>> {
        self.check()?;
        if let Some(DrawnValues::Each(values)) = given
            && values.len() < n
        {
            let why = format!("{} values for a batch of {n} images", values.len());
            return Err(Error::mismatch("draw", why));
        }
        let once = self.batch.then(|| {
            let value = if given.is_none() { drawn(draw) } else { neutral };
            (value, happens(self.p, draw))
        });
        let mut values = Vec::with_capacity(n);
        for i in 0..n {
            let value = match (given, once) {
                (Some(DrawnValues::All(value)), _) => *value,
                (Some(DrawnValues::Each(values)), _) => values[i],
                (None, Some((value, _))) => value,
                (None, None) => drawn(draw),
            };
            let used = once.map_or_else(|| happens(self.p, draw), |(_, used)| used);
            values.push(if used { value } else { neutral });
        }
        Ok(values)
    }
}
