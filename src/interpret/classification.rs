//! What a classifier takes for what.

use super::{
    Calibration, ClassificationReport, Interpretation, ItemLoss, Proportion, Roc,
    kept::unlabelled,
    report::{Counts, macro_and_weighted},
};
use crate::{
    data::DataLoader,
    error::{Error, Result},
    learner::{Learner, Predictions},
    sample::{Target, Task},
};
use ndarray::{Array2, Axis};
use std::sync::Arc;

/// What a classifier takes for what, for data with one category an image.
///
/// As [fastai's](https://docs.fast.ai/interpret.html#classificationinterpretation), from predictions
/// that are made once.
///
/// ```no_run
/// # use finetune::{interpret::ClassificationInterpretation, learner::Learner};
/// # fn f(mut learn: Learner) -> finetune::Result<()> {
/// let interp = ClassificationInterpretation::from_learner(&mut learn)?;
/// println!("accuracy {}", interp.accuracy());
/// for (actual, predicted, times) in interp.most_confused(2) {
///     println!("{actual} taken for {predicted}: {times} times");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ClassificationInterpretation {
    all: Interpretation,
    vocab: Arc<[String]>,
    /// What is true of each item, and what was predicted.
    pairs: Vec<(usize, usize)>,
}

impl AsRef<Interpretation> for ClassificationInterpretation {
    /// The same predictions, for what can be asked of any task.
    fn as_ref(&self) -> &Interpretation {
        &self.all
    }
}

impl ClassificationInterpretation {
    /// Predicts the validation split.
    ///
    /// # Errors
    /// Those of [`Learner::get_preds`] and of
    /// [`from_predictions`](ClassificationInterpretation::from_predictions).
    pub fn from_learner(learner: &mut Learner) -> Result<Self> {
        Self::from_predictions(learner.get_preds()?)
    }

    /// Predicts the items of `loader`: a test set with labels, or the training split.
    ///
    /// # Errors
    /// Those of [`Learner::get_preds_on`] and of
    /// [`from_predictions`](ClassificationInterpretation::from_predictions).
    pub fn from_loader(learner: &mut Learner, loader: &DataLoader) -> Result<Self> {
        Self::from_predictions(learner.get_preds_on(loader)?)
    }

    /// Takes predictions that were made before.
    ///
    /// # Errors
    /// [`Error::Config`] if the task is not one category an image, if a label is missing, or if the
    /// parts of the predictions do not fit together.
    pub fn from_predictions(predictions: Predictions) -> Result<Self> {
        let all = Interpretation::from_predictions(predictions)?;
        let p = all.predictions();
        let Task::Category { vocab } = &p.task else {
            let why = "the task should be one category for each image; for several there is \
                       `MultiLabelInterpretation`, for numbers `RegressionInterpretation`";
            return Err(Error::mismatch("predictions", why));
        };
        let vocab = Arc::clone(vocab);
        if p.preds.ncols() != vocab.len() {
            let why = format!("{} outputs for {} categories", p.preds.ncols(), vocab.len());
            return Err(Error::mismatch("predictions", why));
        }
        let category = |t: &Target, item: usize| match t {
            Target::Category(c) if *c < vocab.len() => Ok(*c),
            _ => Err(unlabelled(item, "one of the categories")),
        };
        let pairs = p.targets.iter().zip(&p.decoded).zip(&p.items);
        let pairs = pairs
            .map(|((t, d), item)| Ok((category(t, *item)?, category(d, *item)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { all, vocab, pairs })
    }

    /// What was predicted.
    #[must_use]
    pub fn predictions(&self) -> &Predictions {
        self.all.predictions()
    }

    /// The categories.
    #[must_use]
    pub fn vocab(&self) -> &[String] {
        &self.vocab
    }

    /// [`Interpretation::top_losses`].
    #[must_use]
    pub fn top_losses(&self, k: usize) -> Vec<ItemLoss> {
        self.all.top_losses(k)
    }

    /// [`Interpretation::bottom_losses`].
    #[must_use]
    pub fn bottom_losses(&self, k: usize) -> Vec<ItemLoss> {
        self.all.bottom_losses(k)
    }

    /// How many items of each category (rows) were taken for each category (columns).
    #[must_use]
    pub fn confusion_matrix(&self) -> Array2<usize> {
        let n = self.vocab.len();
        let mut counts = Array2::zeros((n, n));
        for pair in &self.pairs {
            counts[*pair] += 1;
        }
        counts
    }

    /// The confusion matrix with each row divided by its sum. A row of a category that never occurs is
    /// NaN.
    #[must_use]
    pub fn confusion_matrix_normalized(&self) -> Array2<f64> {
        let counts = self.confusion_matrix().mapv(|n| n as f64);
        let sums = counts.sum_axis(Axis(1)).insert_axis(Axis(1));
        counts / sums
    }

    /// What is taken for what at least `min_val` times: actual category, predicted category, times.
    /// The most frequent comes first; equal ones are in the order of the vocabulary, by what is true,
    /// then by what was predicted. With a `min_val` of 0, pairs that never occur are listed too.
    #[must_use]
    pub fn most_confused(&self, min_val: usize) -> Vec<(String, String, usize)> {
        let counts = self.confusion_matrix();
        let wrong = counts.indexed_iter().filter(|((i, j), n)| i != j && **n >= min_val);
        let mut pairs: Vec<_> = wrong.collect();
        pairs.sort_by(|a, b| b.1.cmp(a.1));
        let name = |i: usize| self.vocab[i].clone();
        pairs.into_iter().map(|((i, j), n)| (name(i), name(j), *n)).collect()
    }

    /// The share of items that are right, with its interval.
    #[must_use]
    pub fn accuracy(&self) -> Proportion {
        let hits = self.pairs.iter().filter(|(t, d)| t == d).count();
        Proportion { hits, of: self.pairs.len() }
    }

    /// The share of each category's items that are right, in the order of the vocabulary.
    #[must_use]
    pub fn per_class_accuracy(&self) -> Vec<(String, Proportion)> {
        let counts = self.confusion_matrix();
        let row = |(i, name): (usize, &String)| {
            let share = Proportion { hits: counts[(i, i)], of: counts.row(i).sum() };
            (name.clone(), share)
        };
        self.vocab.iter().enumerate().map(row).collect()
    }

    /// Precision, recall and F1 of each category. Its text is scikit-learn's.
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

    /// How often the model is right where it is sure, in `bins` ranges of the probability of the
    /// predicted category; at least one. Ten are usual.
    #[must_use]
    pub fn calibration(&self, bins: usize) -> Calibration {
        let preds = &self.predictions().preds;
        let item = |(i, (t, d)): (usize, &(usize, usize))| (f64::from(preds[(i, *d)]), t == d);
        Calibration::new(self.pairs.iter().enumerate().map(item), bins)
    }

    /// How well the probability of `category` tells its items from all others.
    ///
    /// # Errors
    /// [`Error::Config`] if the vocabulary has no such category.
    pub fn roc(&self, category: &str) -> Result<Roc> {
        let Some(c) = self.vocab.iter().position(|v| v == category) else {
            let why = format!("`{category}` should be one of {}", self.vocab.join(", "));
            return Err(Error::config("category", why));
        };
        let scores = self.predictions().preds.column(c);
        let scores = scores.iter().zip(&self.pairs);
        Ok(Roc::new(scores.map(|(p, (t, _))| (f64::from(*p), *t == c))))
    }
}
