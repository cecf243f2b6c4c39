use super::Monitor;
use crate::{
    error::{Error, Result},
    learner::{Callback, Step, Training, order},
};
use tch::Tensor;

/// The owner of the monitor's note, and of the tensors, in a checkpoint.
const OWNER: &str = "SaveBest";
/// The owner of the note of the best epoch.
const EPOCH: &str = "SaveBest epoch";
/// The prefixes of the names of tensors in a checkpoint.
const WEIGHTS: &str = "weights";
const OPT: &str = "opt";

/// Keeps the weights of the best epoch and restores them at the end of the fit: fastai's
/// [`SaveModelCallback`](https://docs.fast.ai/callback.tracker.html#savemodelcallback). A fit that fails
/// ends with the best weights too.
///
/// They are kept in memory. With [`SaveBest::file`], each improvement is also written to a file.
#[derive(Debug)]
pub struct SaveBest {
    monitor: Monitor,
    file: Option<String>,
    every: Option<usize>,
    at_end: bool,
    with_opt: bool,
    began: bool,
    kept: Option<Kept>,
    epoch: Option<usize>,
}

/// Named tensors.
type State = Vec<(String, Tensor)>;

/// The best epoch so far.
#[derive(Debug)]
struct Kept {
    epoch: usize,
    weights: State,
    opt: Option<State>,
}

impl SaveBest {
    /// Creates a callback that monitors `valid_loss`.
    #[must_use]
    pub fn new() -> Self {
        Self {
            monitor: Monitor::new("valid_loss"),
            file: None,
            every: None,
            at_end: false,
            with_opt: false,
            began: false,
            kept: None,
            epoch: None,
        }
    }

    /// Sets the value to monitor: the name of a column, or a [`Monitor`] with options. Default:
    /// `valid_loss`.
    #[must_use]
    pub fn monitor(mut self, monitor: impl Into<Monitor>) -> Self {
        self.monitor = monitor.into();
        self
    }

    /// Also writes a file, with a name for [`Learner::load`](crate::learner::Learner::load). Default: no
    /// file.
    #[must_use]
    pub fn file(mut self, name: impl Into<String>) -> Self {
        self.file = Some(name.into());
        self
    }

    /// Writes a file every `epochs` epochs instead, including the first one, as `NAME_EPOCH`, and keeps the
    /// last weights. Requires [`SaveBest::file`]. Default: only improvements.
    #[must_use]
    pub fn every_epoch(mut self, epochs: usize) -> Self {
        self.every = Some(epochs);
        self
    }

    /// If true, keeps the last weights and writes them to the file at the end, replacing the best ones.
    /// Requires [`SaveBest::file`]. Default: false.
    #[must_use]
    pub fn at_end(mut self, yes: bool) -> Self {
        self.at_end = yes;
        self
    }

    /// If true, the optimizer's state is kept with the weights. Default: false.
    #[must_use]
    pub fn with_opt(mut self, yes: bool) -> Self {
        self.with_opt = yes;
        self
    }

    /// Returns the best value of the last fit.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.monitor.best()
    }

    /// Returns the epoch whose weights were restored at the end of the last fit; `None` if it ended with
    /// its last weights. If the monitor does not reset, it may be an epoch of an earlier fit.
    #[must_use]
    pub fn epoch(&self) -> Option<usize> {
        self.epoch
    }

    /// Returns the best epoch from before the fit was resumed.
    fn restored(&self, t: &Training) -> Option<Kept> {
        let all = t.tensors.get(&self.monitor.key(OWNER))?;
        let below = |prefix: &str| -> State {
            let of = |(n, w): &(String, Tensor)| {
                Some((n.strip_prefix(prefix)?.strip_prefix('.')?.to_owned(), w.shallow_clone()))
            };
            all.iter().filter_map(of).collect()
        };
        let epoch = t.notes.get(&self.monitor.key(EPOCH))?.as_u64()? as usize;
        let opt = self.with_opt.then(|| below(OPT));
        Some(Kept { epoch, weights: below(WEIGHTS), opt })
    }

    fn write(&self, t: &Training, name: &str) -> Result<()> {
        t.save(name, self.with_opt)?;
        Ok(())
    }

    fn checked(&self) -> Result<()> {
        let wrong = |why| Err(Error::config("SaveBest", why));
        match (self.every, self.at_end, &self.file) {
            (Some(0), ..) => wrong("`every_epoch` is 0; it must be 1 or more"),
            (Some(_), true, _) => wrong("`every_epoch` and `at_end` exclude each other"),
            (Some(_), _, None) | (_, true, None) => {
                wrong("`every_epoch` and `at_end` write files: set a name with `file`")
            }
            _ => Ok(()),
        }
    }
}

impl Default for SaveBest {
    fn default() -> Self {
        Self::new()
    }
}

fn copied(state: State) -> State {
    state.into_iter().map(|(n, w)| (n, w.detach().copy())).collect()
}

impl Callback for SaveBest {
    fn fingerprint(&self) -> Option<String> {
        // The callback affects the result only if it decides which weights the fit ends with.
        let ends = self.every.is_none() && !self.at_end;
        ends.then(|| format!("SaveBest({})", self.monitor.description()))
    }

    fn exclusive(&self) -> Option<String> {
        self.every.is_none().then(|| self.monitor.exclusive(OWNER))
    }

    fn order(&self) -> i32 {
        order::SAVE_BEST
    }

    fn skip_evaluation(&self) -> bool {
        true
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        (self.epoch, self.began) = (None, false);
        if self.monitor.resets() || t.is_resumed() {
            self.kept = None;
        }
        self.checked()?;
        self.monitor.start(t, OWNER)?;
        if t.is_resumed() {
            self.kept = self.restored(t);
        }
        self.began = true;
        Ok(())
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        let epoch = t.at.epoch;
        if let (Some(every), Some(name)) = (self.every, &self.file) {
            if epoch.is_multiple_of(every) {
                self.write(t, &format!("{name}_{epoch}"))?;
            }
            return Ok(());
        }
        if self.monitor.improved(t) {
            let opt = self.with_opt.then(|| copied(t.opt.state()));
            self.kept = Some(Kept { epoch, weights: copied(t.model.state_dict()), opt });
            if let Some(name) = &self.file {
                self.write(t, name)?;
            }
        }
        Ok(self.monitor.note(t, OWNER)?)
    }

    fn before_checkpoint(&mut self, t: &mut Training) -> Step {
        let Some(Kept { epoch, weights, opt }) = &self.kept else { return Ok(()) };
        let named = |prefix: &str, state: &State| {
            state
                .iter()
                .map(|(n, w)| (format!("{prefix}.{n}"), w.shallow_clone()))
                .collect::<Vec<_>>()
        };
        let mut all = named(WEIGHTS, weights);
        all.extend(opt.iter().flat_map(|opt| named(OPT, opt)));
        t.tensors.insert(self.monitor.key(OWNER), all);
        t.notes.insert(self.monitor.key(EPOCH), (*epoch).into());
        Ok(())
    }

    fn after_fit(&mut self, t: &mut Training) -> Step {
        if !self.began {
            return Ok(());
        }
        if self.at_end {
            if let Some(name) = &self.file {
                self.write(t, name)?;
            }
            return Ok(());
        }
        if self.every.is_none()
            && self.kept.is_none()
            && self.monitor.waited() > 0
            && !self.monitor.best().is_finite()
        {
            t.say(format!(
                "there is no best epoch: {} was always NaN; the last weights are kept",
                self.monitor.column()
            ));
        }
        if let Some(Kept { epoch, weights, opt }) = &self.kept {
            t.model.load_state_dict(weights)?;
            if let Some(state) = opt {
                t.opt.load_state(state)?;
            }
            self.epoch = Some(*epoch);
            // If the monitor does not reset, a later fit may still end with the kept weights.
            if self.monitor.resets() {
                self.kept = None;
            }
        }
        Ok(())
    }
}
