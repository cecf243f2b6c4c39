use crate::{
    disk::Appender,
    error::{Error, Result},
    learner::{Callback, EpochRow, Step, Training, order},
};
use serde_json::Value;
use std::{fs, io, path::PathBuf};

/// Writes the table of epochs to a CSV file, one line at the end of each epoch: fastai's
/// `CSVLogger`.
///
/// The columns are `stage`, `epoch`, those of the table, and `time` in seconds. The stages of a `fine_tune`
/// share one table; `stage` counts them from 0. Missing folders are created.
#[derive(Debug)]
pub struct CsvLogger {
    path: PathBuf,
    append: bool,
    file: Option<Appender>,
    /// True if the header has not been written yet. When appending, it is written with the first row, so
    /// that a fit that is restarted before that leaves no second header.
    with_head: bool,
}

impl CsvLogger {
    /// Creates a logger that writes to `path`. Each call of `fit` or `fine_tune` replaces the file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), append: false, file: None, with_head: false }
    }

    /// If true, appends to an existing file. The header is repeated only if the columns differ from
    /// the last header in the file. Default: false.
    #[must_use]
    pub fn append(mut self, yes: bool) -> Self {
        self.append = yes;
        self
    }

    fn write(&mut self, cells: &[String]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut row = csv::Writer::from_writer(vec![]);
        row.write_record(cells).map_err(Error::other)?;
        file.append(&row.into_inner().map_err(|e| Error::other(e.to_string()))?)
    }
}

impl CsvLogger {
    /// Returns the key of the note in a checkpoint.
    fn key(&self) -> String {
        format!("CsvLogger.{}", self.path.display())
    }

    fn write_row(&mut self, stage: usize, row: &EpochRow) -> Result<()> {
        let mut cells = vec![stage.to_string(), row.epoch.to_string()];
        cells.extend(row.values.iter().map(|v| v.map_or_else(String::new, |v| v.to_string())));
        cells.push(format!("{:.3}", row.seconds));
        self.write(&cells)
    }

    fn write_head(&mut self, t: &Training) -> Result<()> {
        if std::mem::take(&mut self.with_head) {
            self.write(&columns(t))?;
        }
        Ok(())
    }

    /// Returns the last header in the file; empty if there is none.
    fn columns_there(&self) -> Result<Vec<String>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(e) => return Err(Error::io(&self.path)(e)),
        };
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .has_headers(false)
            .from_reader(text.as_bytes());
        let records = reader.records().filter_map(|record| record.ok());
        let heads = records.filter(|record| record.iter().take(2).eq(["stage", "epoch"]));
        Ok(heads.last().map_or_else(Vec::new, |head| head.iter().map(str::to_owned).collect()))
    }
}

/// Returns the columns of the file.
fn columns(t: &Training) -> Vec<String> {
    std::iter::once("stage".to_owned()).chain(t.history.head()).collect()
}

impl Callback for CsvLogger {
    fn exclusive(&self) -> Option<String> {
        Some(format!("writes {}", self.path.display()))
    }

    fn order(&self) -> i32 {
        order::SCHEDULER
    }

    fn only_on_first_rank(&self) -> bool {
        true
    }

    fn skip_evaluation(&self) -> bool {
        true
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        let key = self.key();
        let position = t.notes.get(&key).filter(|_| t.is_resumed()).and_then(Value::as_u64);
        self.with_head = true;
        if let Some(position) = position {
            if Appender::has(&self.path, position) {
                // Rows after the checkpoint are written again.
                self.file = Some(Appender::open(&self.path, Some(position))?);
                self.with_head =
                    self.append && t.history.rows.is_empty() && self.columns_there()? != columns(t);
                return Ok(());
            }
            self.file = Some(Appender::open(&self.path, Some(0))?);
            t.say(format!(
                "{} is shorter than at the time of the checkpoint: the rows of this fit were written again",
                self.path.display()
            ));
            self.write_head(t)?;
            for row in t.history.rows.clone() {
                self.write_row(t.stage(), &row)?;
            }
            return Ok(());
        }
        // A later stage appends to the previous one.
        let below = self.append || t.stage() > 0;
        self.with_head = !below || self.columns_there()? != columns(t);
        self.file = Some(Appender::open(&self.path, if below { None } else { Some(0) })?);
        if !below {
            self.write_head(t)?;
        }
        Ok(())
    }

    fn before_checkpoint(&mut self, t: &mut Training) -> Step {
        let key = self.key();
        if let Some(file) = &mut self.file {
            file.sync()?;
            t.notes.insert(key, file.len().into());
        }
        Ok(())
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        self.write_head(t)?;
        let Some(row) = t.history.rows.last() else { return Ok(()) };
        Ok(self.write_row(t.stage(), row)?)
    }

    fn after_fit(&mut self, _: &mut Training) -> Step {
        self.file = None;
        Ok(())
    }
}
