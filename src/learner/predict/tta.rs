//! Test-time augmentation.

use super::evaluate;
use crate::{
    data::DataLoader,
    error::{Error, Result},
    learner::{Learner, PredictOptions, Predictions},
    sample::Split,
    sys::caught_tensor,
};
use ndarray::Array2;
use tch::Tensor;

/// Options of test-time augmentation: the arguments of fastai's
/// [`tta`](https://docs.fast.ai/learner.html#learner.tta), for [`Learner::tta_with`].
#[derive(Debug, Clone)]
pub struct Tta {
    loader: Option<DataLoader>,
    n: usize,
    beta: f64,
    use_max: bool,
}

impl Default for Tta {
    fn default() -> Self {
        Self { loader: None, n: 4, beta: 0.25, use_max: false }
    }
}

impl Tta {
    /// Returns four augmented passes over the validation items, and a weight of 0.25 for the plain pass.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Sets the loader; its items are predicted in the order of its data set. Default: the validation
    /// items.
    #[must_use]
    pub fn on(mut self, loader: &DataLoader) -> Self {
        self.loader = Some(loader.clone());
        self
    }
    /// Sets the number of augmented passes. Default: 4.
    #[must_use]
    pub fn n(mut self, n: usize) -> Self {
        self.n = n;
        self
    }
    /// Sets the weight of the plain predictions, from 0 to 1; the mean of the augmented ones has the
    /// remaining weight. Default: 0.25.
    #[must_use]
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }
    /// If true, each output is the maximum of all passes instead of an average. Default: false.
    #[must_use]
    pub fn use_max(mut self, yes: bool) -> Self {
        self.use_max = yes;
        self
    }

    /// Combines the augmented passes, `[items, outputs]` each, into their mean or maximum.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no passes or their shapes differ.
    #[doc(hidden)]
    pub fn augmented(&self, passes: &[Array2<f32>]) -> Result<Array2<f32>> {
        let Some((first, others)) = passes.split_first() else {
            return Err(Error::config("tta", "`n` is 0; it must be 1 or more"));
        };
        if others.iter().any(|p| p.dim() != first.dim()) {
            return Err(Error::config("tta", "the shapes of the passes differ"));
        }
        let mut all = first.clone();
        for pass in others {
            match self.use_max {
                true => all.zip_mut_with(pass, |a, b| *a = a.max(*b)),
                false => all += pass,
            }
        }
        Ok(if self.use_max { all } else { all / passes.len() as f32 })
    }

    /// Combines the augmented passes and the plain one.
    ///
    /// # Errors
    /// As [`Tta::augmented`]; [`Error::Config`] if `beta` is not between 0 and 1.
    #[doc(hidden)]
    pub fn combine(&self, passes: &[Array2<f32>], plain: &Array2<f32>) -> Result<Array2<f32>> {
        if !(0.0..=1.0).contains(&self.beta) {
            return Err(Error::config(
                "tta",
                format!("`beta` is {}; it must be between 0 and 1", self.beta),
            ));
        }
        let mut all = self.augmented(passes)?;
        if all.dim() != plain.dim() {
            return Err(Error::config("tta", "the shapes of the passes differ"));
        }
        let beta = self.beta as f32;
        match self.use_max {
            true => all.zip_mut_with(plain, |a, b| *a = a.max(*b)),
            false => all.zip_mut_with(plain, |a, b| *a += beta * (b - *a)),
        }
        Ok(all)
    }
}

impl Learner {
    /// Predicts the validation items, averaged over `n` augmented passes and one plain pass with the weight
    /// `beta`: fastai's [`tta`](https://docs.fast.ai/learner.html#learner.tta), where the defaults are 4
    /// and 0.25. The augmented passes use the training transforms, including the random crop.
    ///
    /// # Errors
    /// [`Error::Config`] if `n` is 0 or `beta` is not between 0 and 1; [`Error::Unsupported`] for masks, points and
    /// boxes, which move with the augmented images; errors of the data or a callback.
    pub fn tta(&mut self, n: usize, beta: f64) -> Result<Predictions> {
        self.tta_with(&Tta::new().n(n).beta(beta))
    }

    /// As [`Learner::tta`], for any loader, or with the maximum instead of the mean. Targets and losses are
    /// those of the plain pass.
    ///
    /// # Errors
    /// As [`Learner::tta`].
    pub fn tta_with(&mut self, how: &Tta) -> Result<Predictions> {
        if self.training.dls.task().is_spatial() {
            let why = "masks, points and boxes of augmented passes have moved: average their \
                       predictions yourself, with transforms that do not move pixels";
            return Err(Error::unsupported("tta", why));
        }
        let (passes, mut plain) = self.tta_passes(how)?;
        plain.preds = how.combine(&passes, &plain.preds)?;
        let shape = [plain.len() as i64, plain.preds.ncols() as i64];
        let flat: Vec<f32> = plain.preds.iter().copied().collect();
        let preds = Tensor::f_from_slice(&flat)?.f_view(shape)?;
        plain.decoded = evaluate::decode(
            &caught_tensor(|| self.training.loss.decode(&preds))?,
            None,
            &plain.task,
            (2, 2),
        )?;
        Ok(plain)
    }

    /// Returns the predictions of each augmented pass and those of the plain pass, for your own averaging.
    /// fastai's `beta=None` returns the mean of the former and the latter.
    ///
    /// # Errors
    /// Errors of the data or a callback.
    pub fn tta_passes(&mut self, how: &Tta) -> Result<(Vec<Array2<f32>>, Predictions)> {
        let loader = how.loader.clone().unwrap_or_else(|| self.training.dls.valid().clone());
        let from = self.training.at.pass;
        let (plain, train) = (loader.with_split(Split::Valid), loader.with_split(Split::Train));
        let augmented = PredictOptions::new().on(&train);
        let pass = |k| Ok(self.gather(&augmented, from.wrapping_add(k as u64))?.preds);
        let passes = (0..how.n).map(pass).collect::<Result<_>>()?;
        Ok((passes, self.gather(&PredictOptions::new().on(&plain), from)?))
    }
}
