//! The terminal of a dashboard: its screen and its keys.

use super::screen::View;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event},
};
use std::{fmt, io, time::Duration};

/// A terminal that shows a dashboard.
pub(super) trait Place: fmt::Debug + Send {
    fn draw(&mut self, view: &View<'_>) -> io::Result<()>;

    /// Returns the next event since the last call; `None` if there is none.
    fn event(&mut self) -> io::Result<Option<Event>>;

    /// Restores the terminal.
    fn close(&mut self) -> io::Result<()>;
}

/// The terminal of standard output. It is restored after a panic too.
#[derive(derive_more::Debug)]
pub(super) struct WholeTerminal(#[debug(skip)] DefaultTerminal);

impl WholeTerminal {
    pub(super) fn take() -> io::Result<Box<dyn Place>> {
        Ok(Box::new(Self(ratatui::try_init()?)))
    }
}

impl Place for WholeTerminal {
    fn draw(&mut self, view: &View<'_>) -> io::Result<()> {
        self.0.draw(|frame| view.draw(frame)).map(drop)
    }

    fn event(&mut self) -> io::Result<Option<Event>> {
        if event::poll(Duration::ZERO)? { event::read().map(Some) } else { Ok(None) }
    }

    fn close(&mut self) -> io::Result<()> {
        ratatui::try_restore()
    }
}
