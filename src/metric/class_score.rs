//! Precision, recall and scores derived from them, for one category per item.

use super::{
    Better, Metric,
    confusion::{Counts, Decide, present, sums},
    targets::Targets,
};
use crate::{
    error::{Error, Result},
    sample::Task,
};
use ndarray::Array2;
use tch::Tensor;

/// The averaging of class scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Average {
    /// The score of one class, for two classes.
    Binary,
    /// The unweighted mean over the classes.
    Macro,
    /// The score of the counts of all classes together.
    Micro,
    /// The mean over the classes, weighted by their number of true items.
    Weighted,
    /// The mean of the scores of the items, each over its categories. Only for several categories per item.
    Samples,
}

/// A ratio of counts: `tp · own / (tp · own + fp · false_alarm + fn · miss)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Score {
    pub(super) name: &'static str,
    pub(super) own: f64,
    pub(super) false_alarm: f64,
    pub(super) miss: f64,
}

impl Score {
    pub(super) fn fbeta(name: &'static str, beta: f64) -> Self {
        let square = beta * beta;
        Self { name, own: 1.0 + square, false_alarm: 1.0, miss: square }
    }
    pub(super) const PRECISION: Self =
        Self { name: "precision_score", own: 1.0, false_alarm: 1.0, miss: 0.0 };
    pub(super) const RECALL: Self =
        Self { name: "recall_score", own: 1.0, false_alarm: 0.0, miss: 1.0 };
    pub(super) const JACCARD: Self =
        Self { name: "jaccard_score", own: 1.0, false_alarm: 1.0, miss: 1.0 };

    /// Returns the score; 0 if the denominator is 0, as in scikit-learn.
    fn of(&self, counts: [f64; 3]) -> f64 {
        let [found, false_alarms, missed] = counts;
        let all = self.own * found + self.false_alarm * false_alarms + self.miss * missed;
        if all == 0.0 { 0.0 } else { self.own * found / all }
    }

    /// Returns one score from the counts of several classes: true positives, false positives, false
    /// negatives.
    pub(super) fn averaged(&self, average: Average, counts: &[[f64; 3]]) -> f64 {
        match average {
            Average::Micro => {
                let sum = |k: usize| counts.iter().map(|c| c[k]).sum();
                self.of([sum(0), sum(1), sum(2)])
            }
            Average::Weighted => {
                let times = |c: &[f64; 3]| c[0] + c[2];
                let all: f64 = counts.iter().map(times).sum();
                let sum: f64 = counts.iter().map(|c| times(c) * self.of(*c)).sum();
                if all == 0.0 { 0.0 } else { sum / all }
            }
            Average::Macro | Average::Binary | Average::Samples => {
                counts.iter().map(|c| self.of(*c)).sum::<f64>() / counts.len() as f64
            }
        }
    }
}

/// An averaged score of the classes, each against all others. Returned by [`f1_score`] and similar
/// functions.
#[derive(Debug)]
pub struct ClassScore {
    score: Score,
    average: Average,
    pos_label: usize,
    counts: Counts,
}

impl ClassScore {
    fn new(score: Score) -> Self {
        Self { score, average: Average::Binary, pos_label: 1, counts: Counts::default() }
    }
    /// Sets the averaging of class scores. Default: [`Average::Binary`], which fails if more than two
    /// classes occur, as in fastai.
    #[must_use]
    pub fn average(mut self, average: Average) -> Self {
        self.average = average;
        self
    }
    /// Sets the positive class of [`Average::Binary`]. Default: 1.
    #[must_use]
    pub fn pos_label(mut self, class: usize) -> Self {
        self.pos_label = class;
        self
    }

    fn of(&self, matrix: &Array2<f64>) -> Result<f64> {
        let wrong = |why: String| Err(Error::config(self.score.name, why));
        let (truly, predicted) = sums(matrix);
        let one = |c: usize| {
            let found = matrix[[c, c]];
            [found, predicted[c] - found, truly[c] - found]
        };
        let occur = present(matrix);
        match self.average {
            Average::Samples => {
                wrong("`Average::Samples` is for several categories per item".into())
            }
            Average::Binary if occur.len() > 2 => wrong(format!(
                "{} classes occur, but `Average::Binary` is for two: choose another with `average`",
                occur.len()
            )),
            Average::Binary if occur.contains(&self.pos_label) => {
                Ok(self.score.of(one(self.pos_label)))
            }
            Average::Binary if occur.len() == 2 || self.pos_label >= truly.len() => wrong(format!(
                "`pos_label` {} does not occur: the classes are {occur:?}",
                self.pos_label
            )),
            Average::Binary => Ok(0.0),
            average => {
                let counts: Vec<_> = occur.iter().map(|&c| one(c)).collect();
                Ok(self.score.averaged(average, &counts))
            }
        }
    }
}

impl Metric for ClassScore {
    fn name(&self) -> &str {
        self.score.name
    }
    fn reset(&mut self) {
        self.counts = Counts::default();
    }
    fn update(&mut self, pred: &Tensor, y: &Tensor) -> Result<()> {
        let (predicted, classes) = Decide::Highest.classes(pred)?;
        self.counts.add(&predicted, y, classes)
    }
    fn value(&self) -> Result<Option<f64>> {
        self.counts.matrix()?.map(|m| self.of(&m)).transpose()
    }
    fn better(&self) -> Option<Better> {
        Some(Better::Higher)
    }
    fn check(&self, task: &Task) -> Result<()> {
        Targets::Category.check(self.score.name, task)?;
        let wrong = |why: String| Err(Error::config(self.score.name, why));
        let classes = task.vocab().len();
        match self.average {
            Average::Samples => {
                wrong("`Average::Samples` is for several categories per item".into())
            }
            Average::Binary if classes > 2 => wrong(format!(
                "there are {classes} classes, but `Average::Binary` is for two: choose another with \
                 `average`"
            )),
            Average::Binary if self.pos_label >= classes => wrong(format!(
                "`pos_label` is {}; it must be the index of one of the {classes} classes",
                self.pos_label
            )),
            _ => Ok(()),
        }
    }
}

/// Returns the harmonic mean of precision and recall: fastai's `F1Score`.
///
/// ```
/// use finetune::metric::{Average, Metric, f1_score};
///
/// assert_eq!(f1_score().average(Average::Macro).name(), "f1_score");
/// ```
#[must_use]
pub fn f1_score() -> ClassScore {
    ClassScore::new(Score::fbeta("f1_score", 1.0))
}

/// Returns the harmonic mean of precision and recall in which recall has `beta` times the weight: fastai's
/// `FBeta`.
#[must_use]
pub fn fbeta_score(beta: f64) -> ClassScore {
    ClassScore::new(Score::fbeta("fbeta_score", beta))
}

/// Returns the fraction of items predicted as a class that belong to it: fastai's `Precision`.
#[must_use]
pub fn precision_score() -> ClassScore {
    ClassScore::new(Score::PRECISION)
}

/// Returns the fraction of items of a class that are predicted as it: fastai's `Recall`.
#[must_use]
pub fn recall_score() -> ClassScore {
    ClassScore::new(Score::RECALL)
}

/// Returns the intersection over union of the true and the predicted items of a class: fastai's `Jaccard`.
#[must_use]
pub fn jaccard_score() -> ClassScore {
    ClassScore::new(Score::JACCARD)
}
