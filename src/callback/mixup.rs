//! MixUp and CutMix: batches mixed from pairs of items.

use crate::{
    error::{Error, Result},
    learner::{Callback, Step, Training, order},
    sample::Batch,
    seed::{Rng, Stream},
};
use rand::RngExt as _;
use rand_distr::{Beta, Distribution as _};
use std::fmt::Display;
use tch::{Kind, Tensor};

/// The targets of the other item of each pair, and the weight of the item itself.
#[derive(Debug)]
struct Mixed {
    other: Tensor,
    weight: Tensor,
    pred: Option<Tensor>,
}

impl Mixed {
    /// Mixes float targets in place; class targets are mixed in the loss.
    fn begin(batch: &mut Batch, perm: &Tensor, weight: Tensor) -> Option<Self> {
        let y = batch.y.as_mut()?;
        let other = y.index_select(0, perm);
        if y.kind() == Kind::Int64 {
            return Some(Self { other, weight, pred: None });
        }
        *y = other.lerp_tensor(y, &like(&weight, y));
        None
    }
}

/// Reshapes `weight`, one value per item, to as many dimensions as `x`.
fn like(weight: &Tensor, x: &Tensor) -> Tensor {
    let mut shape = vec![1; x.dim()];
    shape[0] = -1;
    weight.view(shape.as_slice())
}

/// Returns a random order of `n` items.
fn permutation(n: usize, rng: &mut Rng) -> Vec<i64> {
    let mut order: Vec<i64> = (0..n as i64).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    order
}

fn beta(alpha: f64) -> Result<Beta<f64>> {
    let wrong = || Error::config("alpha", format!("is {alpha}; it must be above 0 and finite"));
    if !alpha.is_finite() {
        return Err(wrong());
    }
    Beta::new(alpha, alpha).map_err(|_| wrong())
}

/// Returns an error unless a drawn weight is between 0 and 1.
fn check_weight(weight: impl Into<f64> + Copy + Display) -> Result<()> {
    if (0.0..=1.0).contains(&weight.into()) {
        return Ok(());
    }
    let why = format!("the weight {weight} was drawn; it must be between 0 and 1");
    Err(Error::config("draws", why))
}

/// The pairs and weights drawn by [`MixUp`] for a batch: all that MixUp draws, so the struct is exhaustive.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    /// The item that each item is mixed with.
    pub perm: Vec<i64>,
    /// The weight of the item itself, from 0 to 1. A weight `w` below 0.5 is replaced by `1 - w`, so that
    /// an item always dominates its pair, as in fastai.
    pub weights: Vec<f32>,
}

/// The pairs and the box drawn by [`CutMix`] for a batch: all that CutMix draws, so the struct is exhaustive.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    /// The item whose box is pasted into each item.
    pub perm: Vec<i64>,
    /// The fraction of the image outside of an unclipped box, from 0 to 1.
    pub weight: f64,
    /// The center of the box, x and y in pixels within the image.
    pub center: (i64, i64),
}

/// Draws a box for a number of items, a width and a height.
type CutDraws = Box<dyn FnMut(usize, i64, i64) -> Cut + Send>;

/// Converts the order to a tensor after checking that it is a permutation of `n` items.
fn order_of(perm: &[i64], n: usize) -> Result<Tensor> {
    if perm.len() != n || perm.iter().any(|&i| i < 0 || i >= n as i64) {
        let why = format!("the drawn order is not a permutation of the {n} items of the batch");
        return Err(Error::mismatch("draws", why));
    }
    Ok(Tensor::f_from_slice(perm)?)
}

/// The part that MixUp and CutMix share: reproducible draws and the mixed loss.
#[derive(Debug)]
struct Mixer {
    alpha: f64,
    mixed: Option<Mixed>,
}

impl Mixer {
    /// The text of [`Callback::exclusive`]. With two of these callbacks, the loss of each would contain only its own pairs.
    const EXCLUSIVE: &str = "mixes the items of each batch";

    fn new(alpha: f64) -> Self {
        Self { alpha, mixed: None }
    }

    fn rng(t: &Training) -> Rng {
        t.seed.rng(Stream::Callback { step: t.at.step })
    }

    fn after_pred(&mut self, pred: &Tensor) {
        if let Some(mixed) = &mut self.mixed {
            mixed.pred = Some(pred.shallow_clone());
        }
    }

    /// Computes the loss against both targets, mixed item by item.
    fn after_loss(&mut self, t: &Training, batch: &Batch, loss: &mut Tensor) -> Result<()> {
        let (Some(mixed), Some(y)) = (self.mixed.take(), &batch.y) else { return Ok(()) };
        let Some(pred) = mixed.pred else { return Ok(()) };
        *loss = t.loss.mixed(&pred, y, &mixed.other, &mixed.weight)?;
        Ok(())
    }
}

/// Trains on weighted sums of pairs of items: fastai's `MixUp`. A fit can have only one [`MixUp`] or [`CutMix`].
///
/// Zhang et al., [mixup](https://arxiv.org/abs/1710.09412).
#[derive(derive_more::Debug)]
pub struct MixUp {
    mixer: Mixer,
    #[debug(skip)]
    draws: Option<Box<dyn FnMut(usize) -> Pairs + Send>>,
}

impl MixUp {
    /// Creates a callback that draws weights from a beta distribution with both parameters `alpha`. fastai's
    /// default is 0.4.
    #[must_use]
    pub fn new(alpha: f64) -> Self {
        Self { mixer: Mixer::new(alpha), draws: None }
    }

    /// Replaces the random pairs and weights by a function of the number of items.
    #[must_use]
    pub fn draws(mut self, draws: impl FnMut(usize) -> Pairs + Send + 'static) -> Self {
        self.draws = Some(Box::new(draws));
        self
    }

    fn draw(&mut self, n: usize, t: &Training) -> Result<Pairs> {
        if let Some(draws) = &mut self.draws {
            return Ok(draws(n));
        }
        let (mut rng, beta) = (Mixer::rng(t), beta(self.mixer.alpha)?);
        let weights = (0..n).map(|_| beta.sample(&mut rng) as f32).collect();
        Ok(Pairs { weights, perm: permutation(n, &mut rng) })
    }

    /// Mixes item `i` with item `perm[i]`, with the weights `weight[i]` and `1 - weight[i]`.
    #[doc(hidden)]
    pub fn mix(x: &Tensor, perm: &Tensor, weight: &Tensor) -> Tensor {
        x.index_select(0, perm).lerp_tensor(x, &like(weight, x))
    }
}

impl Callback for MixUp {
    fn fingerprint(&self) -> Option<String> {
        let own = if self.draws.is_some() { " with own draws" } else { "" };
        Some(format!("MixUp of {}{own}", self.mixer.alpha))
    }

    fn exclusive(&self) -> Option<String> {
        Some(Mixer::EXCLUSIVE.to_owned())
    }

    fn order(&self) -> i32 {
        order::MIX
    }

    fn before_fit(&mut self, _: &mut Training) -> Step {
        beta(self.mixer.alpha)?;
        Ok(())
    }

    fn before_batch(&mut self, t: &mut Training, batch: &mut Batch) -> Step {
        self.mixer.mixed = None;
        if !t.at.is_training() {
            return Ok(());
        }
        let n = batch.x.size()[0] as usize;
        let Pairs { perm, weights } = self.draw(n, t)?;
        weights.iter().try_for_each(|weight| check_weight(*weight))?;
        let weights: Vec<f32> = weights.into_iter().map(|w| w.max(1.0 - w)).collect();
        if weights.len() != n {
            let why = format!("there are {} weights for a batch of {n} items", weights.len());
            return Err(Error::mismatch("draws", why).into());
        }
        let perm = order_of(&perm, n)?.to_device(batch.x.device());
        let weight = Tensor::from_slice(&weights).to_device(batch.x.device());
        batch.x = Self::mix(&batch.x, &perm, &weight);
        self.mixer.mixed = Mixed::begin(batch, &perm, weight);
        Ok(())
    }

    fn after_pred(&mut self, _: &mut Training, _: &mut Batch, pred: &mut Tensor) -> Step {
        self.mixer.after_pred(pred);
        Ok(())
    }

    fn after_loss(&mut self, t: &mut Training, batch: &Batch, loss: &mut Tensor) -> Step {
        Ok(self.mixer.after_loss(t, batch, loss)?)
    }
}

/// Trains on items into which a box of another item is pasted: fastai's `CutMix`. A fit can have only one
/// [`MixUp`] or [`CutMix`].
///
/// Yun et al., [CutMix](https://arxiv.org/abs/1905.04899).
#[derive(derive_more::Debug)]
pub struct CutMix {
    mixer: Mixer,
    #[debug(skip)]
    draws: Option<CutDraws>,
}

impl CutMix {
    /// Creates a callback that draws box areas from a beta distribution with both parameters `alpha`. fastai's
    /// default is 1.
    #[must_use]
    pub fn new(alpha: f64) -> Self {
        Self { mixer: Mixer::new(alpha), draws: None }
    }

    /// Replaces the random box by a function of the number of items, the width and the height.
    #[must_use]
    pub fn draws(mut self, draws: impl FnMut(usize, i64, i64) -> Cut + Send + 'static) -> Self {
        self.draws = Some(Box::new(draws));
        self
    }

    fn draw(&mut self, n: usize, width: i64, height: i64, t: &Training) -> Result<Cut> {
        if let Some(draws) = &mut self.draws {
            return Ok(draws(n, width, height));
        }
        let mut rng = Mixer::rng(t);
        let weight = beta(self.mixer.alpha)?.sample(&mut rng);
        let perm = permutation(n, &mut rng);
        let center = (rng.random_range(0..width), rng.random_range(0..height));
        Ok(Cut { perm, weight, center })
    }

    /// Returns the box around `(cx, cy)` that covers `1 - weight` of an image, clipped to the image: `x1,
    /// y1, x2, y2`.
    #[doc(hidden)]
    #[must_use]
    pub fn bounds(width: i64, height: i64, weight: f64, cx: i64, cy: i64) -> [i64; 4] {
        let side = (1.0 - weight as f32).sqrt();
        let half = |length: i64| ((length as f32 * side).round_ties_even() as i64) / 2;
        let (w, h) = (half(width), half(height));
        let cut = |at: i64, to: i64| at.clamp(0, to);
        [cut(cx - w, width), cut(cy - h, height), cut(cx + w, width), cut(cy + h, height)]
    }

    /// Pastes the box of item `perm[i]` into item `i`.
    #[doc(hidden)]
    pub fn paste(x: &Tensor, perm: &Tensor, [x1, y1, x2, y2]: [i64; 4]) -> Tensor {
        let cut = |t: &Tensor| t.narrow(-1, x1, x2 - x1).narrow(-2, y1, y2 - y1);
        let mixed = x.copy();
        cut(&mixed).copy_(&cut(&x.index_select(0, perm)));
        mixed
    }
}

impl Callback for CutMix {
    fn fingerprint(&self) -> Option<String> {
        let own = if self.draws.is_some() { " with own draws" } else { "" };
        Some(format!("CutMix of {}{own}", self.mixer.alpha))
    }

    fn exclusive(&self) -> Option<String> {
        Some(Mixer::EXCLUSIVE.to_owned())
    }

    fn order(&self) -> i32 {
        order::MIX
    }

    fn before_fit(&mut self, _: &mut Training) -> Step {
        beta(self.mixer.alpha)?;
        Ok(())
    }

    fn before_batch(&mut self, t: &mut Training, batch: &mut Batch) -> Step {
        self.mixer.mixed = None;
        if !t.at.is_training() {
            return Ok(());
        }
        let (n, _, height, width) = batch.x.size4()?;
        let Cut { perm, weight, center: (cx, cy) } = self.draw(n as usize, width, height, t)?;
        check_weight(weight)?;
        if !(0..width).contains(&cx) || !(0..height).contains(&cy) {
            let why = format!(
                "the center ({cx}, {cy}) was drawn for images of {width}x{height}; it must be within the image"
            );
            return Err(Error::config("draws", why).into());
        }
        let perm = order_of(&perm, n as usize)?.to_device(batch.x.device());
        let bounds @ [x1, y1, x2, y2] = Self::bounds(width, height, weight, cx, cy);
        batch.x = Self::paste(&batch.x, &perm, bounds);
        let kept = 1.0 - ((x2 - x1) * (y2 - y1)) as f64 / (width * height) as f64;
        let weight = Tensor::full([n], kept, (Kind::Float, batch.x.device()));
        self.mixer.mixed = Mixed::begin(batch, &perm, weight);
        Ok(())
    }

    fn after_pred(&mut self, _: &mut Training, _: &mut Batch, pred: &mut Tensor) -> Step {
        self.mixer.after_pred(pred);
        Ok(())
    }

    fn after_loss(&mut self, t: &mut Training, batch: &Batch, loss: &mut Tensor) -> Step {
        Ok(self.mixer.after_loss(t, batch, loss)?)
    }
}
