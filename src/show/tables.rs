//! Tables of trainings and interpretations.

use super::Table;
use crate::{
    interpret::{
        Calibration, ClassificationInterpretation, ClassificationReport, Interpretation,
        MultiLabelInterpretation, RegressionInterpretation, SegmentationInterpretation,
    },
    learner::History,
};

/// Formats a fraction with three decimals; empty if it is NaN.
fn share(v: f64) -> String {
    if v.is_nan() { String::new() } else { format!("{v:.3}") }
}

impl History {
    /// Returns the table of epochs: losses, metrics and minutes.
    #[must_use]
    pub fn table(&self) -> Table {
        self.rows.iter().fold(Table::new(self.head()), |table, row| table.row(row.cells()))
    }
}

impl ClassificationReport {
    /// Returns the report as a table. Its [`Display`](std::fmt::Display) is scikit-learn's text.
    #[must_use]
    pub fn table(&self) -> Table {
        let head = Table::new(["", "precision", "recall", "f1-score", "support"]);
        let row = |t: Table, r: &crate::interpret::ReportRow| {
            let [p, recall, f1] = [r.precision, r.recall, r.f1].map(|v| format!("{v:.2}"));
            t.row([r.name.clone(), p, recall, f1, r.support.to_string()])
        };
        let mut table = self.rows.iter().fold(head, row);
        if let Some(accuracy) = self.accuracy {
            let n: usize = self.rows.iter().map(|r| r.support).sum();
            let accuracy = format!("{accuracy:.2}");
            table = table.row([
                "accuracy".into(),
                String::new(),
                String::new(),
                accuracy,
                n.to_string(),
            ]);
        }
        self.averages.iter().fold(table, row)
    }
}

impl Calibration {
    /// Returns the probability ranges that contain items.
    #[must_use]
    pub fn table(&self) -> Table {
        let head = Table::new(["probability", "items", "mean probability", "accuracy"]);
        self.bins.iter().filter(|b| b.items > 0).fold(head, |t, b| {
            let range = format!("{:.2}–{:.2}", b.low, b.high);
            t.row([range, b.items.to_string(), share(b.confidence), share(b.accuracy)])
        })
    }
}

impl Interpretation {
    /// Returns the `k` items with the largest losses: their name by `name`, the target, the prediction, the
    /// loss.
    #[must_use]
    pub fn top_losses_table(&self, k: usize, name: impl Fn(usize) -> String) -> Table {
        let kept = self.predictions();
        self.top_losses(k).into_iter().fold(
            Table::new(["item", "actual", "predicted", "loss"]),
            |t, top| {
                let is = kept.task.words(&kept.targets[top.index]);
                let said = kept.task.words(&kept.decoded[top.index]);
                t.row([name(top.item), is, said, format!("{:.4}", top.loss)])
            },
        )
    }
}

impl ClassificationInterpretation {
    /// Returns each category with its number of items, its accuracy and the 95 % confidence interval, worst
    /// first.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut all = self.per_class_accuracy();
        // Categories without items come last.
        let rank = |v: f64| if v.is_nan() { f64::INFINITY } else { v };
        all.sort_by(|a, b| rank(a.1.value()).total_cmp(&rank(b.1.value())));
        all.into_iter().fold(
            Table::new(["category", "items", "accuracy", "95 % interval"]),
            |t, c| {
                let (low, high) = c.1.interval();
                let interval =
                    if c.1.of == 0 { String::new() } else { format!("{low:.3}–{high:.3}") };
                t.row([c.0, c.1.of.to_string(), share(c.1.value()), interval])
            },
        )
    }

    /// Returns [`most_confused`](Self::most_confused) as a table.
    #[must_use]
    pub fn most_confused_table(&self, min_val: usize) -> Table {
        let head = Table::new(["actual", "predicted", "times"]);
        let pairs = self.most_confused(min_val).into_iter();
        pairs.fold(head, |t, (is, said, n)| t.row([is, said, n.to_string()]))
    }
}

impl MultiLabelInterpretation {
    /// Returns the true positives, false negatives and false positives of each category.
    #[must_use]
    pub fn table(&self) -> Table {
        let head = Table::new(["category", "found", "missed", "false alarms"]);
        self.labels().into_iter().fold(head, |t, l| {
            let [hits, missed, alarms] = [l.hits, l.missed, l.false_alarms].map(|n| n.to_string());
            t.row([l.name, hits, missed, alarms])
        })
    }
}

impl SegmentationInterpretation {
    /// Returns the pixels of each code and their overlap.
    #[must_use]
    pub fn table(&self) -> Table {
        let head = Table::new(["code", "pixels", "predicted", "both", "IoU", "Dice"]);
        self.overlaps().into_iter().fold(head, |t, o| {
            let [pixels, predicted, both] = [o.pixels, o.predicted, o.both].map(|n| n.to_string());
            let (iou, dice) = (share(o.iou()), share(o.dice()));
            t.row([o.name, pixels, predicted, both, iou, dice])
        })
    }
}

impl RegressionInterpretation {
    /// Returns the errors of each number.
    #[must_use]
    pub fn table(&self) -> Table {
        let head = Table::new(["number", "mean absolute error", "root mean squared error", "R²"]);
        let (mae, rmse, r2) = (self.mae(), self.rmse(), self.r2());
        (0..mae.len()).fold(head, |t, j| {
            let [mae, rmse, r2] = [mae[j], rmse[j], r2[j]].map(|v| format!("{v:.4}"));
            t.row([(j + 1).to_string(), mae, rmse, r2])
        })
    }
}
