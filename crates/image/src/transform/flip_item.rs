//! Flips and rotations by 90° of single images.

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

/// Mirrors an image left to right, in training. Corresponds to fastai's
/// [`FlipItem`](https://docs.fast.ai/vision.augment.html#flipitem).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlipItem {
    p: f64,
}

impl FlipItem {
    /// Mirrors half of the images.
    #[must_use]
    pub fn new() -> Self {
        Self { p: 0.5 }
    }
    /// Sets the probability that an image is mirrored. Default: 0.5.
    #[must_use]
    pub fn p(mut self, p: f64) -> Self {
        self.p = p;
        self
    }

    /// Applies the transform to an image. In training, a number is drawn unless the probability is 1.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if `p` is not between 0 and 1.
    pub fn image(&self, image: Image, split: Split, draw: &mut dyn Draw) -> Result<Image> {
        Ok(match self.turn(split, draw)? {
            Some(turn) => image.turned(turn),
            None => image,
        })
    }

    /// Applies the transform to an image and its target.
    ///
    /// # Errors
    /// As [`image`](Self::image), and [`Error::Mismatch`](crate::Error::Mismatch) if a mask differs in
    /// size from its image.
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

/// Flips and rotates an image in one of the eight ways that keep its edges straight, in training. Some
/// of them swap width and height: add a [`Resize`](super::Resize) after it, or use square images.
/// Corresponds to fastai's [`DihedralItem`](https://docs.fast.ai/vision.augment.html#dihedralitem).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DihedralItem {
    p: f64,
}

impl DihedralItem {
    /// Changes every image. One of the eight ways is the identity.
    #[must_use]
    pub fn new() -> Self {
        Self { p: 1.0 }
    }
    /// Sets the probability that a way is drawn. Default: 1.
    #[must_use]
    pub fn p(mut self, p: f64) -> Self {
        self.p = p;
        self
    }

    /// Applies the transform to an image. In training, a number is drawn unless the probability is 1,
    /// and then the way, from 0 to 7: 0 is the identity, the others are in the order of [`Turn::ALL`].
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if `p` is not between 0 and 1.
    pub fn image(&self, image: Image, split: Split, draw: &mut dyn Draw) -> Result<Image> {
        Ok(match self.turn(split, draw)? {
            Some(turn) => image.turned(turn),
            None => image,
        })
    }

    /// Applies the transform to an image and its target.
    ///
    /// # Errors
    /// As [`image`](Self::image), and [`Error::Mismatch`](crate::Error::Mismatch) if a mask differs in
    /// size from its image.
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
