//! A full-screen view of a training.

mod place;
mod screen;

use crate::{
    error::{Error, Result},
    learner::{Callback, Outcome, Progress, Step, Training, order},
    sample::Batch,
};
use place::{Place, WholeTerminal};
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use screen::View;
use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

/// Shows a training as a full-screen terminal view: progress, rate and remaining time, the loss curve, the
/// table of epochs, and messages of callbacks. Needs the feature `dashboard`.
///
/// `q`, Esc or Ctrl-C stops the training between two batches, with the weights of the last step, and `fit`
/// returns `Ok`. The learner's [`StopHandle`](crate::learner::StopHandle) then reports the request and must
/// be [reset](crate::learner::StopHandle::reset) before the next fit. When a fit ends, for any reason, the
/// terminal is restored and the table of epochs is printed.
///
/// It replaces the progress bars and the table, so the learner should be
/// [`quiet`](crate::learner::Learner::quiet). If standard output is not a terminal, it behaves like
/// [`Progress`].
///
/// ```no_run
/// # fn f(learn: finetune::learner::Learner) -> finetune::Result<()> {
/// use finetune::callback::Dashboard;
/// let mut learn = learn.quiet().callback(Dashboard::new());
/// learn.fine_tune(5)?;
/// if learn.stop_handle().is_requested() {
///     learn.save("stopped")?;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Dashboard {
    place: Option<Box<dyn Place>>,
    /// Prints the table at the end, and shows progress if the output is not a terminal.
    plain: Progress,
    /// The progress of the fit, from 0 to 1.
    fit: Since,
    /// The progress of the part of the epoch, in batches.
    part: Since,
    drawn: Instant,
}

/// The start time of a task, its progress then, and its progress now.
#[derive(Debug, Clone, Copy)]
struct Since {
    began: Instant,
    from: f64,
    now: f64,
}

/// The minimum time between two frames.
const EVERY: Duration = Duration::from_millis(100);

impl Since {
    fn new(from: f64) -> Self {
        Self { began: Instant::now(), from, now: from }
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Returns the progress per second; 0 at first.
    fn rate(&self) -> f64 {
        (self.now - self.from) / self.seconds().max(1e-9)
    }

    /// Returns the estimated seconds until `all` is done; `None` at first.
    fn left(&self, all: f64) -> Option<f64> {
        let rate = self.rate();
        (rate > 0.0).then(|| (all - self.now).max(0.0) / rate)
    }
}

impl Default for Dashboard {
    fn default() -> Self {
        Self::new()
    }
}

impl Dashboard {
    /// Returns a dashboard on standard output.
    #[must_use]
    pub fn new() -> Self {
        let since = Since::new(0.0);
        let plain = Progress::new();
        Self { place: None, plain, fit: since, part: since, drawn: Instant::now() }
    }

    /// Returns the progress of the fit, from 0 to 1, after `batches` of this part.
    fn done(t: &Training, batches: f64) -> f64 {
        let within = if t.at.is_training() { batches / t.at.batches.max(1) as f64 } else { 1.0 };
        (t.at.epoch as f64 + within) / t.at.epochs.max(1) as f64
    }

    fn begin_part(&mut self, t: &Training, from: usize) -> Result<()> {
        self.part = Since::new(from as f64);
        // Work completed before this run, or skipped, must not count towards its rate.
        let before = (Self::done(t, self.part.now) - self.fit.now).max(0.0);
        self.fit.from += before;
        self.fit.now += before;
        self.draw(t)
    }

    fn draw(&mut self, t: &Training) -> Result<()> {
        let Some(place) = &mut self.place else { return Ok(()) };
        let view = View {
            history: &t.history,
            at: t.at,
            done: self.part.now as usize,
            rate: self.part.rate(),
            left: self.fit.left(1.0),
            fit: self.fit.now,
            seconds: self.fit.seconds(),
            waits: t.data_wait_fraction(),
            stopping: t.stop_handle().is_requested(),
        };
        place.draw(&view).map_err(Error::io("the dashboard"))?;
        self.drawn = Instant::now();
        Ok(())
    }

    /// Returns true if a stop key was pressed since the last call.
    fn asked(&mut self) -> io::Result<bool> {
        let mut asked = false;
        while let Some(event) = self.place.as_mut().map_or(Ok(None), |p| p.event())? {
            asked |= matches!(event, Event::Key(key) if stops(key));
        }
        Ok(asked)
    }

    /// Restores the terminal. Returns true if there was one.
    fn close(&mut self) -> io::Result<bool> {
        self.place.take().map_or(Ok(false), |mut place| place.close().map(|()| true))
    }
}

fn stops(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Esc => true,
            KeyCode::Char('q' | 'Q') => !control,
            KeyCode::Char('c' | 'C') => control,
            _ => false,
        }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        // No caller is left to receive the error.
        let _ = self.close();
    }
}

impl Callback for Dashboard {
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
        if self.place.is_none() && io::stdout().is_terminal() {
            self.place = Some(WholeTerminal::take().map_err(Error::io("the dashboard"))?);
        }
        if self.place.is_none() {
            return self.plain.before_fit(t);
        }
        self.fit = Since::new(t.at.epoch as f64 / t.at.epochs.max(1) as f64);
        Ok(())
    }

    fn before_train(&mut self, t: &mut Training) -> Step {
        match self.place {
            Some(_) => Ok(self.begin_part(t, t.at.batch)?),
            None => self.plain.before_train(t),
        }
    }

    fn before_validate(&mut self, t: &mut Training) -> Step {
        match self.place {
            Some(_) => Ok(self.begin_part(t, 0)?),
            None => self.plain.before_validate(t),
        }
    }

    fn after_batch(&mut self, t: &mut Training, batch: &Batch, outcome: &Outcome) -> Step {
        if self.place.is_none() {
            return self.plain.after_batch(t, batch, outcome);
        }
        self.part.now += 1.0;
        self.fit.now = Self::done(t, self.part.now);
        let asked = self.asked().map_err(Error::io("the keyboard"))?;
        if asked {
            t.stop_handle().stop();
        }
        if asked || self.drawn.elapsed() >= EVERY {
            self.draw(t)?;
        }
        Ok(())
    }

    fn after_train(&mut self, t: &mut Training) -> Step {
        if self.place.is_none() { self.plain.after_train(t) } else { Ok(()) }
    }

    fn after_validate(&mut self, t: &mut Training) -> Step {
        if self.place.is_none() { self.plain.after_validate(t) } else { Ok(()) }
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        match self.place {
            Some(_) => Ok(self.draw(t)?),
            None => self.plain.after_epoch(t),
        }
    }

    fn after_fit(&mut self, t: &mut Training) -> Step {
        match self.close().map_err(Error::io("the dashboard"))? {
            true => Ok(self.plain.whole(t)?),
            false => self.plain.after_fit(t),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::{Arrays, DataLoaders, LoaderOptions},
        learner::Learner,
        loss::CrossEntropy,
        model::Model,
        sample::Task,
    };
    use ratatui::{Terminal, backend::TestBackend};
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };
    use tch::{Device, Kind, Tensor, nn};

    #[test]
    fn some_keys_stop_and_others_do_not() {
        let key = |code, modifiers| stops(KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(key(KeyCode::Esc, KeyModifiers::NONE));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
        assert!(!key(KeyCode::Enter, KeyModifiers::NONE));
        let released = KeyEventKind::Release;
        let up = KeyEvent::new_with_kind(KeyCode::Esc, KeyModifiers::NONE, released);
        assert!(!stops(up));
    }

    #[test]
    fn the_time_left_is_known_once_something_is_done() {
        let began = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let mut fit = Since { began, from: 0.5, now: 0.5 };
        assert_eq!(fit.left(1.0), None);
        // A tenth in ten seconds, and four tenths left.
        fit.now = 0.6;
        let left = fit.left(1.0).unwrap();
        assert!((left - 40.0).abs() < 1.0, "{left}");
    }

    /// All frames drawn to a test terminal, and whether it was restored.
    #[derive(Debug, Default)]
    struct Seen {
        pictures: Vec<String>,
        closed: usize,
    }

    /// A test terminal on which `key` is pressed at the `after`-th event query.
    #[derive(Debug)]
    struct Script {
        terminal: Terminal<TestBackend>,
        seen: Arc<Mutex<Seen>>,
        polls: usize,
        after: usize,
        key: KeyCode,
    }

    impl Place for Script {
        fn draw(&mut self, view: &View<'_>) -> io::Result<()> {
            let _ = self.terminal.draw(|frame| view.draw(frame));
            self.seen.lock().unwrap().pictures.push(self.terminal.backend().to_string());
            Ok(())
        }

        fn event(&mut self) -> io::Result<Option<Event>> {
            self.polls += 1;
            let pressed = || Event::Key(KeyEvent::new(self.key, KeyModifiers::NONE));
            Ok((self.polls == self.after).then(pressed))
        }

        fn close(&mut self) -> io::Result<()> {
            self.seen.lock().unwrap().closed += 1;
            Ok(())
        }
    }

    #[derive(Debug, Clone, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);

    impl Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Trains a linear layer with two inputs, 4 batches per epoch, with a dashboard that receives `key`.
    /// Returns the learner, the pictures of the dashboard and the printed table.
    fn fitted(epochs: usize, after: usize, key: KeyCode) -> (Learner, Arc<Mutex<Seen>>, String) {
        let task = Task::Category { vocab: ["no".into(), "yes".into()].into() };
        let x = (Tensor::arange(32, (Kind::Float, Device::Cpu)) * 12.9898).sin().view([16, 2]);
        let y = x.sum_dim_intlist([1_i64].as_slice(), false, Kind::Float).gt(0.0);
        let rows = Arrays::from_tensors(&x, &y.to_kind(Kind::Int64), task).unwrap();
        let options = LoaderOptions::new().bs(4).device(Device::Cpu);
        let dls = DataLoaders::from_arrays(rows.clone(), rows, options).unwrap();
        let vs = nn::VarStore::new(Device::Cpu);
        let net =
            nn::seq_t().add(nn::linear(vs.root() / "last", 2, 2, nn::LinearConfig::default()));
        let model = Model::from_module(vs, net).unwrap();
        let (seen, table) = (Arc::<Mutex<Seen>>::default(), Text::default());
        let terminal = Terminal::new(TestBackend::new(80, 20)).unwrap();
        let script = Script { terminal, seen: seen.clone(), polls: 0, after, key };
        let dashboard = Dashboard {
            place: Some(Box::new(script)),
            plain: Progress::to_writer(table.clone()),
            ..Dashboard::new()
        };
        let learn = Learner::new(dls, model, CrossEntropy::new()).unwrap().quiet();
        let mut learn = learn.callback(dashboard);
        learn.fit(epochs, 1e-2).unwrap();
        let table = String::from_utf8(table.0.lock().unwrap().clone()).unwrap();
        (learn, seen, table)
    }

    #[test]
    fn a_fit_that_nobody_stops_is_shown_to_its_end() {
        let (learn, seen, table) = fitted(3, 5, KeyCode::Enter);
        assert_eq!(learn.recorder().rows.len(), 3);
        assert!(!learn.stop_handle().is_requested());
        let seen = seen.lock().unwrap();
        assert_eq!(seen.closed, 1);
        let first = &seen.pictures[0];
        assert!(first.contains("epoch 1 of 3") && first.contains("train 0/4"), "{first}");
        let last = seen.pictures.last().unwrap();
        assert!(last.contains("epoch 3 of 3") && last.contains("valid 4/4"), "{last}");
        assert!(last.contains("fit 100 %"), "{last}");
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.starts_with("epoch ") && table.contains("valid_loss"), "{table}");
    }

    #[test]
    fn a_key_stops_a_fit_between_two_batches() {
        // Each batch queries once if there is no event.
        let (mut learn, seen, table) = fitted(3, 2, KeyCode::Char('q'));
        assert_eq!(learn.recorder().losses.len(), 2, "the key came after the second batch");
        assert!(learn.stop_handle().is_requested());
        assert!(table.contains("stopped on request"), "{table}");
        let seen = seen.lock().unwrap();
        assert_eq!(seen.closed, 1);
        let last = seen.pictures.last().unwrap();
        assert!(last.contains("stopping after this batch"), "{last}");
        // Training can continue.
        learn.stop_handle().reset();
        learn.fit(1, 1e-2).unwrap();
        assert_eq!(learn.recorder().rows.len(), 1);
    }
}
