//! Random perspectives of batches.

use super::{
    BatchSpec, BatchTransform, Draw, DrawnValues, Matrix, Plan,
    geometry::{Geometry, geometry},
};
use crate::{
    error::{Error, Result},
    sample::Split,
    seed::Rng,
};
use serde::{Deserialize, Serialize};

/// Applies a perspective to images, as if seen from a side. Corresponds to fastai's
/// [`Warp`](https://docs.fast.ai/vision.augment.html#warp).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Warp {
    geometry: Geometry,
    magnitude: f64,
    draw_x: Option<DrawnValues>,
    draw_y: Option<DrawnValues>,
}

impl Warp {
    /// Moves the corners by up to `magnitude` times half a side. fastai's default is 0.2.
    #[must_use]
    pub fn new(magnitude: f64) -> Self {
        Self::of(Geometry::new(), magnitude)
    }
    pub(super) fn of(geometry: Geometry, magnitude: f64) -> Self {
        Self { geometry, magnitude, draw_x: None, draw_y: None }
    }
    geometry!();
    /// Sets the horizontal movements instead of drawing them, above -1 and below 1.
    #[must_use]
    pub fn draw_x(mut self, draw: impl Into<DrawnValues>) -> Self {
        self.draw_x = Some(draw.into());
        self
    }
    /// Sets the vertical movements instead of drawing them, above -1 and below 1.
    #[must_use]
    pub fn draw_y(mut self, draw: impl Into<DrawnValues>) -> Self {
        self.draw_y = Some(draw.into());
        self
    }
}

fn bounded(v: f64) -> Result<()> {
    let why = || format!("{v} would fold the image; it must be above -1 and below 1");
    if v.abs() < 1.0 { Ok(()) } else { Err(Error::config("max_warp", why())) }
}

impl BatchTransform for Warp {
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
        self.check()?;
        let mut maps = vec![];
        if split == Split::Train {
            let mut drawn = |given: &Option<DrawnValues>| {
                let uniform = |draw: &mut dyn Draw| draw.uniform(-self.magnitude, self.magnitude);
                self.geometry.chance.values(plan.len(), 0.0, given.as_ref(), rng, uniform)
            };
            let (xs, ys) = (drawn(&self.draw_x)?, drawn(&self.draw_y)?);
            xs.iter().chain(&ys).try_for_each(|&v| bounded(v))?;
            maps = xs.into_iter().zip(ys).map(|(x, y)| Matrix::perspective(x, y)).collect();
        }
        plan.warp(self.geometry.resampling, self.geometry.size, maps)
    }
    fn check(&self) -> Result<()> {
        self.geometry.check()?;
        bounded(self.magnitude)
    }
    fn order(&self) -> i32 {
        30
    }
    fn spec(&self) -> Option<BatchSpec> {
        Some(BatchSpec::Warp(self.clone()))
    }
}
