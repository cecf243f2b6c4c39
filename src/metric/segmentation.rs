//! Metrics of masks. Predictions have the shape `[N, C, H, W]`, targets `[N, H, W]`.

use super::{Better, Metric, check_classes, flat, targets::Targets};
use crate::{
    error::{Error, Result},
    sample::Task,
};
use tch::{Kind, Tensor};

/// A score of masks computed from the numbers of predicted pixels, true pixels and their intersection, per
/// class over the whole epoch. The counts stay on the device until its end.
#[derive(Debug)]
pub struct MaskScore {
    name: String,
    /// The name of the function that returned it.
    function: &'static str,
    score: Score,
    over: Over,
    ignore_index: Option<i64>,
    counts: Option<Tensor>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Score {
    Dice,
    Jaccard,
}

/// The classes of a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// All classes except the first, as one.
    Foreground,
    /// The mean over the classes that occur.
    Each,
    /// One class.
    Class(usize),
}

impl MaskScore {
    fn new(function: &'static str, score: Score, over: Over) -> Self {
        let name = function.to_owned();
        Self { name, function, score, over, ignore_index: None, counts: None }
    }

    /// Checks that the class of the score is one of `classes`.
    fn check_class(&self, classes: usize) -> Result<()> {
        match self.over {
            Over::Class(class) if class >= classes => {
                let why = format!(
                    "`class` is {class}; it must be the index of one of the {classes} classes"
                );
                Err(Error::config(self.function, why))
            }
            _ => Ok(()),
        }
    }

    /// Sets the target of pixels that are ignored. Other targets that are not a class count as wrong, as in
    /// fastai. Default: none.
    #[must_use]
    pub fn ignore_index(mut self, index: i64) -> Self {
        self.ignore_index = Some(index);
        self
    }

    /// Returns the pixels of each class: intersection, predicted, true. Empty before the first batch. Waits
    /// for the device.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn pixels(&self) -> Result<Vec<[f64; 3]>> {
        let Some(counts) = &self.counts else { return Ok(vec![]) };
        let flat = Vec::<f64>::try_from(counts.to_kind(Kind::Double).tr().contiguous().view([-1]))?;
        Ok(flat.chunks_exact(3).map(|c| [c[0], c[1], c[2]]).collect())
    }
}

impl Score {
    /// Computes the score from an intersection and the sum of both sizes.
    fn of(self, both: f64, sizes: f64) -> f64 {
        match self {
            Self::Dice => 2.0 * both / sizes,
            Self::Jaccard => both / (sizes - both),
        }
    }
}

impl Metric for MaskScore {
    fn better(&self) -> Option<Better> {
        Some(Better::Higher)
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn reset(&mut self) {
        self.counts = None;
    }
    fn update(&mut self, pred: &Tensor, y: &Tensor) -> Result<()> {
        let classes = pred.size().get(1).copied().unwrap_or(0);
        self.check_class(classes as usize)?;
        let (mut predicted, y) = flat(&pred.f_argmax(1, false)?, y)?;
        let mut y = y.f_to_kind(Kind::Int64)?;
        if let Some(index) = self.ignore_index {
            let counts = y.f_ne(index)?;
            (predicted, y) = (predicted.f_masked_select(&counts)?, y.f_masked_select(&counts)?);
        }
        if self.over == Over::Foreground {
            let within = y.f_ge(0)?.f_logical_and(&y.f_lt(classes)?)?;
            let foreground = |t: &Tensor| t.f_gt(0)?.f_to_kind(Kind::Int64);
            // Targets that are not a class remain outside of the classes.
            y = foreground(&y)?.f_where_self(&within, &y.f_full_like(-1)?)?;
            predicted = foreground(&predicted)?;
        }
        let classes = if self.over == Over::Foreground { 2 } else { classes };
        if let Some(before) = &self.counts {
            check_classes(classes, before.size()[1])?;
        }
        let numbers = Tensor::arange(classes, (Kind::Int64, y.device())).view([-1, 1]);
        // Counts class by class, since a table of all pixels and classes would be large.
        let of = |c: i64| -> Result<Tensor> {
            let c = numbers.f_get(c)?;
            let (p, t) = (predicted.f_eq_tensor(&c)?, y.f_eq_tensor(&c)?);
            let both = p.f_logical_and(&t)?;
            Ok(Tensor::f_stack(
                &[both.sum(Kind::Int64), p.sum(Kind::Int64), t.sum(Kind::Int64)],
                0,
            )?)
        };
        let all = (0..classes).map(of).collect::<Result<Vec<_>>>()?;
        // Three rows: intersection, predicted, true.
        let counts = Tensor::f_stack(&all, 1)?;
        self.counts = Some(match self.counts.take() {
            Some(before) => before.f_add(&counts)?,
            None => counts,
        });
        Ok(())
    }
    fn state(&self) -> Option<Vec<(String, Tensor)>> {
        let counts = self.counts.as_ref().map(|t| ("counts".to_owned(), t.shallow_clone()));
        Some(counts.into_iter().collect())
    }
    fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let wrong =
            || Error::mismatch("Metric::load_state", "this is not the state of a mask score");
        self.counts = match state {
            // Saved before the first batch.
            [] => None,
            [(name, counts)] if name == "counts" => {
                let [3, classes] = counts.size()[..] else { return Err(wrong()) };
                self.check_class(classes as usize)?;
                if self.over == Over::Foreground && classes != 2 {
                    return Err(wrong());
                }
                Some(counts.shallow_clone())
            }
            _ => return Err(wrong()),
        };
        Ok(())
    }
    fn value(&self) -> Result<Option<f64>> {
        let pixels = self.pixels()?;
        let of = |&[both, predicted, truly]: &[f64; 3]| {
            let sizes = predicted + truly;
            (sizes > 0.0).then(|| self.score.of(both, sizes))
        };
        Ok(match self.over {
            Over::Foreground => pixels.get(1).and_then(of),
            Over::Class(class) => pixels.get(class).and_then(of),
            Over::Each => {
                let scores: Vec<f64> = pixels.iter().filter_map(of).collect();
                let n = scores.len() as f64;
                (n > 0.0).then(|| scores.iter().sum::<f64>() / n)
            }
        })
    }
    fn check(&self, task: &Task) -> Result<()> {
        Targets::Masks.check(self.function, task)?;
        self.check_class(task.vocab().len())
    }
}

/// Returns twice the intersection of both foregrounds divided by the sum of their sizes: fastai's `Dice`.
/// `None` if neither has a foreground.
///
/// The foreground is every class except the first. fastai multiplies and adds the class indices, which is
/// correct only for two classes; see [`dice_multi`].
#[must_use]
pub fn dice() -> MaskScore {
    MaskScore::new("dice", Score::Dice, Over::Foreground)
}

/// Returns the intersection over union of both foregrounds: fastai's `JaccardCoeff`. See [`dice`].
#[must_use]
pub fn jaccard_coeff() -> MaskScore {
    MaskScore::new("jaccard_coeff", Score::Jaccard, Over::Foreground)
}

/// Returns the mean of [`dice`] over the classes that occur: fastai's `DiceMulti`.
#[must_use]
pub fn dice_multi() -> MaskScore {
    MaskScore::new("dice_multi", Score::Dice, Over::Each)
}

/// Returns the mean of [`jaccard_coeff`] over the classes that occur: fastai's `JaccardCoeffMulti`.
#[must_use]
pub fn jaccard_coeff_multi() -> MaskScore {
    MaskScore::new("jaccard_coeff_multi", Score::Jaccard, Over::Each)
}

/// Returns the intersection over union of one class, whose name is part of the column: `iou_road`.
/// [`MaskScore::pixels`] returns the counts, and
/// [`SegmentationInterpretation`](crate::interpret::SegmentationInterpretation) all classes at once.
#[must_use]
pub fn iou_of_class(class: usize, name: &str) -> MaskScore {
    let score = MaskScore::new("iou_of_class", Score::Jaccard, Over::Class(class));
    MaskScore { name: format!("iou_{name}"), ..score }
}

/// The fraction of correct pixels of the target's foreground; see [`foreground_acc`].
#[derive(Debug)]
pub struct ForegroundAccuracy {
    background: i64,
    ignore_index: Option<i64>,
    /// The sum of the batches' fractions times their items, and the number of items.
    sums: Option<(Tensor, Tensor)>,
}

/// Returns the fraction of correct pixels of the target's foreground. The background is class `background`:
/// fastai's `foreground_acc`, where the default is 0. As in fastai, it is the mean over the batches
/// weighted by their items. Batches without foreground are ignored; fastai's mean becomes NaN.
#[must_use]
pub fn foreground_acc(background: i64) -> ForegroundAccuracy {
    ForegroundAccuracy { background, ignore_index: None, sums: None }
}

impl ForegroundAccuracy {
    /// Sets the target of pixels that are ignored. Other targets that are not a class count as wrong, as in
    /// fastai. Default: none.
    #[must_use]
    pub fn ignore_index(mut self, index: i64) -> Self {
        self.ignore_index = Some(index);
        self
    }
}

impl Metric for ForegroundAccuracy {
    fn better(&self) -> Option<Better> {
        Some(Better::Higher)
    }
    fn name(&self) -> &str {
        "foreground_acc"
    }
    fn reset(&mut self) {
        self.sums = None;
    }
    fn update(&mut self, pred: &Tensor, y: &Tensor) -> Result<()> {
        let items = y.size().first().copied().unwrap_or(1) as f64;
        let (pred, y) = flat(&pred.f_argmax(1, false)?, y)?;
        let mut foreground = y.f_ne(self.background)?;
        if let Some(index) = self.ignore_index {
            foreground = foreground.f_logical_and(&y.f_ne(index)?)?;
        }
        let right = pred.f_eq_tensor(&y)?.f_logical_and(&foreground)?.sum(Kind::Double);
        let all = foreground.sum(Kind::Double);
        let part = right / all.clamp_min(1.0) * items;
        let weight = all.f_gt(0.0)?.f_to_kind(Kind::Double)? * items;
        self.sums = Some(match self.sums.take() {
            Some((parts, weights)) => (parts + part, weights + weight),
            None => (part, weight),
        });
        Ok(())
    }
    fn state(&self) -> Option<Vec<(String, Tensor)>> {
        let named = |name: &str, t: &Tensor| (name.to_owned(), t.shallow_clone());
        let sums = self.sums.as_ref();
        Some(sums.map_or(vec![], |(p, w)| vec![named("parts", p), named("weights", w)]))
    }
    fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let find = |name: &str| state.iter().find(|(n, t)| n == name && t.numel() == 1);
        let find = |name: &str| find(name).map(|(_, t)| t.shallow_clone());
        let sums = find("parts").zip(find("weights"));
        // The state before the first batch is empty.
        if sums.is_none() && !state.is_empty() {
            let why = "this is not the state of a foreground accuracy";
            return Err(Error::mismatch("Metric::load_state", why));
        }
        self.sums = sums;
        Ok(())
    }
    fn value(&self) -> Result<Option<f64>> {
        let Some((parts, weights)) = &self.sums else { return Ok(None) };
        let (parts, weights) = (f64::try_from(parts)?, f64::try_from(weights)?);
        Ok((weights > 0.0).then(|| parts / weights))
    }
    fn check(&self, task: &Task) -> Result<()> {
        Targets::Masks.check("foreground_acc", task)
    }
}
