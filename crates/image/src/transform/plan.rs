//! The changes of a batch, as data.

use super::{Color, Crop, Erased, Matrix, Resampling};
use crate::error::{Error, Result};

/// A step of the user on whole batches, `[N, C, H, W]`.
#[cfg(feature = "torch")]
pub(super) type TensorStep =
    std::sync::Arc<dyn Fn(tch::Tensor) -> Result<tch::Tensor> + Send + Sync>;
/// Builds without tensors have no such steps.
#[cfg(not(feature = "torch"))]
pub(super) type TensorStep = std::convert::Infallible;

/// The changes of one image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ImagePlan {
    /// Flips, rotations and zooms, before the correction for images that are not square.
    pub affine: Matrix,
    /// The perspective, applied after `affine`.
    pub warp: Matrix,
    /// The color changes, in order.
    pub colors: Vec<Color>,
}

impl ImagePlan {
    const NOTHING: Self = Self { affine: Matrix::ONE, warp: Matrix::ONE, colors: vec![] };

    /// Returns true if pixels are not moved.
    pub(super) fn is_still(&self) -> bool {
        self.affine == Matrix::ONE && self.warp == Matrix::ONE
    }
}

/// The order of steps within a pass. A step that belongs before one that is already planned starts a new
/// pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Nothing,
    Geometry,
    Crop,
    Color,
    Normalize,
    Erase,
    #[cfg(feature = "torch")]
    Step,
}

/// A crop of all images, and the size to which it is resized.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CropStep {
    pub(super) part: Crop,
    pub(super) size: (u32, u32),
    pub(super) mode: super::Mode,
}

/// The changes of a batch, as data. Transforms fill it; then it is executed at once.
///
/// One pass moves pixels (flips, rotations, zooms, perspectives, a crop, a size), changes colors,
/// normalizes and erases, in this order and in one resampling. A step on tensors ends a pass; changes
/// that are planned after it are a new pass.
#[derive(derive_more::Debug, Clone)]
pub struct Plan {
    pub(super) input: (u32, u32),
    pub(super) channels: u8,
    /// The changes of each image in the first pass.
    pub images: Vec<ImagePlan>,
    /// The index of each image when the plan was created.
    places: Vec<usize>,
    phase: Phase,
    /// The resampling, if pixels are moved.
    pub(super) resampling: Option<Resampling>,
    /// The size after flips, rotations, zooms and perspectives.
    pub(super) size: Option<(u32, u32)>,
    pub(super) crop: Option<CropStep>,
    /// The mean and standard deviation of each channel.
    pub(super) normalize: Option<(Vec<f32>, Vec<f32>)>,
    pub(super) erased: Vec<Erased>,
    /// Color changes of each image that are stored until the colors of other transforms are planned.
    later: Vec<Vec<Color>>,
    #[debug("{}", steps.len())]
    pub(super) steps: Vec<TensorStep>,
    pub(super) next: Option<Box<Self>>,
}

impl Plan {
    /// Creates an empty plan for `n` images of `size` (width, height).
    ///
    /// # Panics
    /// As [`Vec::with_capacity`], if the changes of `n` images need more than `isize::MAX` bytes.
    #[must_use]
    pub fn new(n: usize, size: (u32, u32), channels: u8) -> Self {
        Self {
            input: size,
            channels,
            images: vec![ImagePlan::NOTHING; n],
            places: (0..n).collect(),
            phase: Phase::Nothing,
            resampling: None,
            size: None,
            crop: None,
            normalize: None,
            erased: vec![],
            later: vec![],
            steps: vec![],
            next: None,
        }
    }

    /// Removes all images except the `kept` ones, given by index. Draws for the whole batch are kept.
    ///
    /// # Errors
    /// [`Error::Config`] if an index is not below the number of images. The plan is not changed then.
    pub fn keep(&mut self, kept: &[usize]) -> Result<()> {
        let n = self.images.len();
        if let Some(far) = kept.iter().find(|i| **i >= n) {
            let why = format!("index {far} is not below {n}, the number of images");
            return Err(Error::config("Plan::keep", why));
        }
        self.images = kept.iter().map(|&i| self.images[i].clone()).collect();
        self.places = kept.iter().map(|&i| self.place(i)).collect();
        if !self.later.is_empty() {
            self.later = kept.iter().map(|&i| self.later[i].clone()).collect();
        }
        match &mut self.next {
            Some(next) => next.keep(kept),
            None => Ok(()),
        }
    }

    /// Returns the index that image `i` had before [`keep`](Self::keep), from which its noise is drawn.
    pub(super) fn place(&self, i: usize) -> usize {
        self.places.get(i).copied().unwrap_or(i)
    }

    /// Returns the number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Returns true if there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Returns the number of channels of the images: 1 or 3.
    #[must_use]
    pub fn channels(&self) -> u8 {
        self.channels
    }

    /// Returns the width and height of the images before the first pass.
    #[must_use]
    pub fn input_size(&self) -> (u32, u32) {
        self.input
    }

    /// Returns the width and height of the images after the first pass.
    #[must_use]
    pub fn output_size(&self) -> (u32, u32) {
        self.crop.map(|c| c.size).or(self.size).unwrap_or(self.input)
    }

    /// Returns the part of all images that the first pass crops; `None` without a crop.
    #[must_use]
    pub fn part(&self) -> Option<Crop> {
        self.crop.map(|crop| crop.part)
    }

    /// Returns mean and standard deviation of each channel if the plan is empty except for a
    /// normalization. The inner `None` stands for an empty plan, the outer one for a plan with other
    /// changes.
    pub fn only_normalization(&self) -> Option<Option<(Vec<f32>, Vec<f32>)>> {
        let still = self.images.iter().all(|image| image.is_still() && image.colors.is_empty());
        let plain = still
            && self.output_size() == self.input
            && self.crop.is_none()
            && self.erased.is_empty()
            && self.steps.is_empty()
            && self.next.is_none();
        plain.then(|| self.normalize.clone())
    }

    /// Returns the passes, in order. Usually there is one.
    pub fn passes(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |plan| plan.next.as_deref())
    }

    /// Returns true if the first pass ends with closures over tensors.
    pub(crate) fn has_steps(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Returns the first pass without the passes after it.
    #[must_use]
    pub fn first_pass(&self) -> Self {
        Self { next: None, ..self.clone() }
    }

    /// Returns the output width and height of the last pass so far.
    #[must_use]
    pub fn size_so_far(&self) -> (u32, u32) {
        self.passes().last().map_or(self.input, Self::output_size)
    }

    /// Returns the pass for a step of `phase`: the last one or, if that is already past this phase, a
    /// new one.
    pub(super) fn pass(&mut self, phase: Phase) -> &mut Self {
        if let Some(ref mut next) = self.next {
            return next.pass(phase);
        }
        let once = matches!(phase, Phase::Crop | Phase::Normalize);
        if self.phase > phase || (once && self.phase == phase) {
            let next = Self::new(self.len(), self.output_size(), self.channels);
            return self.next.insert(Box::new(next)).pass(phase);
        }
        self.phase = phase;
        self
    }

    /// Moves pixels: one map per image, composed with those already planned. If one pass gets several
    /// resamplings or sizes, the first one is used.
    ///
    /// # Errors
    /// [`Error::Config`] if a side of `size` (width, height) is 0.
    pub fn affine(
        &mut self,
        resampling: Resampling,
        size: Option<(u32, u32)>,
        maps: impl IntoIterator<Item = Matrix>,
    ) -> Result<()> {
        let pass = self.geometry(resampling, size)?;
        for (image, m) in pass.images.iter_mut().zip(maps) {
            image.affine = image.affine.times(&m);
        }
        Ok(())
    }

    /// Applies a perspective to each image. Perspectives come after all maps of
    /// [`affine`](Self::affine).
    ///
    /// # Errors
    /// As [`affine`](Self::affine).
    pub fn warp(
        &mut self,
        resampling: Resampling,
        size: Option<(u32, u32)>,
        maps: impl IntoIterator<Item = Matrix>,
    ) -> Result<()> {
        let pass = self.geometry(resampling, size)?;
        for (image, m) in pass.images.iter_mut().zip(maps) {
            image.warp = m.times(&image.warp);
        }
        Ok(())
    }

    fn geometry(&mut self, resampling: Resampling, size: Option<(u32, u32)>) -> Result<&mut Self> {
        size.map_or(Ok(()), |size| super::size::sides("size", size))?;
        let pass = self.pass(Phase::Geometry);
        pass.resampling.get_or_insert(resampling);
        pass.size = pass.size.or(size);
        Ok(pass)
    }

    /// Crops a part of all images and resizes it to `size` (width, height).
    ///
    /// # Errors
    /// [`Error::Config`] if a side is 0 or the part is not within the images.
    pub fn crop(&mut self, part: Crop, size: (u32, u32), mode: super::Mode) -> Result<()> {
        super::size::sides("size", size)?;
        super::size::sides("crop", (part.width, part.height))?;
        let pass = self.pass(Phase::Crop);
        let (w, h) = pass.size.unwrap_or(pass.input);
        let fits = |start: u32, n: u32, all: u32| u64::from(start) + u64::from(n) <= u64::from(all);
        if !fits(part.left, part.width, w) || !fits(part.top, part.height, h) {
            return Err(Error::config("crop", format!("{part:?} is not within {w}x{h} pixels")));
        }
        pass.crop = Some(CropStep { part, size, mode });
        Ok(())
    }

    /// Changes colors: one change per image.
    pub fn color(&mut self, changes: impl IntoIterator<Item = Color>) {
        let pass = self.pass(Phase::Color);
        for (image, change) in pass.images.iter_mut().zip(changes) {
            Color::append(&mut image.colors, change);
        }
    }

    /// Stores color changes for [`later_colors`](Self::later_colors), a list per image.
    pub(super) fn remember_colors(&mut self, changes: Vec<Vec<Color>>) {
        self.later.resize_with(self.len(), Vec::new);
        for (all, new) in self.later.iter_mut().zip(changes) {
            all.extend(new);
        }
    }

    /// Plans the stored color changes.
    pub(super) fn later_colors(&mut self) {
        let later = std::mem::take(&mut self.later);
        if later.iter().all(Vec::is_empty) {
            return;
        }
        let pass = self.pass(Phase::Color);
        for (image, changes) in pass.images.iter_mut().zip(later) {
            changes.into_iter().for_each(|change| Color::append(&mut image.colors, change));
        }
    }

    /// Subtracts the mean of each channel and divides by its standard deviation.
    ///
    /// # Errors
    /// [`Error::Config`] if the number of means or deviations differs from the number of channels.
    pub fn normalize(&mut self, mean: &[f32], std: &[f32]) -> Result<()> {
        let n = usize::from(self.channels);
        if mean.len() != n || std.len() != n {
            let why = format!("{} means and {} deviations for {n} channels", mean.len(), std.len());
            return Err(Error::config("Normalize", why));
        }
        self.pass(Phase::Normalize).normalize = Some((mean.to_vec(), std.to_vec()));
        Ok(())
    }

    /// Writes noise over a rectangle of all images.
    pub fn erase(&mut self, erased: Erased) {
        self.pass(Phase::Erase).erased.push(erased);
    }

    /// Returns the plan in fastai's order: flips, rotations and perspectives at full size in a pass of
    /// their own, then the crop and the rest. Two resamplings are slightly softer than one.
    #[must_use]
    pub fn unfused(self) -> Self {
        let mut first = self.first_pass();
        let mut rest = self.next.map(|next| Box::new(next.unfused()));
        if first.resampling.is_some() && first.crop.is_some() {
            let mut second =
                Self::new(first.len(), first.size.unwrap_or(first.input), first.channels);
            second.places.clone_from(&first.places);
            second.phase = first.phase;
            second.crop = first.crop.take();
            second.normalize = first.normalize.take();
            second.erased = std::mem::take(&mut first.erased);
            second.steps = std::mem::take(&mut first.steps);
            second.next = rest.take();
            for (from, to) in first.images.iter_mut().zip(&mut second.images) {
                to.colors = std::mem::take(&mut from.colors);
            }
            first.phase = Phase::Geometry;
            rest = Some(Box::new(second));
        }
        Self { next: rest, ..first }
    }
}
