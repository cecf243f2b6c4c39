//! Figures of interpretations.

use super::{Chart, Figure, matrix::Matrix};
use crate::{
    error::{Error, Result},
    interpret::{
        ClassificationInterpretation, MultiLabelInterpretation, RegressionInterpretation, Roc,
        SegmentationInterpretation,
    },
};

/// Options of a confusion matrix figure.
#[derive(Debug, Clone)]
pub struct ConfusionPlot {
    title: String,
    normalize: bool,
    decimals: usize,
    least: f64,
}

impl Default for ConfusionPlot {
    fn default() -> Self {
        Self { title: "Confusion matrix".into(), normalize: false, decimals: 2, least: 0.0 }
    }
}

impl ConfusionPlot {
    /// Returns options that show counts, except 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the title; an empty one takes no space. Default: `Confusion matrix`.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// If true, shows fractions of the row (of the true category) instead of counts. Default: false.
    #[must_use]
    pub fn normalize(mut self, yes: bool) -> Self {
        self.normalize = yes;
        self
    }

    /// Sets the number of decimals of fractions, up to 16. Default: 2.
    #[must_use]
    pub fn decimals(mut self, decimals: usize) -> Self {
        self.decimals = decimals;
        self
    }

    /// Sets the threshold below which numbers are not written; their squares are still colored. Default: 0;
    /// 0 itself is not written.
    #[must_use]
    pub fn at_least(mut self, least: f64) -> Self {
        self.least = least;
        self
    }
}

/// The largest number of decimals: fractions have no more digits.
const MAX_DECIMALS: usize = 16;

/// Returns an error if there is nothing to draw.
fn some(items: usize) -> Result<()> {
    if items == 0 {
        return Err(Error::mismatch("predictions", "there are none to draw"));
    }
    Ok(())
}

impl ClassificationInterpretation {
    /// Draws the confusion matrix: true categories in rows, predicted ones in columns. It is legible for
    /// about sixty categories; for more, first the numbers and then names are omitted.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are no predictions.
    pub fn plot_confusion_matrix(&self) -> Result<Figure> {
        self.plot_confusion_matrix_with(ConfusionPlot::new())
    }

    /// Draws the confusion matrix with other options.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are no predictions; [`Error::Config`] for more than 16 decimals, and if the
    /// threshold of written numbers is NaN.
    pub fn plot_confusion_matrix_with(&self, plot: ConfusionPlot) -> Result<Figure> {
        some(self.accuracy().of)?;
        if plot.decimals > MAX_DECIMALS {
            let why = format!("is {}; it must be at most {MAX_DECIMALS}", plot.decimals);
            return Err(Error::config("decimals", why));
        }
        if plot.least.is_nan() {
            return Err(Error::config("at_least", "is NaN; it must be a number"));
        }
        let (values, decimals) = if plot.normalize {
            (self.confusion_matrix_normalized(), plot.decimals)
        } else {
            (self.confusion_matrix().mapv(|n| n as f64), 0)
        };
        let visible = 0.5 / 10f64.powi(decimals as i32);
        let names = self.vocab().to_vec();
        let least = plot.least.max(visible);
        Ok(Matrix { title: plot.title, names, values, decimals, least }.into())
    }

    /// Draws the accuracy by predicted probability in ten ranges, with the expected calibration
    /// error in the title.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are no predictions, or an output is not a probability.
    pub fn plot_calibration(&self) -> Result<Figure> {
        some(self.accuracy().of)?;
        let calibration = self.calibration(10)?;
        let middle = |b: &crate::interpret::Bin| f64::midpoint(b.low, b.high);
        let used = || calibration.bins.iter().filter(|b| b.items > 0);
        let chart = Chart::new(format!("Calibration: error {:.3}", calibration.ece))
            .x("probability of the predicted category")
            .y("accuracy")
            .x_range(0.0..=1.0)
            .y_range(0.0..=1.0)
            .bars("right", used().map(|b| (middle(b), b.accuracy)), 0.1)
            .line_with_dots("mean probability", used().map(|b| (middle(b), b.confidence)))
            .dashed("perfect", [(0.0, 0.0), (1.0, 1.0)]);
        Ok(chart.figure().size(640, 560))
    }

    /// Draws the ROC curve of each given category against all others, with the area under it.
    ///
    /// # Errors
    /// [`Error::Config`] if a category is not in the vocabulary.
    pub fn plot_roc<S: AsRef<str>>(&self, categories: &[S]) -> Result<Figure> {
        let roc = |name: &S| Ok((name.as_ref().to_owned(), self.roc(name.as_ref())?));
        Ok(curves(categories.iter().map(roc).collect::<Result<_>>()?))
    }
}

impl MultiLabelInterpretation {
    /// Draws the ROC curve of each given category, with the area under it.
    ///
    /// # Errors
    /// [`Error::Config`] if a category is not in the vocabulary.
    pub fn plot_roc<S: AsRef<str>>(&self, categories: &[S]) -> Result<Figure> {
        let roc = |name: &S| Ok((name.as_ref().to_owned(), self.roc(name.as_ref())?));
        Ok(curves(categories.iter().map(roc).collect::<Result<_>>()?))
    }
}

impl SegmentationInterpretation {
    /// Draws the confusion matrix of pixels as fractions of the rows: true codes in rows, predicted ones in
    /// columns.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are no predictions.
    pub fn plot_confusion_matrix(&self) -> Result<Figure> {
        some(self.predictions().len())?;
        let counts = self.confusion_matrix();
        let share = |(row, column): (usize, usize)| {
            let all = counts.row(row).sum();
            if all == 0 { 0.0 } else { counts[(row, column)] as f64 / all as f64 }
        };
        let values = ndarray::Array2::from_shape_fn(counts.dim(), share);
        let (title, names) = ("Confusion of pixels".to_owned(), self.codes().to_vec());
        Ok(Matrix { title, names, values, decimals: 2, least: 0.005 }.into())
    }
}

impl RegressionInterpretation {
    /// Draws predictions over targets, one chart per number. Exact predictions are on the dashed line.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there are no predictions.
    pub fn plot_predictions(&self) -> Result<Figure> {
        some(self.targets().nrows())?;
        let n = self.targets().ncols();
        let (mae, r2) = (self.mae(), self.r2());
        let chart = |j: usize| {
            let points: Vec<(f64, f64)> = self
                .targets()
                .column(j)
                .iter()
                .copied()
                .zip(self.predicted().column(j).iter().copied())
                .collect();
            let all = || points.iter().flat_map(|p| [p.0, p.1]).filter(|v| v.is_finite());
            let (low, high) = (all().fold(f64::NAN, f64::min), all().fold(f64::NAN, f64::max));
            let which = if n == 1 { String::new() } else { format!("{}: ", j + 1) };
            Chart::new(format!("{which}mean absolute error {:.3}, R² {:.3}", mae[j], r2[j]))
                .x("target")
                .y("prediction")
                .points("items", points)
                .dashed("right", [(low, low), (high, high)])
        };
        Ok(Figure::charts((0..n).map(chart).collect(), 2))
    }
}

fn curves(all: Vec<(String, Roc)>) -> Figure {
    let chart = Chart::new("ROC")
        .x("false-positive rate")
        .y("true-positive rate")
        .x_range(0.0..=1.0)
        .y_range(0.0..=1.0);
    let chart = all.into_iter().fold(chart, |chart, (name, roc)| {
        let area = roc.auc.map_or("no area".into(), |a| format!("{a:.3}"));
        chart.line(format!("{name} {area}"), roc.points)
    });
    chart.dashed("chance", [(0.0, 0.0), (1.0, 1.0)]).figure().size(640, 600)
}
