//! Precision, recall and scores derived from them, for several categories per item.

use super::{
    Better, Metric, check_classes,
    class_score::{Average, Score},
    mean::Total,
    targets::Targets,
};
use crate::{
    error::{Error, Result},
    sample::Task,
};
use tch::{Kind, Tensor};

/// An averaged score for several categories per item. Returned by [`f1_score_multi`] and similar
/// functions.
///
/// A category is predicted if its probability is at least the threshold.
#[derive(Debug)]
pub struct MultiScore {
    score: Score,
    average: Average,
    thresh: f64,
    sigmoid: bool,
    /// True positives, false positives and false negatives of each category, `[3, C]`.
    counts: Option<Tensor>,
    samples: Total,
}

impl MultiScore {
    fn new(score: Score) -> Self {
        let (average, samples) = (Average::Macro, Total::default());
        Self { score, average, thresh: 0.5, sigmoid: true, counts: None, samples }
    }
    /// Sets the averaging of category scores. Default: [`Average::Macro`].
    #[must_use]
    pub fn average(mut self, average: Average) -> Self {
        self.average = average;
        self
    }
    /// Sets the probability from which a category is predicted. Default: 0.5.
    #[must_use]
    pub fn thresh(mut self, thresh: f64) -> Self {
        self.thresh = thresh;
        self
    }
    /// If true, a sigmoid is applied to the outputs first. Default: true.
    #[must_use]
    pub fn sigmoid(mut self, yes: bool) -> Self {
        self.sigmoid = yes;
        self
    }
}

impl Metric for MultiScore {
    fn name(&self) -> &str {
        self.score.name
    }
    fn reset(&mut self) {
        (self.counts, self.samples) = (None, Total::default());
    }
    fn update(&mut self, pred: &Tensor, y: &Tensor) -> Result<()> {
        if self.average == Average::Binary || pred.dim() != 2 || pred.size() != y.size() {
            let why = format!(
                "needs predictions and targets of shape [N, C] and an average over categories, not {:?}, {:?} \
                 and {:?}",
                pred.size(),
                y.size(),
                self.average
            );
            return Err(Error::config(self.score.name, why));
        }
        if let Some(before) = &self.counts {
            check_classes(pred.size()[1], before.size()[1])?;
        }
        let probs = if self.sigmoid { pred.f_sigmoid()? } else { pred.shallow_clone() };
        let predicted = probs.ge(self.thresh);
        let so = y.f_to_kind(Kind::Bool)?;
        let each = [
            predicted.f_logical_and(&so)?,
            predicted.f_logical_and(&so.logical_not())?,
            so.f_logical_and(&predicted.logical_not())?,
        ];
        let each = Tensor::f_stack(&each, 0)?; // [3, N, C]
        if self.average == Average::Samples {
            let sums = each.sum_dim_intlist(2, false, Kind::Double);
            let Score { own, false_alarm, miss, .. } = self.score;
            let found = sums.get(0) * own;
            let all = &found + sums.get(1) * false_alarm + sums.get(2) * miss;
            // If the denominator is 0, the numerator is 0 too.
            let scores = &found / all.clamp_min(f64::MIN_POSITIVE);
            return self.samples.add(scores.mean(Kind::Double), pred.size()[0]);
        }
        let sums = each.sum_dim_intlist(1, false, Kind::Int64);
        self.counts = Some(match self.counts.take() {
            Some(counts) => counts.f_add(&sums)?,
            None => sums,
        });
        Ok(())
    }
    fn value(&self) -> Result<Option<f64>> {
        if self.average == Average::Samples {
            return self.samples.mean();
        }
        let Some(counts) = &self.counts else { return Ok(None) };
        let all = Vec::<Vec<f64>>::try_from(counts.tr().to_kind(Kind::Double))?;
        let counts: Vec<[f64; 3]> = all.iter().map(|c| [c[0], c[1], c[2]]).collect();
        Ok(Some(self.score.averaged(self.average, &counts)))
    }
    fn better(&self) -> Option<Better> {
        Some(Better::Higher)
    }
    fn check(&self, task: &Task) -> Result<()> {
        Targets::Categories.check(self.score.name, task)?;
        if self.average == Average::Binary {
            let why =
                "`Average::Binary` is for one of two categories: choose another with `average`";
            return Err(Error::config(self.score.name, why));
        }
        if !(0.0..=1.0).contains(&self.thresh) && self.sigmoid {
            let why = format!("`thresh` is {}; it must be between 0 and 1", self.thresh);
            return Err(Error::config(self.score.name, why));
        }
        Ok(())
    }
}

/// Returns the harmonic mean of precision and recall: fastai's `F1ScoreMulti`.
#[must_use]
pub fn f1_score_multi() -> MultiScore {
    MultiScore::new(Score::fbeta("f1_score", 1.0))
}

/// Returns the harmonic mean of precision and recall in which recall has `beta` times the weight: fastai's
/// `FBetaMulti`.
#[must_use]
pub fn fbeta_score_multi(beta: f64) -> MultiScore {
    MultiScore::new(Score::fbeta("fbeta_score", beta))
}

/// Returns the fraction of predicted categories that are true: fastai's `PrecisionMulti`.
#[must_use]
pub fn precision_score_multi() -> MultiScore {
    MultiScore::new(Score::PRECISION)
}

/// Returns the fraction of true categories that are predicted: fastai's `RecallMulti`.
#[must_use]
pub fn recall_score_multi() -> MultiScore {
    MultiScore::new(Score::RECALL)
}

/// Returns the intersection over union of predicted and true categories: fastai's `JaccardMulti`.
#[must_use]
pub fn jaccard_score_multi() -> MultiScore {
    MultiScore::new(Score::JACCARD)
}
