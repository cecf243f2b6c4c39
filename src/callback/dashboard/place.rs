//! Where a dashboard is drawn, and where its keys come from.

use super::screen::View;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event},
};
use std::{fmt, io, time::Duration};

/// Something that shows a dashboard.
pub(super) trait Place: fmt::Debug + Send {
    fn draw(&mut self, view: &View<'_>) -> io::Result<()>;

    /// What has happened since the last time, one by one; none where that was all.
    fn event(&mut self) -> io::Result<Option<Event>>;

    /// Gives it back as it was.
    fn close(&mut self) -> io::Result<()>;
}

/// The terminal that standard output is. It is given back after a panic too.
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
