use crate::{
    error::{Error, Result},
    learner::{Callback, Step, Training, order},
};
use std::{fs, path::PathBuf};

/// Writes the table of epochs to a CSV file, a line as each epoch ends: fastai's `CSVLogger`.
#[derive(Debug)]
pub struct CsvLogger {
    path: PathBuf,
    append: bool,
    file: Option<csv::Writer<fs::File>>,
}

impl CsvLogger {
    /// Writes to `path`, which a fit begins anew.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), append: false, file: None }
    }

    /// Whether to write below what is in the file already. Default: false.
    #[must_use]
    pub fn append(mut self, yes: bool) -> Self {
        self.append = yes;
        self
    }

    fn write(&mut self, cells: &[String]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write_record(cells).map_err(std::io::Error::from);
        written.and_then(|()| file.flush()).map_err(Error::io(&self.path))
    }
}

impl Callback for CsvLogger {
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
        // A resumed fit goes on below what it wrote before it was stopped.
        let goes_on = t.is_resumed() && self.path.exists();
        let append = self.append || goes_on;
        let mut options = fs::OpenOptions::new();
        options.create(true).write(true).append(append).truncate(!append);
        let file = options.open(&self.path).map_err(Error::io(&self.path))?;
        let file = csv::WriterBuilder::new().flexible(true).from_writer(file);
        self.file = Some(file);
        if goes_on {
            return Ok(());
        }
        Ok(self.write(&t.history.head())?)
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        let Some(row) = t.history.rows.last() else { return Ok(()) };
        let mut cells = vec![row.epoch.to_string()];
        cells.extend(row.values.iter().map(|v| v.map_or_else(String::new, |v| v.to_string())));
        cells.push(format!("{:.3}", row.seconds));
        Ok(self.write(&cells)?)
    }

    fn after_fit(&mut self, _: &mut Training) -> Step {
        self.file = None;
        Ok(())
    }
}
