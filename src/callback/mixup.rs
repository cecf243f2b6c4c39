//! Batches mixed from pairs of items.

use crate::{
    error::{Error, Result},
    learner::{Callback, Step, Training, order},
    sample::Batch,
    seed::{Rng, Stream},
};
use rand::RngExt as _;
use rand_distr::{Beta, Distribution as _};
use tch::{Kind, Tensor};

/// The targets of the other item of each pair, and the weight of the item's own.
#[derive(Debug)]
struct Mixed {
    other: Tensor,
    weight: Tensor,
    pred: Option<Tensor>,
}

impl Mixed {
    /// Mixes targets that are floats in place; targets that are classes are mixed in the loss.
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

/// `weight`, one number for each item, in as many dimensions as `x`.
fn like(weight: &Tensor, x: &Tensor) -> Tensor {
    let mut shape = vec![1; x.dim()];
    shape[0] = -1;
    weight.view(shape.as_slice())
}

/// A random order of `n` items.
fn permutation(n: usize, rng: &mut Rng) -> Tensor {
    let mut order: Vec<i64> = (0..n as i64).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    Tensor::from_slice(&order)
}

fn beta(alpha: f64) -> Result<Beta<f64>> {
    Beta::new(alpha, alpha).map_err(|_| Error::config("alpha", "must be above 0"))
}

/// What both ways of mixing share: drawing by address, and the mixed loss.
#[derive(Debug)]
struct Mixer {
    alpha: f64,
    mixed: Option<Mixed>,
}

impl Mixer {
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

    /// The loss against both targets, mixed item by item.
    fn after_loss(&mut self, t: &Training, batch: &Batch, loss: &mut Tensor) {
        let (Some(mixed), Some(y)) = (self.mixed.take(), &batch.y) else { return };
        let Some(pred) = mixed.pred else { return };
        let (own, other) = (t.loss.each(&pred, y), t.loss.each(&pred, &mixed.other));
        *loss = other.lerp_tensor(&own, &mixed.weight).mean(Kind::Float);
    }
}

/// Trains on weighted sums of pairs of items: fastai's `MixUp`.
///
/// Zhang et al., [mixup](https://arxiv.org/abs/1710.09412).
#[derive(Debug)]
pub struct MixUp(Mixer);

impl MixUp {
    /// Weights from a beta distribution with both parameters `alpha`; fastai's default is 0.4.
    #[must_use]
    pub fn new(alpha: f64) -> Self {
        Self(Mixer::new(alpha))
    }

    /// Mixes item `i` with item `perm[i]`, which get the weights `1 - weight[i]` and `weight[i]`.
    pub fn mix(x: &Tensor, perm: &Tensor, weight: &Tensor) -> Tensor {
        x.index_select(0, perm).lerp_tensor(x, &like(weight, x))
    }
}

impl Callback for MixUp {
    fn order(&self) -> i32 {
        order::MIX
    }

    fn before_fit(&mut self, _: &mut Training) -> Step {
        beta(self.0.alpha)?;
        Ok(())
    }

    fn before_batch(&mut self, t: &mut Training, batch: &mut Batch) -> Step {
        self.0.mixed = None;
        if !t.at.training() {
            return Ok(());
        }
        let mut rng = Mixer::rng(t);
        let beta = beta(self.0.alpha)?;
        let n = batch.x.size()[0] as usize;
        let weights: Vec<f32> = (0..n)
            .map(|_| beta.sample(&mut rng))
            .map(|w| w.max(1.0 - w) as f32) // so that an item is never mixed away by its pair
            .collect();
        let perm = permutation(n, &mut rng).to_device(batch.x.device());
        let weight = Tensor::from_slice(&weights).to_device(batch.x.device());
        batch.x = Self::mix(&batch.x, &perm, &weight);
        self.0.mixed = Mixed::begin(batch, &perm, weight);
        Ok(())
    }

    fn after_pred(&mut self, _: &mut Training, _: &mut Batch, pred: &mut Tensor) -> Step {
        self.0.after_pred(pred);
        Ok(())
    }

    fn after_loss(&mut self, t: &mut Training, batch: &Batch, loss: &mut Tensor) -> Step {
        self.0.after_loss(t, batch, loss);
        Ok(())
    }
}

/// Trains on items with a box from another item pasted in: fastai's `CutMix`.
///
/// Yun et al., [CutMix](https://arxiv.org/abs/1905.04899).
#[derive(Debug)]
pub struct CutMix(Mixer);

impl CutMix {
    /// Box areas from a beta distribution with both parameters `alpha`; fastai's default is 1.
    #[must_use]
    pub fn new(alpha: f64) -> Self {
        Self(Mixer::new(alpha))
    }

    /// The box around `(cx, cy)` that covers `1 - weight` of a picture, cut at its edges:
    /// `x1, y1, x2, y2`.
    #[must_use]
    pub fn bounds(width: i64, height: i64, weight: f64, cx: i64, cy: i64) -> [i64; 4] {
        let side = (1.0 - weight as f32).sqrt();
        let half = |length: i64| ((length as f32 * side).round_ties_even() as i64) / 2;
        let (w, h) = (half(width), half(height));
        let cut = |at: i64, to: i64| at.clamp(0, to);
        [cut(cx - w, width), cut(cy - h, height), cut(cx + w, width), cut(cy + h, height)]
    }

    /// Pastes the box of item `perm[i]` into item `i`.
    pub fn paste(x: &Tensor, perm: &Tensor, [x1, y1, x2, y2]: [i64; 4]) -> Tensor {
        let cut = |t: &Tensor| t.narrow(-1, x1, x2 - x1).narrow(-2, y1, y2 - y1);
        let mixed = x.copy();
        cut(&mixed).copy_(&cut(&x.index_select(0, perm)));
        mixed
    }
}

impl Callback for CutMix {
    fn order(&self) -> i32 {
        order::MIX
    }

    fn before_fit(&mut self, _: &mut Training) -> Step {
        beta(self.0.alpha)?;
        Ok(())
    }

    fn before_batch(&mut self, t: &mut Training, batch: &mut Batch) -> Step {
        self.0.mixed = None;
        if !t.at.training() {
            return Ok(());
        }
        let mut rng = Mixer::rng(t);
        let size = batch.x.size();
        let (n, height, width) = (size[0], size[2], size[3]);
        let drawn = beta(self.0.alpha)?.sample(&mut rng);
        let perm = permutation(n as usize, &mut rng).to_device(batch.x.device());
        let (cx, cy) = (rng.random_range(0..width), rng.random_range(0..height));
        let bounds @ [x1, y1, x2, y2] = Self::bounds(width, height, drawn, cx, cy);
        batch.x = Self::paste(&batch.x, &perm, bounds);
        let kept = 1.0 - ((x2 - x1) * (y2 - y1)) as f64 / (width * height) as f64;
        let weight = Tensor::full([n], kept, (Kind::Float, batch.x.device()));
        self.0.mixed = Mixed::begin(batch, &perm, weight);
        Ok(())
    }

    fn after_pred(&mut self, _: &mut Training, _: &mut Batch, pred: &mut Tensor) -> Step {
        self.0.after_pred(pred);
        Ok(())
    }

    fn after_loss(&mut self, t: &mut Training, batch: &Batch, loss: &mut Tensor) -> Step {
        self.0.after_loss(t, batch, loss);
        Ok(())
    }
}
