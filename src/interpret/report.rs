//! Precision, recall and F1 of each category, with scikit-learn's text format.

use std::fmt;

/// Precision, recall, F1 and support of each category and their averages:
/// [scikit-learn's](https://scikit-learn.org/stable/modules/generated/sklearn.metrics.classification_report.html)
/// `classification_report`. [`Display`](fmt::Display) writes exactly its text. A ratio whose
/// denominator is 0 counts as 0.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ClassificationReport {
    /// A row for each category, in the order of the vocabulary.
    pub rows: Vec<ReportRow>,
    /// The accuracy; `None` if an item has several categories.
    pub accuracy: Option<f64>,
    /// `macro avg` and `weighted avg`; with several categories per item also `micro avg` and `samples avg`.
    pub averages: Vec<ReportRow>,
}

/// One row of a [`ClassificationReport`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReportRow {
    /// The category, or the kind of average.
    pub name: String,
    /// The precision.
    pub precision: f64,
    /// The recall.
    pub recall: f64,
    /// The F1 score.
    pub f1: f64,
    /// The support: the number of true items.
    pub support: usize,
}

/// The counts of one category.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// The true positives.
    pub(super) hits: usize,
    pub(super) predicted: usize,
    pub(super) actual: usize,
}

/// Returns a ratio; 0 if its denominator is 0.
pub(super) fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

impl Counts {
    pub(super) fn row(self, name: impl Into<String>) -> ReportRow {
        let (hits, predicted, actual) =
            (self.hits as f64, self.predicted as f64, self.actual as f64);
        ReportRow {
            name: name.into(),
            precision: ratio(hits, predicted),
            recall: ratio(hits, actual),
            f1: ratio(2.0 * hits, predicted + actual),
            support: self.actual,
        }
    }
}

/// Returns the weighted mean of rows; zeros if all weights are 0.
pub(super) fn average(
    name: &str,
    rows: &[ReportRow],
    support: usize,
    weight: impl Fn(&ReportRow) -> f64,
) -> ReportRow {
    let total: f64 = rows.iter().map(&weight).sum();
    let mean = |value: fn(&ReportRow) -> f64| {
        ratio(rows.iter().map(|r| value(r) * weight(r)).sum(), total)
    };
    ReportRow {
        name: name.to_owned(),
        precision: mean(|r| r.precision),
        recall: mean(|r| r.recall),
        f1: mean(|r| r.f1),
        support,
    }
}

/// Returns the averages over categories.
pub(super) fn macro_and_weighted(rows: &[ReportRow]) -> [ReportRow; 2] {
    let support = rows.iter().map(|r| r.support).sum();
    [
        average("macro avg", rows, support, |_| 1.0),
        average("weighted avg", rows, support, |r| r.support as f64),
    ]
}

impl fmt::Display for ClassificationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.rows.iter().map(|r| r.name.chars().count());
        // The largest width of the formatter. Longer names are written in full.
        let most = usize::from(u16::MAX);
        let width = names.max().unwrap_or(0).clamp("weighted avg".len(), most);
        let heads = ["precision", "recall", "f1-score", "support"];
        write!(f, "{:width$} ", "")?;
        heads.iter().try_for_each(|h| write!(f, " {h:>9}"))?;
        write!(f, "\n\n")?;
        let row = |f: &mut fmt::Formatter<'_>, r: &ReportRow| {
            let ReportRow { name, precision: p, recall, f1, support } = r;
            writeln!(f, "{name:>width$}  {p:>9.2} {recall:>9.2} {f1:>9.2} {support:>9}")
        };
        self.rows.iter().try_for_each(|r| row(f, r))?;
        writeln!(f)?;
        if let Some(accuracy) = self.accuracy {
            let n: usize = self.rows.iter().map(|r| r.support).sum();
            writeln!(f, "{:>width$}  {:9} {:9} {accuracy:>9.2} {n:>9}", "accuracy", "", "")?;
        }
        self.averages.iter().try_for_each(|r| row(f, r))
    }
}
