//! Random flips, rotations and zooms of batches.

use super::{
    BatchSpec, BatchTransform, Draw, DrawnValues, Matrix, Plan,
    draw::Chance,
    geometry::{Geometry, geometry},
};
use crate::{
    error::{Error, Result},
    sample::Split,
    seed::Rng,
};
use serde::{Deserialize, Serialize};

macro_rules! affine {
    ($name:ident: |$this:ident, $n:ident, $draw:ident| $maps:expr) => {
        impl BatchTransform for $name {
            fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
                self.check()?;
                let ($this, $n, $draw) = (self, plan.len(), rng);
                let maps: Vec<Matrix> = if split == Split::Train { $maps } else { vec![] };
                plan.affine(self.geometry.resampling, self.geometry.size, maps)
            }
            fn check(&self) -> Result<()> {
                self.geometry.check()?;
                self.options()
            }
            fn order(&self) -> i32 {
                30
            }
            fn spec(&self) -> Option<BatchSpec> {
                Some(BatchSpec::$name(self.clone()))
            }
        }
    };
}

/// Mirrors images left to right. Corresponds to fastai's
/// [`Flip`](https://docs.fast.ai/vision.augment.html#flip).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flip {
    geometry: Geometry,
    draw: Option<DrawnValues>,
}

impl Flip {
    /// Mirrors half of the images.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Geometry::new())
    }
    pub(super) fn of(geometry: Geometry) -> Self {
        Self { geometry, draw: None }
    }
    geometry!();
    /// Sets which images are mirrored: 1 for mirrored, 0 for unchanged. Default: 1 for all. `p` still
    /// applies.
    #[must_use]
    pub fn draw(mut self, draw: impl Into<DrawnValues>) -> Self {
        self.draw = Some(draw.into());
        self
    }
    fn options(&self) -> Result<()> {
        Ok(())
    }
}

affine!(Flip: |this, n, draw| {
    let flips = this.geometry.chance.values(n, 0.0, this.draw.as_ref(), draw, |_| 1.0)?;
    flips.into_iter().map(|v| if v == 0.0 { Matrix::ONE } else { Matrix::flip() }).collect()
});

/// Flips and rotates images in one of the eight ways that keep their edges straight. One of the ways is
/// the identity. Corresponds to fastai's
/// [`Dihedral`](https://docs.fast.ai/vision.augment.html#dihedral).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dihedral {
    geometry: Geometry,
    draw: Option<DrawnValues>,
}

impl Dihedral {
    /// Draws a way for half of the images.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Geometry::new())
    }
    pub(super) fn of(geometry: Geometry) -> Self {
        Self { geometry, draw: None }
    }
    geometry!();
    /// Sets the ways instead of drawing them, from 0 to 7, as in [`Matrix::dihedral`].
    #[must_use]
    pub fn draw(mut self, draw: impl Into<DrawnValues>) -> Self {
        self.draw = Some(draw.into());
        self
    }
    fn options(&self) -> Result<()> {
        Ok(())
    }
}

affine!(Dihedral: |this, n, draw| {
    let drawn = |draw: &mut dyn Draw| draw.integer(0, 7) as f64;
    let ways = this.geometry.chance.values(n, 0.0, this.draw.as_ref(), draw, drawn)?;
    ways.into_iter().map(|k| Matrix::dihedral(k as usize)).collect()
});

/// Rotates images, clockwise for positive degrees. Corresponds to fastai's
/// [`Rotate`](https://docs.fast.ai/vision.augment.html#rotate).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rotate {
    geometry: Geometry,
    max_deg: f64,
    draw: Option<DrawnValues>,
}

impl Rotate {
    /// Rotates by up to `max_deg` degrees in both directions. fastai's default is 10.
    #[must_use]
    pub fn new(max_deg: f64) -> Self {
        Self::of(Geometry::new(), max_deg)
    }
    pub(super) fn of(geometry: Geometry, max_deg: f64) -> Self {
        Self { geometry, max_deg, draw: None }
    }
    geometry!();
    /// Sets the degrees instead of drawing them.
    #[must_use]
    pub fn draw(mut self, draw: impl Into<DrawnValues>) -> Self {
        self.draw = Some(draw.into());
        self
    }
    fn options(&self) -> Result<()> {
        let why = || format!("is {}; it must be finite", self.max_deg);
        if self.max_deg.is_finite() { Ok(()) } else { Err(Error::config("max_rotate", why())) }
    }
}

affine!(Rotate: |this, n, draw| {
    let drawn = |draw: &mut dyn Draw| draw.uniform(-this.max_deg, this.max_deg);
    let degrees = this.geometry.chance.values(n, 0.0, this.draw.as_ref(), draw, drawn)?;
    degrees.into_iter().map(Matrix::rotation).collect()
});

/// Zooms into images around a random center. Corresponds to fastai's
/// [`Zoom`](https://docs.fast.ai/vision.augment.html#zoom).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Zoom {
    geometry: Geometry,
    min_zoom: f64,
    max_zoom: f64,
    draw: Option<DrawnValues>,
    draw_x: Option<DrawnValues>,
    draw_y: Option<DrawnValues>,
}

impl Zoom {
    /// Zooms by a factor between `min_zoom` and `max_zoom`; factors above 1 enlarge. fastai's defaults
    /// are 1 and 1.1.
    #[must_use]
    pub fn new(min_zoom: f64, max_zoom: f64) -> Self {
        Self::of(Geometry::new(), min_zoom, max_zoom)
    }
    pub(super) fn of(geometry: Geometry, min_zoom: f64, max_zoom: f64) -> Self {
        Self { geometry, min_zoom, max_zoom, draw: None, draw_x: None, draw_y: None }
    }
    geometry!();
    /// Sets the factors instead of drawing them.
    #[must_use]
    pub fn draw(mut self, draw: impl Into<DrawnValues>) -> Self {
        self.draw = Some(draw.into());
        self
    }
    /// Sets the centers as fractions of the width instead of drawing them.
    #[must_use]
    pub fn draw_x(mut self, draw: impl Into<DrawnValues>) -> Self {
        self.draw_x = Some(draw.into());
        self
    }
    /// Sets the centers as fractions of the height instead of drawing them.
    #[must_use]
    pub fn draw_y(mut self, draw: impl Into<DrawnValues>) -> Self {
        self.draw_y = Some(draw.into());
        self
    }
    fn options(&self) -> Result<()> {
        let (min, max) = (self.min_zoom, self.max_zoom);
        let fits = min > 0.0 && min <= max && max.is_finite();
        let why =
            || format!("the range is {min} to {max}; it must be ascending, above 0 and finite");
        if fits { Ok(()) } else { Err(Error::config("min_zoom", why())) }
    }
}

affine!(Zoom: |this, n, draw| {
    let drawn = |draw: &mut dyn Draw| draw.uniform(this.min_zoom, this.max_zoom);
    let zooms = this.geometry.chance.values(n, 1.0, this.draw.as_ref(), draw, drawn)?;
    // Centers are always set: without a zoom they have no effect.
    let always = Chance { p: 1.0, ..this.geometry.chance };
    let mut centers = |given: &Option<DrawnValues>| {
        always.values(n, 0.5, given.as_ref(), draw, |draw| draw.uniform(0.0, 1.0))
    };
    let (x, y) = (centers(&this.draw_x)?, centers(&this.draw_y)?);
    let centers = x.into_iter().zip(y);
    zooms.into_iter().zip(centers).map(|(z, c)| Matrix::zoom(z, c)).collect()
});

macro_rules! defaults {
    ($($name:ident)*) => {
        $(impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        })*
    };
}
defaults!(Flip Dihedral);
