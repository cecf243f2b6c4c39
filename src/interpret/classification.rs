//! Interpretation of data with one category per image.

use super::{
    Calibration, ClassificationReport, Interpretation, ItemLoss, Proportion, Roc,
    kept::{of_any_task, unlabeled},
    report::{Counts, macro_and_weighted},
};
use crate::{
    error::{Error, Result},
    learner::Predictions,
    sample::{Target, Task},
};
use ndarray::{Array2, Axis};
use std::{num::NonZero, sync::Arc};

/// Interprets the predictions of a classifier with one category per image.
///
/// Like [fastai's](https://docs.fast.ai/interpret.html#classificationinterpretation), but the predictions
/// are computed only once.
///
/// ```no_run
/// # use finetune::{interpret::ClassificationInterpretation, learner::Learner};
/// # fn f(mut learn: Learner) -> finetune::Result<()> {
/// let interp = ClassificationInterpretation::from_learner(&mut learn)?;
/// println!("accuracy {}", interp.accuracy());
/// for (actual, predicted, times) in interp.most_confused(2) {
///     println!("{actual} predicted as {predicted}: {times} times");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ClassificationInterpretation {
    all: Interpretation,
    vocab: Arc<[String]>,
    /// The true and the predicted category of each item.
    pairs: Vec<(usize, usize)>,
}

/// The largest number of bins of a calibration. Each takes memory, and more bins than items are mostly empty.
const MAX_BINS: usize = 1_000_000;

of_any_task!(ClassificationInterpretation);

impl ClassificationInterpretation {
    /// Interprets existing predictions.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the task is not one category per image, if a label is missing, or if the
    /// parts of the predictions do not match.
    pub fn from_predictions(predictions: Predictions) -> Result<Self> {
        let all = Interpretation::from_predictions(predictions)?;
        let p = all.predictions();
        let Task::Category { vocab } = &p.task else {
            let why = "the task must be one category per image; for several, use \
                       `MultiLabelInterpretation`, for numbers `RegressionInterpretation`";
            return Err(Error::mismatch("predictions", why));
        };
        let vocab = Arc::clone(vocab);
        if p.preds.ncols() != vocab.len() {
            let why =
                format!("there are {} outputs for {} categories", p.preds.ncols(), vocab.len());
            return Err(Error::mismatch("predictions", why));
        }
        let category = |t: &Target, item: usize| match t {
            Target::Category(c) if *c < vocab.len() => Ok(*c),
            _ => Err(unlabeled(item, "one of the categories")),
        };
        let pairs = p.targets.iter().zip(&p.decoded).zip(&p.items);
        let pairs = pairs
            .map(|((t, d), item)| Ok((category(t, *item)?, category(d, *item)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { all, vocab, pairs })
    }

    /// Returns the categories.
    #[must_use]
    pub fn vocab(&self) -> &[String] {
        &self.vocab
    }

    /// Returns [`Interpretation::bottom_losses`].
    #[must_use]
    pub fn bottom_losses(&self, k: usize) -> Vec<ItemLoss> {
        self.all.bottom_losses(k)
    }

    /// Returns the confusion matrix: the number of items of each category (rows) that were
    /// predicted as each category (columns).
    #[must_use]
    pub fn confusion_matrix(&self) -> Array2<usize> {
        let n = self.vocab.len();
        let mut counts = Array2::zeros((n, n));
        for pair in &self.pairs {
            counts[*pair] += 1;
        }
        counts
    }

    /// Returns the confusion matrix with each row divided by its sum. The row of a category that
    /// does not occur is NaN.
    #[must_use]
    pub fn confusion_matrix_normalized(&self) -> Array2<f64> {
        let counts = self.confusion_matrix().mapv(|n| n as f64);
        let sums = counts.sum_axis(Axis(1)).insert_axis(Axis(1));
        counts / sums
    }

    /// Returns the confusions that occur at least `min_val` times: actual category, predicted category,
    /// count. The most frequent comes first; ties are in the order of the vocabulary, by actual, then by
    /// predicted category. If `min_val` is 0, pairs that never occur are listed too.
    #[must_use]
    pub fn most_confused(&self, min_val: usize) -> Vec<(String, String, usize)> {
        let counts = self.confusion_matrix();
        let wrong = counts.indexed_iter().filter(|((i, j), n)| i != j && **n >= min_val);
        let mut pairs: Vec<_> = wrong.collect();
        pairs.sort_by(|a, b| b.1.cmp(a.1));
        let name = |i: usize| self.vocab[i].clone();
        pairs.into_iter().map(|((i, j), n)| (name(i), name(j), *n)).collect()
    }

    /// Returns the accuracy with its confidence interval.
    #[must_use]
    pub fn accuracy(&self) -> Proportion {
        let hits = self.pairs.iter().filter(|(t, d)| t == d).count();
        Proportion { hits, of: self.pairs.len() }
    }

    /// Returns the accuracy of each category's items (its recall), in the order of the vocabulary.
    #[must_use]
    pub fn per_class_accuracy(&self) -> Vec<(String, Proportion)> {
        let counts = self.confusion_matrix();
        let row = |(i, name): (usize, &String)| {
            let share = Proportion { hits: counts[(i, i)], of: counts.row(i).sum() };
            (name.clone(), share)
        };
        self.vocab.iter().enumerate().map(row).collect()
    }

    /// Returns precision, recall and F1 of each category. Its text is scikit-learn's.
    #[must_use]
    pub fn classification_report(&self) -> ClassificationReport {
        let counts = self.confusion_matrix();
        let rows: Vec<_> = (0..self.vocab.len())
            .map(|i| {
                let (predicted, actual) = (counts.column(i).sum(), counts.row(i).sum());
                Counts { hits: counts[(i, i)], predicted, actual }.row(&*self.vocab[i])
            })
            .collect();
        let accuracy = self.accuracy();
        let averages = macro_and_weighted(&rows).into();
        let accuracy = Some(if accuracy.of == 0 { 0.0 } else { accuracy.value() });
        ClassificationReport { rows, accuracy, averages }
    }

    /// Returns the accuracy by predicted probability, in `bins` ranges of equal width. 10 is common.
    ///
    /// # Errors
    /// [`Error::Config`] if `bins` is 0 or above a million; [`Error::Mismatch`] if an output is not a probability,
    /// for example because the loss has no activation.
    pub fn calibration(&self, bins: usize) -> Result<Calibration> {
        let preds = &self.predictions().preds;
        let item = |(i, (t, d)): (usize, &(usize, usize))| (f64::from(preds[(i, *d)]), t == d);
        let wrong = || Error::config("bins", format!("is {bins}; it must be from 1 to {MAX_BINS}"));
        let bins = NonZero::new(bins).filter(|bins| bins.get() <= MAX_BINS).ok_or_else(wrong)?;
        // Sums of rounded probabilities may be slightly above 1.
        if let Some(p) = preds.iter().find(|p| !(0.0..=1.0 + 1e-4).contains(*p)) {
            let why = format!(
                "an output is {p}, not a probability: predict with the activation, and let `Loss::activation` of \
                 a loss of your own return probabilities"
            );
            return Err(Error::mismatch("predictions", why));
        }
        Ok(Calibration::new(self.pairs.iter().enumerate().map(item), bins))
    }

    /// Returns the receiver operating characteristic of the probability of `category` against all
    /// others.
    ///
    /// # Errors
    /// [`Error::Config`] if the vocabulary has no such category.
    pub fn roc(&self, category: &str) -> Result<Roc> {
        let Some(c) = self.vocab.iter().position(|v| v == category) else {
            let why = format!("`{category}` must be one of {}", self.vocab.join(", "));
            return Err(Error::config("category", why));
        };
        let scores = self.predictions().preds.column(c);
        let scores = scores.iter().zip(&self.pairs);
        Ok(Roc::new(scores.map(|(p, (t, _))| (f64::from(*p), *t == c))))
    }
}
