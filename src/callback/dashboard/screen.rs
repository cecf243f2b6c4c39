//! The layout of the screen.

use crate::learner::{History, Position, time, waits};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    symbols::Marker,
    text::Line,
    widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Row, Table},
};

/// The data of a screen.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) history: &'a History,
    pub(super) at: Position,
    /// The number of completed batches of this part.
    pub(super) done: usize,
    /// Batches per second in this part.
    pub(super) rate: f64,
    /// The estimated remaining seconds of the fit; `None` at first.
    pub(super) left: Option<f64>,
    /// The progress of the fit, from 0 to 1.
    pub(super) fit: f64,
    /// The duration of the fit so far.
    pub(super) seconds: f64,
    /// The fraction of time in which training waits for data.
    pub(super) waits: f64,
    pub(super) stopping: bool,
}

const TRAIN: Color = Color::Cyan;
const VALID: Color = Color::Yellow;
/// The maximum number of points of a curve: more than the dots in a row of any terminal.
const POINTS: usize = 1000;
/// The width of a column of the table.
const COLUMN: u16 = 12;

impl View<'_> {
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let most = (frame.area().height / 3).max(2);
        let rows = self.history.rows.len().saturating_add(1).clamp(2, most.into()) as u16;
        let heights = [
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(rows),
            Constraint::Length(1),
        ];
        let [head, part, fit, losses, table, keys] = Layout::vertical(heights).areas(frame.area());
        frame.render_widget(self.head(), head);
        let of = self.at.batches.max(1);
        let name = if self.at.is_training() { "train" } else { "valid" };
        let share = self.done as f64 / of as f64;
        gauge(
            frame,
            part,
            TRAIN,
            share,
            format!("{name} {}/{}  {:.2} batches/s", self.done, self.at.batches, self.rate),
        );
        gauge(frame, fit, VALID, self.fit, format!("fit {:.0} %", self.fit * 100.0));
        self.losses(frame, losses);
        self.table(frame, table);
        frame.render_widget(self.keys(), keys);
    }

    fn head(&self) -> Line<'_> {
        let left = self.left.map_or_else(|| "?".to_owned(), time);
        let mut parts = vec![
            format!("epoch {} of {}", self.at.epoch + 1, self.at.epochs),
            format!("{} elapsed", time(self.seconds)),
            format!("{left} left"),
        ];
        parts.extend(self.history.losses.last().map(|loss| format!("loss {loss:.4}")));
        parts.extend(self.history.lrs.last().map(|lr| format!("lr {lr:.2e}")));
        parts.extend(waits(self.waits));
        Line::from(parts.join("  ")).style(Modifier::BOLD)
    }

    fn keys(&self) -> Line<'_> {
        if self.stopping {
            return Line::from("stopping after this batch").style(Color::Red);
        }
        let said = self.history.messages.last().map(|m| format!("  {m}")).unwrap_or_default();
        Line::from(format!("q: stop after this batch{said}"))
    }

    fn losses(&self, frame: &mut Frame<'_>, area: Rect) {
        let all = &self.history.losses;
        let every = all.len().div_ceil(POINTS).max(1);
        let finite = |p: &(f64, f64)| p.1.is_finite();
        let mut points = all.iter().enumerate().map(|(i, loss)| (i as f64 + 1.0, *loss));
        let mut train: Vec<_> = points.clone().step_by(every).filter(finite).collect();
        train.extend(points.next_back().filter(finite));
        let valid = self.history.column("valid_loss").into_iter().zip(&self.history.iters);
        let valid: Vec<_> =
            valid.filter_map(|(loss, at)| Some((*at as f64, loss?))).filter(finite).collect();
        let block = Block::bordered().title(" loss ");
        let both = || train.iter().chain(&valid);
        let low = both().map(|p| p.1).fold(f64::INFINITY, f64::min);
        let high = both().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
        if low > high {
            frame.render_widget(block, area);
            return;
        }
        let room = ((high - low) * 0.05).max(1e-3);
        let (low, high) = (low - room, high + room);
        let end = both().map(|p| p.0).fold(2.0, f64::max);
        let curve = |name: &'static str, color, points| {
            let line = Dataset::default().name(name).style(Style::new().fg(color)).data(points);
            line.marker(Marker::Braille).graph_type(GraphType::Line)
        };
        let mut curves = vec![curve("train", TRAIN, &train)];
        if !valid.is_empty() {
            curves.push(curve("valid", VALID, &valid));
        }
        let levels = [low, f64::midpoint(low, high), high].map(|v| format!("{v:.3}"));
        let steps = ["1".to_owned(), format!("{end:.0} steps")];
        let chart = Chart::new(curves)
            .block(block)
            .hidden_legend_constraints((Constraint::Ratio(1, 2), Constraint::Ratio(1, 2)))
            .x_axis(Axis::default().bounds([1.0, end]).labels(steps))
            .y_axis(Axis::default().bounds([low, high]).labels(levels));
        frame.render_widget(chart, area);
    }

    /// Draws the last epochs that fit.
    fn table(&self, frame: &mut Frame<'_>, area: Rect) {
        let head = self.history.head();
        let room = usize::from(area.height.saturating_sub(1));
        let rows = &self.history.rows;
        let rows = rows[rows.len().saturating_sub(room)..].iter().map(|row| Row::new(row.cells()));
        let length = |name: &String| u16::try_from(name.len()).unwrap_or(u16::MAX);
        let width = |name: &String| Constraint::Length(COLUMN.max(length(name)));
        let widths: Vec<_> = head.iter().map(width).collect();
        let table = Table::new(rows, widths);
        frame.render_widget(table.header(Row::new(head).style(Modifier::BOLD)), area);
    }
}

fn gauge(frame: &mut Frame<'_>, area: Rect, color: Color, share: f64, label: String) {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let style = Style::new().fg(color).bg(Color::Black);
    frame.render_widget(Gauge::default().ratio(share).label(label).gauge_style(style), area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{learner, sample::Split};
    use ratatui::{Terminal, backend::TestBackend};

    fn drawn(view: &View<'_>, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn history() -> History {
        let mut h = History::default();
        h.names = ["train_loss", "valid_loss", "accuracy"].map(str::to_owned).to_vec();
        let row = |epoch, loss| learner::EpochRow {
            epoch,
            values: vec![Some(loss), Some(loss * 0.9), None],
            seconds: 61.0,
        };
        h.rows = vec![row(0, 1.5), row(1, 1.0)];
        h.losses = (0..5000).map(|i| 2.0 * (-f64::from(i) / 2000.0).exp() + 0.2).collect();
        h.losses.push(f64::NAN);
        h.lrs = vec![1e-3];
        h.iters = vec![2000, 4000];
        h
    }

    fn view(history: &History) -> View<'_> {
        let at = Position {
            split: Split::Train,
            epoch: 2,
            epochs: 4,
            batch: 999,
            batches: 2000,
            fit_batches: 4999,
            step: 4999,
            pass: 2,
        };
        View {
            history,
            at,
            done: 1000,
            rate: 12.5,
            left: Some(3725.0),
            fit: 0.625,
            seconds: 200.0,
            waits: 0.3,
            stopping: false,
        }
    }

    #[test]
    fn everything_is_on_the_screen() {
        let history = history();
        insta::assert_snapshot!(drawn(&view(&history), (90, 24)));
        let stopping = View { stopping: true, left: None, ..view(&history) };
        let text = drawn(&stopping, (90, 24));
        assert!(text.contains("stopping after this batch") && text.contains("? left"), "{text}");
    }

    #[test]
    fn any_size_and_any_history_are_drawn() {
        let history = history();
        let nothing = History::default();
        let mut long = History::default();
        long.rows = vec![learner::EpochRow::default(); usize::from(u16::MAX)];
        for size in [(1, 1), (5, 3), (20, 6), (300, 100)] {
            drawn(&view(&history), size);
            drawn(&View { fit: f64::NAN, done: 9999, ..view(&nothing) }, size);
            drawn(&view(&long), size);
        }
    }
}
