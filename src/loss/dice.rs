use super::{Loss, LossSpec};
use crate::{
    error::{Error, Result},
    sample::Task,
    sys::caught,
};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// One minus the overlap of predicted and true masks, per class: fastai's `DiceLoss`. Predictions `[N, C,
/// H, W]`, targets `[N, H, W]`.
///
/// The overlap of a class in an image is `(2 Σ p t + smooth) / (Σ p + Σ t + smooth)` over its pixels, with
/// the softmax `p`. As in fastai, pixels whose target is not a class count as wrong, unless they are
/// ignored with [`ignore_index`](Self::ignore_index). Training minimizes the mean over images and classes.
/// fastai's default is their sum, which grows with the batch size: multiply the learning rate, or use
/// [`Loss::sum`].
///
/// Milletari et al., [V-Net](https://arxiv.org/abs/1606.04797).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dice {
    smooth: f64,
    square_in_union: bool,
    ignore_index: Option<i64>,
}

impl Default for Dice {
    fn default() -> Self {
        Self { smooth: 1e-6, square_in_union: false, ignore_index: None }
    }
}

impl Dice {
    /// Returns the loss with fastai's `smooth`, 1e-6.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Sets the value added to numerator and denominator, so that the overlap of classes without pixels is
    /// defined. Default: 1e-6.
    #[must_use]
    pub fn smooth(mut self, smooth: f64) -> Self {
        self.smooth = smooth;
        self
    }
    /// If true, probabilities are squared in the denominator. Default: false.
    #[must_use]
    pub fn square_in_union(mut self, yes: bool) -> Self {
        self.square_in_union = yes;
        self
    }
    /// Sets the target of pixels that are ignored. Default: none.
    #[must_use]
    pub fn ignore_index(mut self, index: i64) -> Self {
        self.ignore_index = Some(index);
        self
    }

    /// Returns one minus the overlap of each class in each image, `[N, C]`.
    fn overlap(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        let size = pred.size();
        let wanted: Vec<i64> = size.iter().take(1).chain(size.iter().skip(2)).copied().collect();
        // libtorch would broadcast the mask of one image over a batch.
        if size.len() < 3 || y.size() != wanted {
            let why = format!(
                "the predictions have the shape {size:?} and the targets {:?}; they must be [N, C, H, W] \
                 and [N, H, W]",
                y.size()
            );
            return Err(Error::mismatch("dice", why));
        }
        let classes = size[1];
        let p = pred.softmax(1, Kind::Float).flatten(2, -1);
        let y = y.flatten(1, -1).unsqueeze(1);
        let numbers = Tensor::arange(classes, (y.kind(), y.device())).view([1, -1, 1]);
        let mut t = y.eq_tensor(&numbers).to_kind(p.kind());
        let mut p = p;
        if let Some(index) = self.ignore_index {
            let counts = y.ne(index).to_kind(p.kind());
            (t, p) = (t * &counts, p * &counts);
        }
        let dims: &[i64] = &[2];
        let sum = |x: Tensor| x.sum_dim_intlist(dims, false, None);
        let both = sum(&p * &t);
        let union = if self.square_in_union { sum(p.square() + t) } else { sum(p + t) };
        Ok(1.0 - (both * 2.0 + self.smooth) / (union + self.smooth))
    }
}

impl Loss for Dice {
    fn name(&self) -> &str {
        "dice"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        caught(|| Ok(self.overlap(pred, y)?.mean_dim(1, false, Kind::Float)))
    }
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        caught(|| Ok(self.overlap(pred, y)?.flatten(0, -1)))
    }
    fn activation(&self, pred: &Tensor) -> Result<Tensor> {
        Ok(pred.f_softmax(1, Kind::Float)?)
    }
    fn decode(&self, activated: &Tensor) -> Result<Tensor> {
        Ok(activated.f_argmax(1, false)?)
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::Dice(self.clone()))
    }
    fn check(&self, _: &Task) -> Result<()> {
        if self.smooth.is_finite() && self.smooth >= 0.0 {
            return Ok(());
        }
        let why = format!("is {}; it must be finite and not negative", self.smooth);
        Err(Error::config("smooth", why))
    }
}
