//! Regions of images in a plan: crops and erased rectangles.

use crate::{
    error::{Error, Result},
    seed::{Seed, Stream},
};
use rand_distr::{Distribution as _, StandardNormal};
use std::{borrow::Cow, ops::Range};

/// A rectangle of an image, in pixels. Its four numbers define it, so the struct is exhaustive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// The first row.
    pub top: u32,
    /// The first column.
    pub left: u32,
    /// The number of rows.
    pub height: u32,
    /// The number of columns.
    pub width: u32,
}

/// A rectangle that is erased in all images of a batch. Parts outside of the images are ignored. Exhaustive,
/// so that batch transforms of users can create it.
#[derive(Debug, Clone, PartialEq)]
pub struct Erased {
    /// The first row and the end row (exclusive).
    pub rows: Range<u32>,
    /// The first column and the end column (exclusive).
    pub columns: Range<u32>,
    /// The values that are written.
    pub noise: Noise,
}

/// The values that replace erased pixels, after normalization.
#[derive(derive_more::Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Noise {
    /// Standard normal values from this seed, different for each image.
    Seed(u64),
    /// These values, `[images, channels, rows, columns]`, for the part inside the images.
    Values(#[debug("{}", _0.len())] Vec<f32>),
}

impl Erased {
    /// Returns the rows and columns inside images of (width, height).
    pub(super) fn within(&self, (width, height): (u32, u32)) -> (Range<usize>, Range<usize>) {
        let cut = |r: &Range<u32>, n: u32| {
            let end = r.end.min(n) as usize;
            (r.start as usize).min(end)..end
        };
        (cut(&self.rows, height), cut(&self.columns, width))
    }

    /// Returns `each` values for image `i`.
    pub(super) fn noise(&self, i: usize, each: usize) -> Result<Cow<'_, [f32]>> {
        match &self.noise {
            Noise::Seed(seed) => {
                let mut rng = Seed(*seed).rng(Stream::Item { pass: 0, index: i as u64 });
                Ok(StandardNormal.sample_iter(&mut rng).take(each).collect())
            }
            Noise::Values(values) => {
                values.get(i * each..(i + 1) * each).map(Cow::Borrowed).ok_or_else(|| {
                    let why = format!("{} values of noise; each image needs {each}", values.len());
                    Error::config("RandomErasing", why)
                })
            }
        }
    }
}
