//! Regions of images that a plan names: a crop, a rectangle of noise.

use crate::{
    error::{Error, Result},
    seed::{Seed, Stream},
};
use rand_distr::{Distribution as _, StandardNormal};
use std::{borrow::Cow, ops::Range};

/// A part of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// The first row.
    pub top: u32,
    /// The first column.
    pub left: u32,
    /// The rows.
    pub height: u32,
    /// The columns.
    pub width: u32,
}

/// A rectangle of noise in all images of a batch. What is beyond the images is cut off.
#[derive(Debug, Clone, PartialEq)]
pub struct Erased {
    /// From the first row to the one after the last.
    pub rows: Range<u32>,
    /// From the first column to the one after the last.
    pub columns: Range<u32>,
    /// What is written there.
    pub noise: Noise,
}

/// What is written over erased pixels, after normalization.
#[derive(derive_more::Debug, Clone, PartialEq)]
pub enum Noise {
    /// Normally distributed, its own for each image, from a seed.
    Seed(u64),
    /// These values, images×channels×rows×columns of what is within the images.
    Values(#[debug("{}", _0.len())] Vec<f32>),
}

impl Erased {
    /// The rows and columns within images of (width, height).
    pub(super) fn within(&self, (width, height): (u32, u32)) -> (Range<usize>, Range<usize>) {
        let cut = |r: &Range<u32>, n: u32| {
            let end = r.end.min(n) as usize;
            (r.start as usize).min(end)..end
        };
        (cut(&self.rows, height), cut(&self.columns, width))
    }

    /// `each` values for image `i`.
    pub(super) fn noise(&self, i: usize, each: usize) -> Result<Cow<'_, [f32]>> {
        match &self.noise {
            Noise::Seed(seed) => {
                let mut rng = Seed(*seed).rng(Stream::Item { pass: 0, index: i as u64 });
                Ok(StandardNormal.sample_iter(&mut rng).take(each).collect())
            }
            Noise::Values(values) => {
                values.get(i * each..(i + 1) * each).map(Cow::Borrowed).ok_or_else(|| {
                    let why = format!("{} values of noise, {each} for each image", values.len());
                    Error::config("RandomErasing", why)
                })
            }
        }
    }
}
