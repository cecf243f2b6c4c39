//! Perspectives of batches.

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

/// Looks at images from a side: fastai's [`Warp`](https://docs.fast.ai/vision.augment.html#warp).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Warp {
    geometry: Geometry,
    magnitude: f64,
    draw_x: Option<DrawnValues>,
    draw_y: Option<DrawnValues>,
}

impl Warp {
    /// Moves the corners by up to `magnitude` of half a side; fastai's default is 0.2.
    #[must_use]
    pub fn new(magnitude: f64) -> Self {
        Self::of(Geometry::new(), magnitude)
    }
    pub(super) fn of(geometry: Geometry, magnitude: f64) -> Self {
        Self { geometry, magnitude, draw_x: None, draw_y: None }
    }
    geometry!();
    /// The movements from left to right, above -1 and below 1. Default: drawn.
    #[must_use]
    pub fn draw_x(mut self, draw: impl Into<DrawnValues>) -> Self {
        self.draw_x = Some(draw.into());
        self
    }
    /// The movements from top to bottom, above -1 and below 1. Default: drawn.
    #[must_use]
    pub fn draw_y(mut self, draw: impl Into<DrawnValues>) -> Self {
        self.draw_y = Some(draw.into());
        self
    }
}

fn bounded(v: f64) -> Result<()> {
    let why = || format!("{v} would fold the picture: it must be between -1 and 1");
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
