use super::event_file::EventFile;
use crate::{
    error::Error,
    learner::{Callback, Outcome, Step, Training, order},
    sample::Batch,
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// Writes losses, hyperparameters and metrics for [TensorBoard](https://www.tensorflow.org/tensorboard):
/// fastai's `TensorBoardCallback`. Each fit writes a file in the folder, which `tensorboard --logdir FOLDER`
/// shows, also during the fit.
///
/// After each training batch: `train/loss` (smoothed), `train/raw_loss`, and `opt/lr_N` and `opt/mom_N` of
/// each parameter group; after each epoch, every column of the table as `epoch/NAME`. The step is the
/// number of training batches of all fits.
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    every: u64,
    file: Option<EventFile>,
}

impl TensorBoard {
    /// Creates a callback that writes to a folder, one file for each fit.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), every: 1, file: None }
    }

    /// Sets the number of training batches between records. Default: 1.
    #[must_use]
    pub fn every(mut self, batches: u64) -> Self {
        self.every = batches;
        self
    }
}

/// The position of a fit's events at a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    file: String,
    bytes: u64,
}

impl TensorBoard {
    /// Returns the key of the note in a checkpoint.
    fn key(&self) -> String {
        format!("TensorBoard.{}", self.folder.display())
    }
}

impl Callback for TensorBoard {
    fn exclusive(&self) -> Option<String> {
        Some(format!("writes event files in {}", self.folder.display()))
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
        if self.every == 0 {
            return Err(Error::config("every", "is 0; it must be 1 or more").into());
        }
        let place: Option<Place> = match t.notes.get(&self.key()) {
            Some(note) if t.is_resumed() => {
                Some(serde_json::from_value(note.clone()).map_err(Error::other)?)
            }
            _ => None,
        };
        self.file = Some(match place {
            // Events after the checkpoint are written again.
            Some(Place { file, bytes }) => {
                // A path would lead out of the folder.
                if Path::new(&file).file_name() != Some(OsStr::new(&file)) {
                    let why = format!("`{file}` in the checkpoint is not the name of a file");
                    return Err(Error::mismatch("TensorBoard", why).into());
                }
                match EventFile::resume(&self.folder.join(&file), bytes)? {
                    Some(events) => events,
                    None => {
                        t.say(format!(
                        "{file} is shorter than at the time of the checkpoint: events continue in a new file"
                    ));
                        EventFile::create(&self.folder, None)?
                    }
                }
            }
            None => EventFile::create(&self.folder, t.run_name().map(|run| (run, t.at.step)))?,
        });
        Ok(())
    }

    fn before_checkpoint(&mut self, t: &mut Training) -> Step {
        let key = self.key();
        if let Some(file) = &mut self.file {
            let (name, bytes) = file.position()?;
            let place = Place { file: name, bytes };
            let note = serde_json::to_value(place).map_err(Error::other)?;
            t.notes.insert(key, note);
        }
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        let Some(file) = self.file.as_mut().filter(|_| t.at.is_training()) else { return Ok(()) };
        if !t.at.step.is_multiple_of(self.every) {
            return Ok(());
        }
        let last = |list: &[f64]| list.last().copied();
        let mut values: Vec<(String, f64)> = vec![];
        values.extend(last(&t.history.losses).map(|l| ("train/loss".to_owned(), l)));
        values.extend(last(&t.history.raw_losses).map(|l| ("train/raw_loss".to_owned(), l)));
        for (i, h) in t.opt.hypers().iter().enumerate() {
            values.push((format!("opt/lr_{i}"), h.lr));
            values.push((format!("opt/mom_{i}"), h.mom));
        }
        let values: Vec<_> = values.iter().map(|(name, v)| (name.as_str(), *v)).collect();
        Ok(file.scalars(t.at.step, &values)?)
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        let (Some(file), Some(row)) = (&mut self.file, t.history.rows.last()) else {
            return Ok(());
        };
        let named = t.history.names.iter().zip(&row.values);
        let values: Vec<(String, f64)> =
            named.filter_map(|(name, v)| Some((format!("epoch/{name}"), (*v)?))).collect();
        let values: Vec<_> = values.iter().map(|(name, v)| (name.as_str(), *v)).collect();
        file.scalars(t.at.step, &values)?;
        Ok(file.flush()?)
    }

    fn after_fit(&mut self, _: &mut Training) -> Step {
        match self.file.take() {
            Some(mut file) => Ok(file.flush()?),
            None => Ok(()),
        }
    }
}
