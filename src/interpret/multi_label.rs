//! Interpretation of data with several categories per image.

use super::{
    ClassificationReport, Interpretation, Roc,
    kept::{of_any_task, unlabeled},
    report::{Counts, average, macro_and_weighted},
};
use crate::{
    error::{Error, Result},
    learner::Predictions,
    sample::{Target, Task},
};
use std::{collections::BTreeSet, sync::Arc};

/// Interprets the predictions of a classifier with several categories per image.
#[derive(Debug, Clone)]
pub struct MultiLabelInterpretation {
    all: Interpretation,
    vocab: Arc<[String]>,
    /// The true and the predicted categories of each item.
    sets: Vec<(BTreeSet<usize>, BTreeSet<usize>)>,
}

/// The counts of one category.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabelCounts {
    /// The category.
    pub name: String,
    /// The true positives.
    pub hits: usize,
    /// The false negatives.
    pub missed: usize,
    /// The false positives.
    pub false_alarms: usize,
}

of_any_task!(MultiLabelInterpretation);

impl MultiLabelInterpretation {
    /// Interprets existing predictions.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the task is not several categories per image, if a label is missing, or if
    /// the parts of the predictions do not match.
    pub fn from_predictions(predictions: Predictions) -> Result<Self> {
        let all = Interpretation::from_predictions(predictions)?;
        let p = all.predictions();
        let Task::Categories { vocab } = &p.task else {
            let why = "the task must be several categories per image";
            return Err(Error::mismatch("predictions", why));
        };
        let vocab = Arc::clone(vocab);
        if p.preds.ncols() != vocab.len() {
            let why =
                format!("there are {} outputs for {} categories", p.preds.ncols(), vocab.len());
            return Err(Error::mismatch("predictions", why));
        }
        let set = |t: &Target, item: usize| match t {
            Target::Categories(all) if all.iter().all(|c| *c < vocab.len()) => {
                Ok(all.iter().copied().collect())
            }
            _ => Err(unlabeled(item, "a list of categories")),
        };
        let sets = p.targets.iter().zip(&p.decoded).zip(&p.items);
        let sets = sets
            .map(|((t, d), item)| Ok((set(t, *item)?, set(d, *item)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { all, vocab, sets })
    }

    /// Returns the true positives, false negatives and false positives of each category, in the
    /// order of the vocabulary.
    #[must_use]
    pub fn labels(&self) -> Vec<LabelCounts> {
        let count = |f: &dyn Fn(&BTreeSet<usize>, &BTreeSet<usize>) -> bool| {
            self.sets.iter().filter(|(t, d)| f(t, d)).count()
        };
        let label = |(i, name): (usize, &String)| LabelCounts {
            name: name.clone(),
            hits: count(&|t, d| t.contains(&i) && d.contains(&i)),
            missed: count(&|t, d| t.contains(&i) && !d.contains(&i)),
            false_alarms: count(&|t, d| !t.contains(&i) && d.contains(&i)),
        };
        self.vocab.iter().enumerate().map(label).collect()
    }

    /// Returns precision, recall and F1 of each category. Its text is scikit-learn's for an indicator
    /// matrix.
    #[must_use]
    pub fn classification_report(&self) -> ClassificationReport {
        let (mut rows, mut sum) = (vec![], Counts::default());
        for LabelCounts { name, hits, missed, false_alarms } in self.labels() {
            let one = Counts { hits, predicted: hits + false_alarms, actual: hits + missed };
            sum.hits += one.hits;
            sum.predicted += one.predicted;
            sum.actual += one.actual;
            rows.push(one.row(name));
        }
        let item = |(t, d): &(BTreeSet<usize>, BTreeSet<usize>)| {
            let hits = t.intersection(d).count();
            Counts { hits, predicted: d.len(), actual: t.len() }.row("")
        };
        let items: Vec<_> = self.sets.iter().map(item).collect();
        let mut averages = vec![sum.row("micro avg")];
        averages.extend(macro_and_weighted(&rows));
        averages.push(average("samples avg", &items, sum.actual, |_| 1.0));
        ClassificationReport { rows, accuracy: None, averages }
    }

    /// Returns the receiver operating characteristic of the probability of `category`.
    ///
    /// # Errors
    /// [`Error::Config`] if the vocabulary has no such category.
    pub fn roc(&self, category: &str) -> Result<Roc> {
        let Some(c) = self.vocab.iter().position(|v| v == category) else {
            let why = format!("`{category}` must be one of {}", self.vocab.join(", "));
            return Err(Error::config("category", why));
        };
        let scores = self.predictions().preds.column(c);
        let scores = scores.iter().zip(&self.sets);
        Ok(Roc::new(scores.map(|(p, (t, _))| (f64::from(*p), t.contains(&c)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn the_report_is_that_of_scikit_learn() {
        let all = |sets: [&[usize]; 5]| sets.map(|s| Target::Categories(s.to_vec())).to_vec();
        let targets = all([&[0, 2], &[1], &[0, 1], &[], &[0]]);
        let decoded = all([&[0], &[1, 2], &[0], &[], &[2]]);
        let vocab = ["cat", "dog", "sleeping_animal_x"].map(str::to_owned).into();
        let task = Task::Categories { vocab };
        let items = (0..5).collect();
        let p = Predictions::new(items, Array2::zeros((5, 3)), targets, decoded, vec![], task);
        let interp = MultiLabelInterpretation::from_predictions(p).unwrap();
        // sklearn.metrics.classification_report of the same, scikit-learn 1.9.1
        insta::assert_snapshot!(interp.classification_report().to_string(), @"
                           precision    recall  f1-score   support

                      cat       1.00      0.67      0.80         3
                      dog       1.00      0.50      0.67         2
        sleeping_animal_x       0.00      0.00      0.00         1

                micro avg       0.60      0.50      0.55         6
                macro avg       0.67      0.39      0.49         6
             weighted avg       0.83      0.50      0.62         6
              samples avg       0.50      0.40      0.40         6
        ");
        let third = &interp.labels()[2];
        assert_eq!((third.hits, third.missed, third.false_alarms), (0, 1, 2));
        assert!(interp.roc("cow").is_err());
    }
}
