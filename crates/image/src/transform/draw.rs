//! Where the random numbers of transforms come from.

use crate::{
    error::{Error, Result},
    seed::Rng,
};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

/// What a transform asks chance for. A generator answers it; so does a list of draws that were
/// recorded, with which a transform does again what it, or fastai, did then.
pub trait Draw {
    /// A number from `low` to `high`, each as likely as the other.
    fn uniform(&mut self, low: f64, high: f64) -> f64;

    /// A whole number from `low` to `high`, both included, each as likely as the other.
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

/// Whether something of probability `p` happens. What is certain asks nothing.
pub(super) fn happens(p: f64, draw: &mut dyn Draw) -> bool {
    p == 1.0 || draw.uniform(0.0, 1.0) < p
}

/// Values in place of random ones: one for all images, or one for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DrawnValues {
    /// The same for every image.
    All(f64),
    /// One for each image; there may be more values than images.
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

/// How a value comes about for each image of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Chance {
    /// The probability that an image gets its value and not the neutral one.
    pub(super) p: f64,
    /// Whether one draw is for the whole batch.
    pub(super) batch: bool,
}

impl Chance {
    pub(super) fn new(p: f64) -> Self {
        Self { p, batch: false }
    }

    pub(super) fn check(self) -> Result<()> {
        let fits = (0.0..=1.0).contains(&self.p);
        if fits { Ok(()) } else { Err(Error::config("p", format!("{} is no probability", self.p))) }
    }

    /// A value for each of `n` images: given or drawn, and `neutral` where chance leaves an image
    /// alone. For each image, or once for the batch, the value is drawn first and then whether it is
    /// used; what is certain is not drawn.
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
