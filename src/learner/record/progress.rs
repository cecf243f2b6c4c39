//! Progress bars and the table of epochs.

use crate::{
    error::{Error, Result},
    learner::{
        Callback, Outcome, Step, Training, order, record::duration::time, training::state::Run,
    },
    sample::Batch,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{self, IsTerminal as _, Write},
    thread,
    time::{Duration, Instant},
};

/// How progress within an epoch is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Steps {
    /// A progress bar for each part of an epoch, if standard error is a terminal.
    Bars,
    /// Log lines, at most one per this duration.
    Lines(Duration),
    /// No progress, only the table of epochs.
    Hidden,
}

/// Shows the progress of each part of an epoch, and prints the table `epoch train_loss valid_loss METRICS
/// time` row by row: fastai's `ProgressCallback`.
///
/// Progress within an epoch goes to standard error: if it is a terminal, a bar with the smoothed loss, the
/// rate and the remaining time, otherwise a line every 30 seconds. It includes the fraction of time that
/// training waits for data, with a suggestion if it is large, and the number of images added to the
/// [cache](crate::data::Cache) in an epoch that fills it. The table goes to standard output or to the given
/// writer.
#[derive(derive_more::Debug)]
pub struct Progress {
    #[debug(skip)]
    table: Box<dyn Write + Send>,
    #[debug(skip)]
    log: Box<dyn Write + Send>,
    steps: Steps,
    widths: Vec<usize>,
    part: Option<Part>,
    /// The number of messages that have been printed.
    told: usize,
    hinted: bool,
}

/// The part of an epoch whose progress is shown.
#[derive(Debug)]
struct Part {
    name: String,
    steps: usize,
    done: usize,
    began: Instant,
    written: Instant,
    /// The number of images in the cache at the start of the part.
    cached: usize,
    bar: Option<ProgressBar>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// The fractions of waiting time from which it is shown, and from which a suggestion is printed.
const WORTH_A_WORD: f64 = 0.05;
const TOO_LONG: f64 = 0.2;
/// The minimum width of a column.
const WIDTH: usize = 10;

impl Progress {
    /// Returns bars on standard error if it is a terminal, otherwise a line every 30 seconds, and the table
    /// on standard output.
    #[must_use]
    pub fn new() -> Self {
        let steps = match io::stderr().is_terminal() {
            true => Steps::Bars,
            false => Steps::Lines(Duration::from_secs(30)),
        };
        Self::to_writer(io::stdout()).steps(steps)
    }

    /// Returns progress that writes only the table, to a writer.
    #[must_use]
    pub fn to_writer(table: impl Write + Send + 'static) -> Self {
        Self {
            table: Box::new(table),
            log: Box::new(io::stderr()),
            steps: Steps::Hidden,
            widths: vec![],
            part: None,
            told: 0,
            hinted: false,
        }
    }

    /// Sets how progress within an epoch is shown. Default: bars on a terminal, otherwise lines.
    #[must_use]
    pub fn steps(mut self, steps: Steps) -> Self {
        self.steps = steps;
        self
    }

    /// Sets the writer of [`Steps::Lines`]. Default: standard error.
    #[must_use]
    pub fn log_to(mut self, log: impl Write + Send + 'static) -> Self {
        self.log = Box::new(log);
        self
    }

    fn open(&mut self, t: &Training, name: String, steps: usize) {
        let bar = (self.steps == Steps::Bars).then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(10);
            let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
            let style = "{prefix} {wide_bar} {pos}/{len} {per_sec} [{elapsed}<{eta}] {msg}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar.set_prefix(name.clone());
            bar
        });
        let (began, cached) = (Instant::now(), cached(t));
        if self.steps != Steps::Hidden {
            self.part = Some(Part { name, steps, done: 0, began, written: began, cached, bar });
        }
    }

    fn close(&mut self) {
        if let Some(bar) = self.part.take().and_then(|part| part.bar) {
            bar.finish_and_clear();
        }
    }

    /// Advances the current part by one step.
    fn advance(&mut self, t: &Training) -> Result<()> {
        let Some(part) = &mut self.part else { return Ok(()) };
        part.done += 1;
        if let Some(bar) = &part.bar {
            bar.set_message(part.message(t));
            bar.set_position(part.done as u64);
            return Ok(());
        }
        let Steps::Lines(every) = self.steps else { return Ok(()) };
        if part.written.elapsed() < every {
            return Ok(());
        }
        part.written = Instant::now();
        let line = part.line(&part.message(t));
        writeln!(self.log, "{line}").map_err(Error::io("the progress line"))
    }

    fn head(&mut self, t: &Training) -> Result<()> {
        self.widths.clear();
        self.line(&t.history.head())
    }

    /// Prints the whole table of a fit that has ended, and the messages of callbacks.
    #[cfg(feature = "dashboard")]
    pub(crate) fn whole(&mut self, t: &Training) -> Result<()> {
        self.head(t)?;
        t.history.rows.iter().try_for_each(|row| self.line(&row.cells()))?;
        self.told = 0;
        self.tell(t)
    }

    fn line(&mut self, cells: &[String]) -> Result<()> {
        self.widths.resize(cells.len().max(self.widths.len()), WIDTH);
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            // The largest width of the formatter. Longer names are written in full.
            *width = (*width).max(cell.chars().count()).min(usize::from(u16::MAX));
        }
        let line: Vec<_> =
            cells.iter().zip(&self.widths).map(|(c, &width)| format!("{c:<width$}")).collect();
        self.write(line.join("  ").trim_end())
    }

    fn write(&mut self, line: &str) -> Result<()> {
        writeln!(self.table, "{line}")
            .and_then(|()| self.table.flush())
            .map_err(Error::io("the table of epochs"))
    }

    /// Prints new messages of callbacks.
    fn tell(&mut self, t: &Training) -> Result<()> {
        let new = t.history.messages.get(self.told..).unwrap_or_default();
        self.told = t.history.messages.len();
        new.iter().try_for_each(|message| self.write(message))
    }

    /// Suggests how to speed up a training that waits for data, once.
    fn hint(&mut self, t: &mut Training) {
        let waits = t.data_wait_fraction();
        if self.hinted || waits < TOO_LONG || t.at.batches < 10 {
            return;
        }
        self.hinted = true;
        let workers = t.dls.train().num_workers();
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let help = if workers < processors {
            format!("raise `num_workers`, which is {workers} on {processors} processors")
        } else {
            "store the images at about the size of the first `Resize`, or remove slow transforms"
                .to_owned()
        };
        t.say(format!("training waits {:.0} % of the time for data: {help}", waits * 100.0));
    }
}

impl Part {
    fn line(&self, message: &str) -> String {
        let Self { name, steps, done, .. } = self;
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = *done as f64 / seconds.max(1e-9);
        let left = steps.saturating_sub(*done) as f64 / rate;
        format!("{name} {done}/{steps}  {rate:.2}/s  {} left  {message}", time(left))
            .trim_end()
            .to_owned()
    }

    /// Returns the smoothed loss, the images added to the cache, and the fraction of time that training
    /// waits for data.
    fn message(&self, t: &Training) -> String {
        let mut parts: Vec<String> = vec![];
        parts.extend(t.history.losses.last().map(|loss| format!("loss {loss:.4}")));
        let new = cached(t).saturating_sub(self.cached);
        if new > 0 {
            parts.push(format!("{new} images cached"));
        }
        parts.extend(waits(t.data_wait_fraction()));
        parts.join(", ")
    }
}

/// Returns the number of images in the cache, if there is one.
fn cached(t: &Training) -> usize {
    t.dls.cache_status().map_or(0, |status| status.images)
}

/// Describes the fraction of time that training waits for data, if it is large enough to show.
pub(crate) fn waits(share: f64) -> Option<String> {
    (share >= WORTH_A_WORD).then(|| format!("waits {:.0} % for data", share * 100.0))
}

impl Callback for Progress {
    fn order(&self) -> i32 {
        order::SCHEDULER
    }

    fn only_on_first_rank(&self) -> bool {
        true
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        match t.run {
            Run::Fit => {
                // The program that wrote the checkpoint has printed its messages.
                self.told = if t.is_resumed() { t.old_messages } else { 0 };
                self.head(t)?;
            }
            Run::Sweep(steps) => self.open(t, "lr_find".to_owned(), steps),
            Run::Evaluation => {}
        }
        Ok(())
    }

    fn before_train(&mut self, t: &mut Training) -> Step {
        if t.run == Run::Fit {
            // Messages from before the training, for example of the resume.
            self.tell(t)?;
            self.open(t, format!("epoch {} train", t.at.epoch), t.at.batches);
            if let Some(part) = &mut self.part {
                part.done = t.at.batch;
            }
        }
        Ok(())
    }

    fn before_validate(&mut self, t: &mut Training) -> Step {
        match t.run {
            Run::Fit => {
                self.open(t, format!("epoch {} valid", t.at.epoch), t.at.batches);
            }
            // A bar for a single image would only flicker.
            Run::Evaluation if t.at.batches > 1 => {
                self.open(t, "valid".to_owned(), t.at.batches);
            }
            Run::Evaluation | Run::Sweep(_) => {}
        }
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        Ok(self.advance(t)?)
    }

    fn after_train(&mut self, t: &mut Training) -> Step {
        if t.run == Run::Fit {
            self.hint(t);
            self.close();
        }
        Ok(())
    }

    fn after_validate(&mut self, t: &mut Training) -> Step {
        if !matches!(t.run, Run::Sweep(_)) {
            self.close();
        }
        Ok(())
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        let (Run::Fit, Some(row)) = (t.run, t.history.rows.last()) else { return Ok(()) };
        self.line(&row.cells())?;
        Ok(self.tell(t)?)
    }

    fn after_fit(&mut self, t: &mut Training) -> Step {
        self.close();
        if t.run == Run::Fit {
            self.tell(t)?;
        }
        Ok(())
    }
}
