//! Where the pixels of an augmented picture come from.

use super::{BatchTransform, Crop, Plan};
use crate::{
    error::{Error, Result},
    sample::Split,
    seed::Rng,
};
use rand::RngExt as _;

/// A map of the plane, in homogeneous coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Matrix(pub(super) [[f64; 3]; 3]);

impl Matrix {
    pub(super) const ONE: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);

    /// First `other`, then this.
    pub(super) fn times(&self, other: &Self) -> Self {
        let mut out = [[0.0; 3]; 3];
        for (i, row) in out.iter_mut().enumerate() {
            for (j, cell) in row.iter_mut().enumerate() {
                *cell = (0..3).map(|k| self.0[i][k] * other.0[k][j]).sum();
            }
        }
        Self(out)
    }

    /// Where a point goes.
    pub(super) fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let row = |r: &[f64; 3]| r[0] * x + r[1] * y + r[2];
        let w = row(&self.0[2]);
        (row(&self.0[0]) / w, row(&self.0[1]) / w)
    }

    /// The same map where pictures of (width, height) fill -1 to 1 both ways.
    pub(super) fn with_aspect(&self, (width, height): (u32, u32)) -> Self {
        let (w, h) = (f64::from(width), f64::from(height));
        let mut m = *self;
        m.0[0][1] *= h / w;
        m.0[1][0] *= w / h;
        m
    }

    fn rotation(degrees: f64) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        Self([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    }

    fn zoom(zoom: f64, (x, y): (f64, f64)) -> Self {
        let s = 1.0 / zoom;
        let shift = |pct: f64| (1.0 - s) * (2.0 * pct - 1.0);
        Self([[s, 0.0, shift(x)], [0.0, s, shift(y)], [0.0, 0.0, 1.0]])
    }

    /// One of the eight flips and quarter turns, in fastai's numbering.
    fn dihedral(k: usize) -> Self {
        let x = [1.0, -1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0][k];
        let y = [1.0, 1.0, -1.0, 1.0, -1.0, -1.0, 1.0, -1.0][k];
        let straight = [1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0][k];
        let turned = 1.0 - straight;
        Self([[x * straight, x * turned, 0.0], [y * turned, y * straight, 0.0], [0.0, 0.0, 1.0]])
    }

    /// The perspective that moves the corners of the picture in by `x` and `y`.
    fn perspective(x: f64, y: f64) -> Self {
        let from = [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)];
        let to =
            [(-1.0 - y, -1.0 - x), (-1.0 + y, 1.0 + x), (1.0 + y, -1.0 + x), (1.0 - y, 1.0 - x)];
        // Eight linear equations for the map that takes `to` to `from`.
        let mut rows = [[0.0; 9]; 8];
        for (i, ((fx, fy), (tx, ty))) in from.into_iter().zip(to).enumerate() {
            rows[2 * i] = [tx, ty, 1.0, 0.0, 0.0, 0.0, -fx * tx, -fx * ty, fx];
            rows[2 * i + 1] = [0.0, 0.0, 0.0, tx, ty, 1.0, -fy * tx, -fy * ty, fy];
        }
        let [a, b, c, d, e, f, g, h] = solve(rows);
        Self([[a, b, c], [d, e, f], [g, h, 1.0]])
    }
}

/// Gaussian elimination with pivots; the last column is the right side.
fn solve(mut rows: [[f64; 9]; 8]) -> [f64; 8] {
    for i in 0..8 {
        let pivot =
            (i..8).fold(i, |best, k| if rows[k][i].abs() > rows[best][i].abs() { k } else { best });
        rows.swap(i, pivot);
        let row = rows[i];
        for (k, other) in rows.iter_mut().enumerate() {
            if k != i {
                let factor = other[i] / row[i];
                for (o, r) in other.iter_mut().zip(row).skip(i) {
                    *o -= factor * r;
                }
            }
        }
    }
    std::array::from_fn(|i| rows[i][8] / rows[i][i])
}

/// A draw for each image, or for the batch; `neutral` where chance leaves an image alone.
pub(super) fn draws(
    n: usize,
    p: f64,
    neutral: f64,
    batch: bool,
    rng: &mut Rng,
    mut draw: impl FnMut(&mut Rng) -> f64,
) -> Vec<f64> {
    let mut one = || {
        let drawn = draw(rng);
        if rng.random::<f64>() < p { drawn } else { neutral }
    };
    if batch { vec![one(); n] } else { (0..n).map(|_| one()).collect() }
}

fn compose(plan: &mut Plan, with: impl IntoIterator<Item = Matrix>) {
    for (image, m) in plan.images.iter_mut().zip(with) {
        image.affine = image.affine.times(&m);
    }
}

pub(super) fn probability(option: &'static str, p: f64) -> Result<()> {
    let fits = (0.0..=1.0).contains(&p);
    if fits { Ok(()) } else { Err(Error::config(option, format!("{p} is no probability"))) }
}

macro_rules! geometry {
    () => {
        /// Whether one draw is for the whole batch. Default: false.
        #[must_use]
        pub fn batch(mut self, yes: bool) -> Self {
            self.batch = yes;
            self
        }
        /// The probability that an image is changed. Default: 0.5.
        #[must_use]
        pub fn p(mut self, p: f64) -> Self {
            self.p = p;
            self
        }
    };
}

/// Mirrors images left to right, or all eight ways.
#[derive(Debug, Clone)]
pub struct Flip {
    p: f64,
    batch: bool,
    vertical: bool,
}

impl Flip {
    /// Left to right, half of the images.
    #[must_use]
    pub fn new() -> Self {
        Self { p: 0.5, batch: false, vertical: false }
    }
    geometry!();
    /// Whether to draw from all eight flips and quarter turns: fastai's `Dihedral`. Default: false.
    #[must_use]
    pub fn vertical(mut self, yes: bool) -> Self {
        self.vertical = yes;
        self
    }
}

impl Default for Flip {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchTransform for Flip {
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
        probability("p", self.p)?;
        if split == Split::Train {
            let ways = if self.vertical { 0..8 } else { 1..2 };
            let draw = |rng: &mut Rng| rng.random_range(ways.clone()) as f64;
            let drawn = draws(plan.len(), self.p, 0.0, self.batch, rng, draw);
            compose(plan, drawn.into_iter().map(|k| Matrix::dihedral(k as usize)));
        }
        Ok(())
    }
    fn order(&self) -> i32 {
        30
    }
}

/// Turns images by up to some degrees, clockwise for positive ones.
#[derive(Debug, Clone)]
pub struct Rotate {
    max_deg: f64,
    p: f64,
    batch: bool,
}

impl Rotate {
    /// By up to `max_deg` degrees either way.
    #[must_use]
    pub fn new(max_deg: f64) -> Self {
        Self { max_deg, p: 0.5, batch: false }
    }
    geometry!();
}

impl BatchTransform for Rotate {
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
        probability("p", self.p)?;
        if split == Split::Train {
            let draw = |rng: &mut Rng| (2.0 * rng.random::<f64>() - 1.0) * self.max_deg;
            let drawn = draws(plan.len(), self.p, 0.0, self.batch, rng, draw);
            compose(plan, drawn.into_iter().map(Matrix::rotation));
        }
        Ok(())
    }
    fn order(&self) -> i32 {
        30
    }
}

/// Zooms into images, about a centre that is drawn too.
#[derive(Debug, Clone)]
pub struct Zoom {
    min_zoom: f64,
    max_zoom: f64,
    p: f64,
    batch: bool,
}

impl Zoom {
    /// By a factor between `min_zoom` and `max_zoom`; above 1 things become larger.
    #[must_use]
    pub fn new(min_zoom: f64, max_zoom: f64) -> Self {
        Self { min_zoom, max_zoom, p: 0.5, batch: false }
    }
    geometry!();
}

impl BatchTransform for Zoom {
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
        probability("p", self.p)?;
        if !(self.min_zoom > 0.0 && self.min_zoom <= self.max_zoom) {
            let why = format!("{} to {} is no range of zooms", self.min_zoom, self.max_zoom);
            return Err(Error::config("min_zoom", why));
        }
        if split == Split::Train {
            let range = self.max_zoom - self.min_zoom;
            let draw = |rng: &mut Rng| self.min_zoom + range * rng.random::<f64>();
            let zooms = draws(plan.len(), self.p, 1.0, self.batch, rng, draw);
            let x = draws(plan.len(), 1.0, 0.5, self.batch, rng, |rng| rng.random());
            let y = draws(plan.len(), 1.0, 0.5, self.batch, rng, |rng| rng.random());
            let centres = x.into_iter().zip(y);
            compose(plan, zooms.into_iter().zip(centres).map(|(z, c)| Matrix::zoom(z, c)));
        }
        Ok(())
    }
    fn order(&self) -> i32 {
        30
    }
}

/// Looks at images from a side.
#[derive(Debug, Clone)]
pub struct Warp {
    magnitude: f64,
    p: f64,
    batch: bool,
}

impl Warp {
    /// Moves the corners by up to `magnitude` of half a side.
    #[must_use]
    pub fn new(magnitude: f64) -> Self {
        Self { magnitude, p: 0.5, batch: false }
    }
    geometry!();
}

impl BatchTransform for Warp {
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
        probability("p", self.p)?;
        if !(0.0..1.0).contains(&self.magnitude) {
            let why = format!("{} is not between 0 and 1", self.magnitude);
            return Err(Error::config("max_warp", why));
        }
        if split == Split::Train {
            let draw = |rng: &mut Rng| (2.0 * rng.random::<f64>() - 1.0) * self.magnitude;
            let x = draws(plan.len(), self.p, 0.0, self.batch, rng, draw);
            let y = draws(plan.len(), self.p, 0.0, self.batch, rng, draw);
            for (image, (x, y)) in plan.images.iter_mut().zip(x.into_iter().zip(y)) {
                // Exactly nothing where chance leaves an image alone.
                if (x, y) != (0.0, 0.0) {
                    image.warp = Matrix::perspective(x, y);
                }
            }
        }
        Ok(())
    }
    fn order(&self) -> i32 {
        30
    }
}

/// Keeps a random part of every image of a batch, the same one, and brings it to a size; the centre in
/// validation.
#[derive(Debug, Clone)]
pub struct RandomResizedCropGpu {
    size: (u32, u32),
    min_scale: f64,
    ratio: (f64, f64),
}

impl RandomResizedCropGpu {
    /// To `size` (width, height), at least 8 % of the area, a side by side ratio of 3:4 to 4:3.
    #[must_use]
    pub fn new(size: (u32, u32)) -> Self {
        Self { size, min_scale: 0.08, ratio: (3.0 / 4.0, 4.0 / 3.0) }
    }
    /// The smallest part of the area. Default: 0.08.
    #[must_use]
    pub fn min_scale(mut self, scale: f64) -> Self {
        self.min_scale = scale;
        self
    }
    /// The least and the greatest width over height. Default: 3/4 and 4/3.
    #[must_use]
    pub fn ratio(mut self, least: f64, greatest: f64) -> Self {
        self.ratio = (least, greatest);
        self
    }

    fn crop(&self, (w, h): (u32, u32), split: Split, rng: &mut Rng) -> Crop {
        let (width, height) = (f64::from(w), f64::from(h));
        let (least, greatest) = self.ratio;
        if split == Split::Train {
            for _ in 0..10 {
                let scale = self.min_scale + (1.0 - self.min_scale) * rng.random::<f64>();
                let area = scale * width * height;
                let (a, b) = (least.ln(), greatest.ln());
                let ratio = (a + (b - a) * rng.random::<f64>()).exp();
                let cw = (area * ratio).sqrt().round_ties_even() as u32;
                let ch = (area / ratio).sqrt().round_ties_even() as u32;
                if (1..=w).contains(&cw) && (1..=h).contains(&ch) {
                    let (top, left) = (rng.random_range(0..=h - ch), rng.random_range(0..=w - cw));
                    return Crop { top, left, height: ch, width: cw };
                }
            }
        }
        let (ch, cw) = if width / height < least {
            ((width / least) as u32, w)
        } else if width / height > greatest {
            (h, (height * greatest) as u32)
        } else {
            (h, w)
        };
        Crop { top: (h - ch) / 2, left: (w - cw) / 2, height: ch, width: cw }
    }
}

impl BatchTransform for RandomResizedCropGpu {
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
        let fits = self.min_scale > 0.0 && self.min_scale <= 1.0;
        if !fits || self.ratio.0 <= 0.0 || self.ratio.0 > self.ratio.1 {
            let why = format!("{} is no part of an area", self.min_scale);
            return Err(Error::config("min_scale", why));
        }
        plan.crop = Some(self.crop(plan.input, split, rng));
        plan.resize(self.size)
    }
    fn order(&self) -> i32 {
        30
    }
}
