//! Progress bars and the table of epochs.

use super::{Callback, Outcome, Step, Training, order};
use crate::{error::Error, sample::Batch};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{self, Write},
    time::Duration,
};

/// Draws a bar for each part of an epoch and prints the table `epoch train_loss valid_loss METRICS
/// time` as it grows: fastai's `ProgressCallback`.
///
/// Bars go to standard error, and only where that is a terminal; the table goes to standard output or
/// to the writer given.
#[derive(derive_more::Debug)]
pub struct Progress {
    #[debug(skip)]
    table: Box<dyn Write>,
    bar: Option<ProgressBar>,
    bars: bool,
    shown: Option<f64>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Bars on standard error where that is a terminal, the table on standard output.
    #[must_use]
    pub fn new() -> Self {
        Self { table: Box::new(io::stdout()), bar: None, bars: true, shown: None }
    }

    /// The table to a writer, and no bars.
    #[must_use]
    pub fn to_writer(table: impl Write + 'static) -> Self {
        Self { table: Box::new(table), bar: None, bars: false, shown: None }
    }

    fn open(&mut self, t: &Training) {
        if !self.bars {
            return;
        }
        let target = ProgressDrawTarget::stderr_with_hz(10);
        let bar = ProgressBar::with_draw_target(Some(t.at.batches as u64), target);
        let style = "{prefix} {wide_bar} {pos}/{len} [{elapsed}<{eta}] {msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        let part = if t.at.training() { "train" } else { "valid" };
        bar.set_prefix(format!("epoch {} {part}", t.at.epoch));
        self.bar = Some(bar);
    }

    fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, cells: &[String]) -> Result<(), Error> {
        let line: Vec<_> = cells.iter().map(|c| format!("{c:<WIDTH$}")).collect();
        let line = line.join("  ");
        writeln!(self.table, "{}", line.trim_end())
            .and_then(|()| self.table.flush())
            .map_err(Error::io("the table of epochs"))
    }
}

/// The least width of a column.
const WIDTH: usize = 10;

/// Minutes and seconds, with hours where there are any.
fn time(seconds: f64) -> String {
    let s = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    match s / 3600 {
        0 => format!("{:02}:{:02}", s / 60, s % 60),
        h => format!("{h}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

impl Callback for Progress {
    fn order(&self) -> i32 {
        order::SCHEDULER
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        let mut head = vec!["epoch".to_owned()];
        head.extend(t.history.names.iter().cloned());
        head.push("time".to_owned());
        Ok(self.line(&head)?)
    }

    fn before_train(&mut self, t: &mut Training) -> Step {
        self.open(t);
        Ok(())
    }

    fn before_validate(&mut self, t: &mut Training) -> Step {
        self.open(t);
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        if let Some(bar) = &self.bar {
            if t.at.training() {
                self.shown = t.history.losses.last().copied();
            }
            bar.set_message(self.shown.map_or_else(String::new, |l| format!("loss {l:.4}")));
            bar.inc(1);
        }
        Ok(())
    }

    fn after_train(&mut self, _: &mut Training) -> Step {
        self.close();
        Ok(())
    }

    fn after_validate(&mut self, _: &mut Training) -> Step {
        self.close();
        Ok(())
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        let Some(row) = t.history.rows.last() else { return Ok(()) };
        let widths = t.history.names.iter().map(|n| n.len().max(WIDTH));
        let values = row.values.iter().zip(widths).map(|(v, width)| {
            let text = v.map_or_else(String::new, |v| format!("{v:.6}"));
            format!("{text:<width$}")
        });
        let mut cells = vec![row.epoch.to_string()];
        cells.extend(values);
        cells.push(time(row.seconds));
        Ok(self.line(&cells)?)
    }

    fn after_fit(&mut self, _: &mut Training) -> Step {
        self.close();
        Ok(())
    }
}
