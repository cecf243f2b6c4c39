//! What is to be done to a batch, as data.

use super::{Color, Crop, Erased, Matrix, Resampling};
use crate::error::{Error, Result};

/// A step of the caller's own on whole batches, N×C×H×W.
#[cfg(feature = "torch")]
pub(super) type TensorStep =
    std::sync::Arc<dyn Fn(tch::Tensor) -> Result<tch::Tensor> + Send + Sync>;
/// Without tensors there are no steps on them.
#[cfg(not(feature = "torch"))]
pub(super) type TensorStep = std::convert::Infallible;

/// What is to be done to one image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ImagePlan {
    /// Flips, rotations and zooms, before the correction for images that are not square.
    pub affine: Matrix,
    /// The perspective after them.
    pub warp: Matrix,
    /// What is done to colors, in order.
    pub colors: Vec<Color>,
}

impl ImagePlan {
    const NOTHING: Self = Self { affine: Matrix::ONE, warp: Matrix::ONE, colors: vec![] };

    /// Whether pixels stay where they are.
    pub(super) fn is_still(&self) -> bool {
        self.affine == Matrix::ONE && self.warp == Matrix::ONE
    }
}

/// The order of work in one pass. What is planned later but belongs before something that is planned
/// already begins a pass of its own.
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

/// A part of all images and the size it is brought to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CropStep {
    pub(super) part: Crop,
    pub(super) size: (u32, u32),
    pub(super) mode: super::Mode,
}

/// What is to be done to a batch, as data: nothing is done until it is carried out, and then at once.
///
/// One pass moves pixels (flips, turns, zooms, perspectives, a crop, a size), changes colors,
/// normalizes and erases, in this order and in one resampling. A step on tensors ends a pass; what is
/// planned after it is another one.
#[derive(derive_more::Debug, Clone)]
pub struct Plan {
    pub(super) input: (u32, u32),
    pub(super) channels: u8,
    /// What is to be done to each image in the first pass.
    pub images: Vec<ImagePlan>,
    /// The place that each image had when the plan was made.
    places: Vec<usize>,
    phase: Phase,
    /// How pixels are resampled, where they may move.
    pub(super) resampling: Option<Resampling>,
    /// The size after flips, turns, zooms and perspectives.
    pub(super) size: Option<(u32, u32)>,
    pub(super) crop: Option<CropStep>,
    /// Mean and standard deviation of each channel.
    pub(super) normalize: Option<(Vec<f32>, Vec<f32>)>,
    pub(super) erased: Vec<Erased>,
    /// Colors of each image that are known already, but planned with those of other transforms.
    later: Vec<Vec<Color>>,
    #[debug("{}", steps.len())]
    pub(super) steps: Vec<TensorStep>,
    pub(super) next: Option<Box<Self>>,
}

impl Plan {
    /// Nothing, for `n` images of `size` (width, height).
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

    /// Forgets all images but the `kept` ones, given by position in order. What was drawn for the batch
    /// as a whole stays.
    ///
    /// # Errors
    /// [`Error::Config`] if a position is beyond the images. Nothing is changed then.
    pub fn keep(&mut self, kept: &[usize]) -> Result<()> {
        let n = self.images.len();
        if let Some(far) = kept.iter().find(|i| **i >= n) {
            let why = format!("position {far} is beyond the {n} images of the plan");
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

    /// The place that image `i` had before [`keep`](Self::keep): what its noise is drawn for.
    pub(super) fn place(&self, i: usize) -> usize {
        self.places.get(i).copied().unwrap_or(i)
    }

    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The channels of the images: 1 or 3.
    #[must_use]
    pub fn channels(&self) -> u8 {
        self.channels
    }

    /// The width and height of the images before the first pass.
    #[must_use]
    pub fn input_size(&self) -> (u32, u32) {
        self.input
    }

    /// The width and height of the images after the first pass.
    #[must_use]
    pub fn output_size(&self) -> (u32, u32) {
        self.crop.map(|c| c.size).or(self.size).unwrap_or(self.input)
    }

    /// The part of all images that the first pass keeps, if it is not the whole.
    #[must_use]
    pub fn part(&self) -> Option<Crop> {
        self.crop.map(|crop| crop.part)
    }

    /// Returns mean and standard deviation of each channel if the plan is a normalization and nothing else. The inner `None`
    /// stands for a plan that does nothing; the outer one for a plan that does more.
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

    /// The passes, in order. Mostly there is one.
    pub fn passes(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |plan| plan.next.as_deref())
    }

    /// Whether the first pass ends with closures over tensors.
    pub(crate) fn has_steps(&self) -> bool {
        !self.steps.is_empty()
    }

    /// The first pass without what comes after it.
    #[must_use]
    pub fn first_pass(&self) -> Self {
        Self { next: None, ..self.clone() }
    }

    /// The width and height that the last pass has come to so far.
    #[must_use]
    pub fn size_so_far(&self) -> (u32, u32) {
        self.passes().last().map_or(self.input, Self::output_size)
    }

    /// The pass that still takes something of `phase`: the last one or, if that is beyond it, a new one.
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

    /// Moves pixels: one map for each image, composed with those that are planned. Of several
    /// resamplings and sizes in one pass, the first counts.
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

    /// Looks at each image from a side. Perspectives come after all maps of [`affine`](Self::affine).
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

    /// Keeps a part of all images and brings it to `size` (width, height).
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

    /// Changes colors: one change for each image.
    pub fn color(&mut self, changes: impl IntoIterator<Item = Color>) {
        let pass = self.pass(Phase::Color);
        for (image, change) in pass.images.iter_mut().zip(changes) {
            Color::append(&mut image.colors, change);
        }
    }

    /// Remembers changes of colors for [`later_colors`](Self::later_colors), a list for each image.
    pub(super) fn remember_colors(&mut self, changes: Vec<Vec<Color>>) {
        self.later.resize_with(self.len(), Vec::new);
        for (all, new) in self.later.iter_mut().zip(changes) {
            all.extend(new);
        }
    }

    /// Plans what was remembered.
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

    /// Takes away the mean of each channel and divides by its standard deviation.
    ///
    /// # Errors
    /// [`Error::Config`] if there are not as many of both as channels.
    pub fn normalize(&mut self, mean: &[f32], std: &[f32]) -> Result<()> {
        let n = usize::from(self.channels);
        if mean.len() != n || std.len() != n {
            let why = format!("{} statistics for images of {n} channels", mean.len());
            return Err(Error::config("Normalize", why));
        }
        self.pass(Phase::Normalize).normalize = Some((mean.to_vec(), std.to_vec()));
        Ok(())
    }

    /// Writes noise over a rectangle of all images.
    pub fn erase(&mut self, erased: Erased) {
        self.pass(Phase::Erase).erased.push(erased);
    }

    /// The same in fastai's own order: flips, turns and perspectives at full size in a pass of their
    /// own, then the crop with the rest. Two resamplings are a little softer than one.
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
