//! A training on the whole terminal.

mod screen;

use crate::{
    error::Error,
    learner::{Callback, Outcome, Step, StopHandle, Training, order},
    sample::Batch,
};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use screen::View;
use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

/// Shows a training on the whole terminal while it runs: how far it is, its rate and the time left, the
/// curve of its losses, the table of epochs, and what callbacks have to say. Needs the feature
/// `dashboard`.
///
/// `q`, Esc or Ctrl-C stops the training between two batches, with the weights of the last step, and
/// `fit` returns `Ok`; the [`StopHandle`] that was given says that it was asked for. When a fit ends, in
/// whatever way, the terminal is as it was.
///
/// It takes the place of the bars and of the table, so the learner should be
/// [`quiet`](crate::learner::Learner::quiet). Where standard output is no terminal it shows nothing.
///
/// ```no_run
/// # fn f(learn: finetune::learner::Learner) -> finetune::Result<()> {
/// use finetune::callback::Dashboard;
/// let stop = learn.stop_handle();
/// let mut learn = learn.quiet().callback(Dashboard::new(stop.clone()));
/// learn.fine_tune(5)?;
/// if stop.requested() {
///     learn.save("stopped")?;
/// }
/// # Ok(()) }
/// ```
#[derive(derive_more::Debug)]
pub struct Dashboard {
    stop: StopHandle,
    #[debug(skip)]
    terminal: Option<DefaultTerminal>,
    /// The fit, and how much of it was done when it began.
    fit: Since,
    /// The part of the epoch, in batches.
    part: Since,
    drawn: Instant,
}

/// When something began, how much was done then, and how much is done now.
#[derive(Debug, Clone, Copy)]
struct Since {
    began: Instant,
    from: f64,
    now: f64,
}

/// The least time between two pictures.
const EVERY: Duration = Duration::from_millis(100);

impl Since {
    fn new(from: f64) -> Self {
        Self { began: Instant::now(), from, now: from }
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// How much is done in a second; 0 before anything is.
    fn rate(&self) -> f64 {
        (self.now - self.from) / self.seconds().max(1e-9)
    }

    /// The seconds until `all` is done, once that can be told.
    fn left(&self, all: f64) -> Option<f64> {
        let rate = self.rate();
        (rate > 0.0).then(|| (all - self.now).max(0.0) / rate)
    }
}

impl Dashboard {
    /// A dashboard whose stop key uses this handle, which is that of the learner.
    #[must_use]
    pub fn new(stop: StopHandle) -> Self {
        let since = Since::new(0.0);
        Self { stop, terminal: None, fit: since, part: since, drawn: Instant::now() }
    }

    /// How much of the fit is done, from 0 to 1, with `batches` of this part.
    fn done(t: &Training, batches: usize) -> f64 {
        let within = if t.at.training() { batches as f64 / t.at.batches.max(1) as f64 } else { 1.0 };
        (t.at.epoch as f64 + within) / t.at.epochs.max(1) as f64
    }

    fn begin_part(&mut self, t: &Training, from: usize) -> Step {
        self.part = Since::new(from as f64);
        self.draw(t)
    }

    fn draw(&mut self, t: &Training) -> Step {
        let Some(terminal) = &mut self.terminal else { return Ok(()) };
        let view = View {
            history: &t.history,
            at: t.at,
            done: self.part.now as usize,
            rate: self.part.rate(),
            left: self.fit.left(1.0),
            fit: self.fit.now,
            seconds: self.fit.seconds(),
            waits: t.waiting(),
            stopping: self.stop.requested(),
        };
        terminal.draw(|frame| view.draw(frame)).map_err(Error::io("the dashboard"))?;
        self.drawn = Instant::now();
        Ok(())
    }

    /// Whether a key that stops was pressed since the last time.
    fn asked(&self) -> io::Result<bool> {
        let mut asked = false;
        while self.terminal.is_some() && event::poll(Duration::ZERO)? {
            asked |= matches!(event::read()?, Event::Key(key) if stops(key));
        }
        Ok(asked)
    }

    fn close(&mut self) -> io::Result<()> {
        match self.terminal.take() {
            Some(_) => ratatui::try_restore(),
            None => Ok(()),
        }
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
        // There is nobody left to tell.
        let _ = self.close();
    }
}

impl Callback for Dashboard {
    fn order(&self) -> i32 {
        order::SCHEDULER
    }

    fn in_fits_only(&self) -> bool {
        true
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        self.fit = Since::new(Self::done(t, t.at.batch));
        self.part = Since::new(0.0);
        if self.terminal.is_none() && io::stdout().is_terminal() {
            self.terminal = Some(ratatui::try_init().map_err(Error::io("the dashboard"))?);
        }
        self.draw(t)
    }

    fn before_train(&mut self, t: &mut Training) -> Step {
        self.begin_part(t, t.at.batch)
    }

    fn before_validate(&mut self, t: &mut Training) -> Step {
        self.begin_part(t, 0)
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        self.part.now += 1.0;
        self.fit.now = Self::done(t, self.part.now as usize);
        if self.asked().map_err(Error::io("the keyboard"))? {
            self.stop.stop();
            return self.draw(t);
        }
        if self.drawn.elapsed() < EVERY { Ok(()) } else { self.draw(t) }
    }

    fn after_epoch(&mut self, t: &mut Training) -> Step {
        self.draw(t)
    }

    fn after_fit(&mut self, _: &mut Training) -> Step {
        Ok(self.close().map_err(Error::io("the dashboard"))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // A tenth in ten seconds, and four tenths to go.
        fit.now = 0.6;
        let left = fit.left(1.0).unwrap();
        assert!((left - 40.0).abs() < 1.0, "{left}");
    }
}
