//! Random erasing of rectangles in batches.

use super::{
    BatchSpec, BatchTransform, Draw, Erased, Noise, Plan,
    draw::{Chance, happens},
};
use crate::{
    error::{Error, Result},
    sample::Split,
    seed::Rng,
};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Erases random rectangles with noise. The rectangles are the same for all images of a batch, the noise
/// differs. Corresponds to fastai's
/// [`RandomErasing`](https://docs.fast.ai/vision.augment.html#randomerasing).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RandomErasing {
    p: f64,
    sl: f64,
    sh: f64,
    min_aspect: f64,
    max_count: u32,
}

/// The largest number of rectangles. They share the area, so that more of them would mostly be smaller than a few
/// pixels, but each takes time and memory.
const MAX_COUNT: u32 = 1000;

impl RandomErasing {
    /// Erases one rectangle of up to 30 % of the area, in half of the batches.
    #[must_use]
    pub fn new() -> Self {
        Self { p: 0.5, sl: 0.0, sh: 0.3, min_aspect: 0.3, max_count: 1 }
    }
    /// Sets the probability that a batch is changed. Default: 0.5.
    #[must_use]
    pub fn p(mut self, p: f64) -> Self {
        self.p = p;
        self
    }
    /// Sets the minimum fraction of the area. Default: 0.
    #[must_use]
    pub fn sl(mut self, part: f64) -> Self {
        self.sl = part;
        self
    }
    /// Sets the maximum fraction of the area. Default: 0.3.
    #[must_use]
    pub fn sh(mut self, part: f64) -> Self {
        self.sh = part;
        self
    }
    /// Sets the minimum ratio of height to width; the maximum is its inverse. Default: 0.3.
    #[must_use]
    pub fn min_aspect(mut self, ratio: f64) -> Self {
        self.min_aspect = ratio;
        self
    }
    /// Sets the maximum number of rectangles, up to 1,000, which share the area. Default: 1.
    #[must_use]
    pub fn max_count(mut self, n: u32) -> Self {
        self.max_count = n;
        self
    }

    /// Draws the rows and columns to erase in images of (width, height); they may extend beyond the
    /// image. The draws are: whether to erase (not if `p` is 1), the number of rectangles, and for each
    /// rectangle the fraction of the area, the logarithm of height / width, the first row and the first
    /// column.
    #[doc(hidden)]
    pub fn areas(
        &self,
        (width, height): (u32, u32),
        draw: &mut dyn Draw,
    ) -> Vec<(Range<u32>, Range<u32>)> {
        if !happens(self.p, draw) {
            return vec![];
        }
        let count = draw.integer(1, i64::from(self.max_count));
        let area = f64::from(width) * f64::from(height) / count as f64;
        let (low, high) = (self.min_aspect.ln(), (1.0 / self.min_aspect).ln());
        let mut one = || {
            let part = draw.uniform(self.sl, self.sh) * area;
            let aspect = draw.uniform(low, high).exp();
            let mut side = |area: f64, n: u32| {
                let side = area.sqrt().round_ties_even() as u32;
                let start = draw.integer(0, i64::from(n.saturating_sub(side))) as u32;
                start..start + side
            };
            (side(part * aspect, height), side(part / aspect, width))
        };
        (0..count).map(|_| one()).collect()
    }
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchTransform for RandomErasing {
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
        self.check()?;
        if split == Split::Train {
            for (rows, columns) in self.areas(plan.size_so_far(), rng) {
                plan.erase(Erased { rows, columns, noise: Noise::Seed(rng.next_u64()) });
            }
        }
        Ok(())
    }
    fn check(&self) -> Result<()> {
        Chance::new(self.p).check()?;
        let parts = 0.0 <= self.sl && self.sl <= self.sh && self.sh <= 1.0;
        let aspect = self.min_aspect > 0.0 && self.min_aspect <= 1.0;
        if !(parts && aspect && (1..=MAX_COUNT).contains(&self.max_count)) {
            let why = format!(
                "needs 0 <= sl <= sh <= 1, 0 < min_aspect <= 1 and 1 <= max_count <= {MAX_COUNT}; sl is {}, \
                 sh is {}, min_aspect is {}, max_count is {}",
                self.sl, self.sh, self.min_aspect, self.max_count
            );
            return Err(Error::config("RandomErasing", why));
        }
        Ok(())
    }
    fn order(&self) -> i32 {
        100
    }
    fn spec(&self) -> Option<BatchSpec> {
        Some(BatchSpec::RandomErasing(self.clone()))
    }
}
