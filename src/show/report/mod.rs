//! The report of a training in one HTML file.

mod facts;
mod mistakes;

use super::{Figure, Table, html::escaped};
use crate::{
    data::DataLoader,
    disk, distributed,
    error::Result,
    interpret::{
        ClassificationInterpretation, Interpretation, MultiLabelInterpretation,
        RegressionInterpretation, SegmentationInterpretation,
    },
    learner::{History, Learner, LrCurve, Predictions},
    sample::Task,
};
use std::{fmt::Write as _, io::Write as _, path::Path};

/// A report of a training and of its model's mistakes in one HTML file without scripts, other files or
/// network access. It is designed for phones and desktops, in light and dark mode.
///
/// [`Learner::report`] builds a complete one. A report can also be built step by step:
///
/// ```
/// use finetune::show::{Report, Table, plot_function};
/// let page = Report::new("Schedules")
///     .text("About", "What the learning rate does.")
///     .figure("Warm-up", &plot_function("linear", |x| x, 0.0..=1.0))?
///     .table("Rates", &Table::new(["epoch", "rate"]).row(["0", "1e-4"]))
///     .html();
/// assert!(page.starts_with("<!DOCTYPE html>") && page.contains("Warm-up"));
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Report {
    title: String,
    lead: Vec<String>,
    /// Titles and contents, as HTML.
    sections: Vec<(String, String)>,
}

/// The size of a chart in pixels: its text remains legible on a phone.
const CHART: (u32, u32) = (520, 340);
/// The minimum scale of a chart; below that, it scrolls instead.
const LEAST: f64 = 0.7;
/// The number of worst mistakes that are shown.
const WORST: usize = 24;
const STYLE: &str = include_str!("style.css");

impl Report {
    /// Returns a report without sections.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), lead: vec![], sections: vec![] }
    }

    /// Adds a sentence below the title, such as the result.
    #[must_use]
    pub fn lead(mut self, sentence: impl Into<String>) -> Self {
        self.lead.push(sentence.into());
        self
    }

    /// Adds text to the section `title`, which is created if needed.
    #[must_use]
    pub fn text(self, title: &str, text: &str) -> Self {
        self.add(title, &format!("<p>{}</p>\n", escaped(text)))
    }

    /// Adds a table to the section `title`, which is created if needed.
    #[must_use]
    pub fn table(self, title: &str, table: &Table) -> Self {
        let html = format!("<div class=\"scroll\">\n{}</div>\n", table.html());
        self.add(title, &html)
    }

    /// Adds a figure to the section `title`, which is created if needed. Photos in it are embedded.
    ///
    /// # Errors
    /// As [`Figure::svg`].
    pub fn figure(self, title: &str, figure: &Figure) -> Result<Self> {
        let html = picture(figure, title)?;
        Ok(self.add(title, &html))
    }

    /// Adds the losses, metrics, schedules and the table of a fit.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if nothing was recorded.
    pub fn history(self, history: &History) -> Result<Self> {
        let mut charts = String::new();
        let figures = [history.plot_loss(), history.plot_metrics(), history.plot_sched()];
        for figure in figures {
            for one in figure?.each() {
                charts.push_str(&picture(&one.size(CHART.0, CHART.1), "Training")?);
            }
        }
        let charts = format!("<div class=\"charts\">\n{charts}</div>\n");
        Ok(self.table("Training", &history.table()).add("Training", &charts))
    }

    /// Adds the curve of the learning-rate finder with its suggestions.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the curve is empty.
    pub fn lr_find(self, found: &LrCurve) -> Result<Self> {
        let figure = found.plot()?.size(760, 440);
        self.figure("Learning rate finder", &figure)
    }

    /// Adds the interpretation of predictions: the worst mistakes with their images, and, depending on the task,
    /// for example the confusion matrix, the most confused pairs, the accuracy of each category and the
    /// calibration, or the errors of numbers. `loader` is the one that was predicted, or another one of its data
    /// set.
    ///
    /// # Errors
    /// [`Error::Mismatch`](crate::Error::Mismatch) if there are no predictions or no labels; errors of the
    /// data.
    pub fn predictions(self, predictions: Predictions, loader: &DataLoader) -> Result<Self> {
        match &predictions.task {
            Task::Category { .. } => {
                let interp = ClassificationInterpretation::from_predictions(predictions)?;
                self.classification(&interp)?.mistakes(interp.as_ref(), loader)
            }
            Task::Categories { .. } => {
                let interp = MultiLabelInterpretation::from_predictions(predictions)?;
                let report = interp.classification_report().table();
                let report = self.table("Categories", &interp.table()).table("Categories", &report);
                report.mistakes(interp.as_ref(), loader)
            }
            Task::Mask { .. } => {
                let interp = SegmentationInterpretation::from_predictions(predictions)?;
                let (iou, right) = (interp.mean_iou(), interp.pixel_accuracy());
                let lead =
                    format!("Mean IoU {iou:.3}, {:.1} % of the pixels correct.", right * 100.0);
                let matrix = interp.plot_confusion_matrix()?;
                let worst = interp.worst(WORST).into_iter().fold(
                    Table::new(["item", "mean IoU"]),
                    |t, (i, iou)| {
                        let name = loader.dataset().name(interp.predictions().items[i]);
                        t.row([name, format!("{iou:.3}")])
                    },
                );
                let report = self.lead(lead).table("Codes", &interp.table());
                let report = report.figure("Confusion matrix", &matrix)?;
                report.table("Lowest IoU", &worst).mistakes(interp.as_ref(), loader)
            }
            Task::Values { .. } => {
                let interp = RegressionInterpretation::from_predictions(predictions)?;
                let report = self.table("Errors", &interp.table());
                let report = report.figure("Errors", &interp.plot_predictions()?)?;
                report.mistakes(interp.as_ref(), loader)
            }
            // For points and boxes, only the worst mistakes are shown.
            _ => self.mistakes(&Interpretation::from_predictions(predictions)?, loader),
        }
    }

    fn classification(self, interp: &ClassificationInterpretation) -> Result<Self> {
        let accuracy = interp.accuracy();
        let lead = format!("Accuracy {accuracy} on {} validation items.", accuracy.of);
        let confused = interp.most_confused_table(2);
        let report = self.lead(lead);
        let report = report.figure("Confusion matrix", &interp.plot_confusion_matrix()?)?;
        let report = if confused.rows().is_empty() {
            report.text("Most confused", "No pair of categories is confused more than once.")
        } else {
            report.table("Most confused", &confused)
        };
        let report = report.table("Categories", &interp.table());
        match interp.plot_calibration() {
            Ok(calibration) => report.figure("Calibration", &calibration),
            // The outputs are not probabilities.
            Err(e @ crate::Error::Mismatch { .. }) => {
                Ok(report.text("Calibration", &e.to_string()))
            }
            Err(e) => Err(e),
        }
    }

    fn mistakes(self, interp: &Interpretation, loader: &DataLoader) -> Result<Self> {
        let html = mistakes::worst(interp, loader, WORST)?;
        Ok(self.add("Worst mistakes", &html))
    }

    /// Adds a section with names and values.
    #[must_use]
    pub fn facts(self, title: &str, facts: &[(String, String)]) -> Self {
        let row = |(name, fact): &(String, String)| {
            format!("<tr><td>{}</td><td>{}</td></tr>\n", escaped(name), escaped(fact))
        };
        let rows: String = facts.iter().map(row).collect();
        let html = format!("<table class=\"facts\">\n<tbody>\n{rows}</tbody>\n</table>\n");
        self.add(title, &html)
    }

    fn add(mut self, title: &str, html: &str) -> Self {
        match self.sections.iter_mut().find(|(t, _)| t == title) {
            Some((_, body)) => body.push_str(html),
            None => self.sections.push((title.to_owned(), html.to_owned())),
        }
        self
    }

    /// Returns the page.
    #[must_use]
    pub fn html(&self) -> String {
        let title = escaped(&self.title);
        let lead: String =
            self.lead.iter().map(|s| format!("<p class=\"lead\">{}</p>\n", escaped(s))).collect();
        let (mut links, mut body) = (String::new(), String::new());
        for (i, (title, html)) in self.sections.iter().enumerate() {
            let title = escaped(title);
            // Writing to a `String` cannot fail.
            let _ = writeln!(links, "<a href=\"#s{i}\">{title}</a>");
            let _ = writeln!(body, "<section id=\"s{i}\">\n<h2>{title}</h2>\n{html}</section>");
        }
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n\
             <header>\n<h1>{title}</h1>\n{lead}<nav>\n{links}</nav>\n</header>\n\
             <main>\n{body}</main>\n<footer>Written by finetune {version}.</footer>\n\
             </body>\n</html>\n"
        )
    }

    /// Writes the page. Missing folders are created, and an existing file is replaced atomically.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) naming the path.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if !distributed::writes_files() {
            return Ok(());
        }
        disk::replace(path, |out| out.write_all(self.html().as_bytes()))
    }
}

impl Learner {
    /// Builds a report of the last fit and of the validation items, which are predicted once: curves,
    /// confusions, the worst mistakes with their images, the configuration, the environment.
    ///
    /// ```no_run
    /// # fn f(mut learn: finetune::learner::Learner) -> finetune::Result<()> {
    /// let found = learn.lr_find()?;
    /// learn.fine_tune(3)?;
    /// learn.report("Pets")?.lr_find(&found)?.save("report.html")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Learner::get_preds`] and [`Report::predictions`].
    pub fn report(&mut self, title: impl Into<String>) -> Result<Report> {
        let predictions = self.get_preds()?;
        let mut report = Report::new(title);
        if !self.recorder().rows.is_empty() {
            report = report.history(self.recorder())?;
        }
        let valid = self.dls().valid().clone();
        let report = report.predictions(predictions, &valid)?;
        let configuration = facts::configuration(self);
        Ok(report
            .facts("Configuration", &configuration)
            .facts("Environment", &facts::environment()))
    }
}

/// Returns a figure as HTML that scrolls if it would become too small to read.
fn picture(figure: &Figure, title: &str) -> Result<String> {
    let (wide, _) = figure.dimensions();
    let least = (f64::from(wide) * LEAST).round();
    let label = escaped(title);
    let svg = figure.svg()?;
    // Inside a page, the XML declaration is removed, and a label is added for screen readers.
    let start = svg.find("<svg ").unwrap_or(0);
    let named = format!("<svg role=\"img\" aria-label=\"{label}\" style=\"min-width:{least}px\" ");
    let svg = svg[start..].replacen("<svg ", &named, 1);
    Ok(format!("<figure class=\"scroll\">\n{svg}\n</figure>\n"))
}
