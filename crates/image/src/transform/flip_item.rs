//! Flips and quarter turns of single images.

use super::{
    Draw, ItemSpec, ItemTransform,
    draw::{Chance, happens},
    motion::{Motion, moved},
};
use crate::{
    error::Result,
    image::{Filter, Image, Turn},
    sample::{Sample, Split},
    seed::Rng,
};
use serde::{Deserialize, Serialize};

/// Mirrors an image left to right, in training: fastai's
/// [`FlipItem`](https://docs.fast.ai/vision.augment.html#flipitem).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlipItem {
    p: f64,
}

impl FlipItem {
    /// Half of the images.
    #[must_use]
    pub fn new() -> Self {
        Self { p: 0.5 }
    }
    /// The probability that an image is mirrored. Default: 0.5.
    #[must_use]
    pub fn p(mut self, p: f64) -> Self {
        self.p = p;
        self
    }

    /// The image, mirrored or not. In training it is drawn whether, unless it is certain.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if `p` is no probability.
    pub fn image(&self, image: Image, split: Split, draw: &mut dyn Draw) -> Result<Image> {
        Ok(match self.turn(split, draw)? {
            Some(turn) => image.turned(turn),
            None => image,
        })
    }

    /// [`image`](Self::image) with its target, which is mirrored with it.
    ///
    /// # Errors
    /// As there, and [`Error::Mismatch`](crate::Error::Mismatch) for a mask of another size than its image.
    pub fn sample(&self, sample: Sample, split: Split, draw: &mut dyn Draw) -> Result<Sample> {
        let turn = self.turn(split, draw)?.map(Motion::Turn);
        moved(sample, turn.as_slice(), Filter::default())
    }

    fn turn(&self, split: Split, draw: &mut dyn Draw) -> Result<Option<Turn>> {
        self.check()?;
        let flip = split == Split::Train && happens(self.p, draw);
        Ok(flip.then_some(Turn::FlipLeftRight))
    }
}

impl Default for FlipItem {
    fn default() -> Self {
        Self::new()
    }
}

impl ItemTransform for FlipItem {
    fn apply(&self, sample: Sample, split: Split, rng: &mut Rng) -> Result<Sample> {
        self.sample(sample, split, rng)
    }
    fn check(&self) -> Result<()> {
        Chance::new(self.p).check()
    }
    fn spec(&self) -> Option<ItemSpec> {
        Some(ItemSpec::FlipItem(self.clone()))
    }
}

/// Flips and turns an image in one of the eight ways that keep its edges straight, in training: fastai's
/// [`DihedralItem`](https://docs.fast.ai/vision.augment.html#dihedralitem). Some of them swap width and
/// height, so a [`Resize`](super::Resize) belongs after it, or square images before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DihedralItem {
    p: f64,
}

impl DihedralItem {
    /// Every image; one of the eight ways leaves it as it is.
    #[must_use]
    pub fn new() -> Self {
        Self { p: 1.0 }
    }
    /// The probability that a way is chosen at all. Default: 1.
    #[must_use]
    pub fn p(mut self, p: f64) -> Self {
        self.p = p;
        self
    }

    /// The image, flipped and turned. In training it is drawn whether, unless it is certain, and then
    /// the way, from 0 to 7: 0 is as it is, the others are in the order of [`Turn::ALL`].
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if `p` is no probability.
    pub fn image(&self, image: Image, split: Split, draw: &mut dyn Draw) -> Result<Image> {
        Ok(match self.turn(split, draw)? {
            Some(turn) => image.turned(turn),
            None => image,
        })
    }

    /// [`image`](Self::image) with its target, which is flipped and turned with it.
    ///
    /// # Errors
    /// As there, and [`Error::Mismatch`](crate::Error::Mismatch) for a mask of another size than its image.
    pub fn sample(&self, sample: Sample, split: Split, draw: &mut dyn Draw) -> Result<Sample> {
        let turn = self.turn(split, draw)?.map(Motion::Turn);
        moved(sample, turn.as_slice(), Filter::default())
    }

    fn turn(&self, split: Split, draw: &mut dyn Draw) -> Result<Option<Turn>> {
        self.check()?;
        if split == Split::Valid {
            return Ok(None);
        }
        let turn = happens(self.p, draw);
        let way = draw.integer(0, 7) as usize;
        Ok((turn && way > 0).then(|| Turn::ALL[way - 1]))
    }
}

impl Default for DihedralItem {
    fn default() -> Self {
        Self::new()
    }
}

impl ItemTransform for DihedralItem {
    fn apply(&self, sample: Sample, split: Split, rng: &mut Rng) -> Result<Sample> {
        self.sample(sample, split, rng)
    }
    fn check(&self) -> Result<()> {
        Chance::new(self.p).check()
    }
    fn spec(&self) -> Option<ItemSpec> {
        Some(ItemSpec::DihedralItem(self.clone()))
    }
}
