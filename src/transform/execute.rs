//! Carries a plan out: on the CPU in one pass from bytes to normalised floats, elsewhere with
//! libtorch's sampler.

use super::{Plan, affine::Matrix};
use crate::{
    error::{Error, Result},
    image::{Filter, Image, PadMode},
};
use rayon::prelude::*;
use std::borrow::Cow;
use tch::{Kind, Tensor};

/// The steps of a lighting table. Logarithms and exponentials for each pixel would cost more than all
/// the rest.
const STEPS: usize = 4096;

/// What lighting does to values from 0 to 1.
struct Table(Vec<f32>);

impl Table {
    fn new((add, times): (f64, f64)) -> Self {
        let value = |i: usize| {
            let x = (i as f64 / STEPS as f64).clamp(1e-7, 1.0 - 1e-7);
            let logit = ((x / (1.0 - x)).ln() + add) * times;
            (1.0 / (1.0 + (-logit).exp())) as f32
        };
        Self((0..=STEPS).map(value).collect())
    }

    /// By a line between two steps.
    fn at(&self, x: f32) -> f32 {
        let place = x * STEPS as f32;
        let i = (place as usize).min(STEPS - 1);
        let (a, b) = (self.0[i], self.0[i + 1]);
        a + (b - a) * (place - i as f32)
    }
}

/// The mirror image of a coordinate within `0..=last`.
fn reflected(x: f32, last: f32) -> f32 {
    if last <= 0.0 {
        return 0.0;
    }
    let x = x.abs() % (2.0 * last);
    if x > last { 2.0 * last - x } else { x }
}

impl Plan {
    /// The images of `pixels`, N×H×W×C bytes, as the plan wants them: N×H×W×C floats, normalised.
    /// Each pixel is read once and written once; with `parallel`, images are shared among the threads
    /// of the current pool. The result does not depend on it.
    ///
    /// # Errors
    /// [`Error::Config`] if there are not as many bytes as the plan has images for.
    pub fn execute(&self, pixels: &[u8], parallel: bool) -> Result<Vec<f32>> {
        let (w, h) = self.input;
        let each = w as usize * h as usize * usize::from(self.channels);
        if pixels.len() != each * self.len() {
            let why = format!("{} bytes for {} images of {each}", pixels.len(), self.len());
            return Err(Error::config("Plan::execute", why));
        }
        let (ow, oh) = self.output_size();
        let out_each = ow as usize * oh as usize * usize::from(self.channels);
        let mut out = vec![0.0_f32; out_each * self.len()];
        if out.is_empty() {
            return Ok(out);
        }
        let one = |(i, (to, from)): (usize, (&mut [f32], &[u8]))| self.image(i, from, to);
        if parallel {
            out.par_chunks_mut(out_each)
                .zip(pixels.par_chunks(each))
                .enumerate()
                .try_for_each(one)?;
        } else {
            out.chunks_mut(out_each).zip(pixels.chunks(each)).enumerate().try_for_each(one)?;
        }
        Ok(out)
    }

    /// The same for image `i` alone: `pixels`, H×W×C, as the plan wants them, into `out`.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such image, or one of the slices has not its length.
    pub fn execute_image(&self, i: usize, pixels: &[u8], out: &mut [f32]) -> Result<()> {
        let volume = |(w, h): (u32, u32)| w as usize * h as usize * usize::from(self.channels);
        let (from, to) = (volume(self.input), volume(self.output_size()));
        if i >= self.len() || pixels.len() != from || out.len() != to {
            let (bytes, floats) = (pixels.len(), out.len());
            let why = format!("image {i}: {bytes} bytes of {from} to {floats} floats of {to}");
            return Err(Error::config("Plan::execute_image", why));
        }
        self.image(i, pixels, out)
    }

    fn image(&self, i: usize, pixels: &[u8], out: &mut [f32]) -> Result<()> {
        let (w, h) = self.input;
        let mut map = self.map(i);
        let (mut from, mut size) = (Cow::Borrowed(pixels), (w, h));
        if let Some(by) = self.shrink() {
            let less = |n: u32| ((f64::from(n) / by) as u32).max(1);
            size = (less(w), less(h));
            let whole = Image::new(w, h, self.channels, pixels.to_vec())?;
            from = Cow::Owned(whole.resize(size.0, size.1, Filter::Area)?.into_pixels());
            let ratio = |a: u32, b: u32| f64::from(a.max(2) - 1) / f64::from(b.max(2) - 1);
            let (x, y) = (ratio(size.0, w), ratio(size.1, h));
            map = Matrix([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]]).times(&map);
        }
        let table = self.images[i].lighting.filter(|l| *l != (0.0, 1.0)).map(Table::new);
        match self.channels {
            3 => self.sample::<3>(&map, &from, size, table.as_ref(), out),
            _ => self.sample::<1>(&map, &from, size, table.as_ref(), out),
        }
        Ok(())
    }

    /// Bilinear, as `grid_sampler` with `align_corners` computes it.
    fn sample<const C: usize>(
        &self,
        map: &Matrix,
        from: &[u8],
        (w, h): (u32, u32),
        table: Option<&Table>,
        out: &mut [f32],
    ) {
        let (ow, _) = self.output_size();
        let (last_x, last_y) = ((w - 1) as f32, (h - 1) as f32);
        let stride = w as usize * C;
        let (mut scale, mut shift) = ([1.0_f32 / 255.0; C], [0.0_f32; C]);
        if table.is_some() {
            scale = [1.0; C];
        }
        if let Some((mean, std)) = &self.normalize {
            for c in 0..C {
                (scale[c], shift[c]) = (scale[c] / std[c], -mean[c] / std[c]);
            }
        }
        let m = map.0.map(|row| row.map(|v| v as f32));
        let flat = map.0[2][0] == 0.0 && map.0[2][1] == 0.0;
        for (y, row) in out.chunks_mut(ow as usize * C).enumerate() {
            // The start of a row in double precision; along it the steps are short.
            let at = |r: usize| (map.0[r][1] * y as f64 + map.0[r][2]) as f32;
            let (x0, y0, w0) = (at(0), at(1), at(2));
            for (x, to) in row.chunks_exact_mut(C).enumerate() {
                let x = x as f32;
                let (mut px, mut py) = (m[0][0] * x + x0, m[1][0] * x + y0);
                if !flat {
                    let inverse = 1.0 / (m[2][0] * x + w0);
                    (px, py) = (px * inverse, py * inverse);
                }
                match self.pad_mode {
                    PadMode::Reflection => {
                        (px, py) = (reflected(px, last_x), reflected(py, last_y));
                    }
                    PadMode::Border => {
                        (px, py) = (px.clamp(0.0, last_x), py.clamp(0.0, last_y));
                    }
                    PadMode::Zeros => {}
                }
                let values = if self.pad_mode == PadMode::Zeros {
                    with_black::<C>(from, (w, h), px, py)
                } else {
                    let (px, py) = (px.clamp(0.0, last_x), py.clamp(0.0, last_y));
                    let (ix, iy) = (px as usize, py as usize);
                    let (fx, fy) = (px - ix as f32, py - iy as f32);
                    let right = if ix + 1 < w as usize { C } else { 0 };
                    let below = if iy + 1 < h as usize { stride } else { 0 };
                    let start = iy * stride + ix * C;
                    std::array::from_fn(|c| {
                        let pixel = |i: usize| f32::from(from[i + c]);
                        let (a, b) = (pixel(start), pixel(start + right));
                        let (d, e) = (pixel(start + below), pixel(start + below + right));
                        let (top, bottom) = (a + (b - a) * fx, d + (e - d) * fx);
                        top + (bottom - top) * fy
                    })
                };
                for c in 0..C {
                    let value = table.map_or(values[c], |t| t.at(values[c] * (1.0 / 255.0)));
                    to[c] = value * scale[c] + shift[c];
                }
            }
        }
    }

    /// The same as [`Plan::execute`] by libtorch's own sampler, on the device of `x`, N×H×W×C bytes;
    /// the result is N×C×H×W, the caller's own steps included.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn execute_tensor(&self, x: &Tensor) -> Result<Tensor> {
        let device = x.device();
        let (w, h) = self.input;
        let (ow, oh) = self.output_size();
        let float = (Kind::Float, device);
        let mut y = (x.to_kind(Kind::Float) / 255.0).permute([0, 3, 1, 2]);
        if let Some(by) = self.shrink() {
            let less = |n: u32| ((f64::from(n) / by) as u32).max(1);
            // In -1..1 the smaller image covers the same square.
            y = y.f_adaptive_avg_pool2d([i64::from(less(h)), i64::from(less(w))])?;
        }
        // Maps from output pixels to -1..1 of the input, one for each image.
        let side = |n: u32| (f64::from(n) - 1.0).max(1.0) / 2.0;
        let to_unit =
            Matrix([[1.0 / side(w), 0.0, -1.0], [0.0, 1.0 / side(h), -1.0], [0.0, 0.0, 1.0]]);
        let maps: Vec<f32> = (0..self.len())
            .flat_map(|i| to_unit.times(&self.map(i)).0.into_iter().flatten().map(|v| v as f32))
            .collect();
        let maps = Tensor::f_from_slice(&maps)?.f_view([-1, 3, 3])?.to_device(device);
        let xs = Tensor::arange(i64::from(ow), float).view([1, 1, -1]);
        let ys = Tensor::arange(i64::from(oh), float).view([1, -1, 1]);
        let row = |r: i64| {
            let of = |c: i64| maps.select(1, r).select(1, c).view([-1, 1, 1]);
            of(0) * &xs + of(1) * &ys + of(2)
        };
        let depth = row(2);
        let grid = Tensor::f_stack(&[row(0) / &depth, row(1) / &depth], -1)?;
        let pad = match self.pad_mode {
            PadMode::Zeros => 0,
            PadMode::Border => 1,
            PadMode::Reflection => 2,
        };
        y = y.f_grid_sampler(&grid, 0, pad, true)?;
        if self.images.iter().any(|i| i.lighting.is_some()) {
            let of = |f: fn((f64, f64)) -> f64| {
                let all: Vec<f32> = self
                    .images
                    .iter()
                    .map(|i| f(i.lighting.unwrap_or((0.0, 1.0))) as f32)
                    .collect();
                Tensor::from_slice(&all).view([-1, 1, 1, 1]).to_device(device)
            };
            let logit = y.logit(1e-7);
            y = ((logit + of(|l| l.0)) * of(|l| l.1)).sigmoid();
        }
        if let Some((mean, std)) = &self.normalize {
            let of = |v: &[f32]| Tensor::from_slice(v).view([1, -1, 1, 1]).to_device(device);
            y = (y - of(mean)) / of(std);
        }
        self.tensor_steps(y)
    }

    /// The caller's own steps, on a batch N×C×H×W that has gone through the rest of the plan.
    ///
    /// # Errors
    /// As the steps.
    pub fn tensor_steps(&self, x: Tensor) -> Result<Tensor> {
        self.steps.iter().try_fold(x, |x, step| step(x))
    }
}

/// Bilinear where all beyond the edge is black.
fn with_black<const C: usize>(from: &[u8], (w, h): (u32, u32), px: f32, py: f32) -> [f32; C] {
    let (ix, iy) = (px.floor(), py.floor());
    let (fx, fy) = (px - ix, py - iy);
    let mut sum = [0.0; C];
    for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let (x, y) = (ix as i64 + dx, iy as i64 + dy);
        if (0..i64::from(w)).contains(&x) && (0..i64::from(h)).contains(&y) {
            let weight = |d: i64, f: f32| if d == 1 { f } else { 1.0 - f };
            let weight = weight(dx, fx) * weight(dy, fy);
            let start = (y as usize * w as usize + x as usize) * C;
            for c in 0..C {
                sum[c] += weight * f32::from(from[start + c]);
            }
        }
    }
    sum
}
