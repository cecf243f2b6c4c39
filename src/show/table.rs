//! Text tables: aligned in a terminal, as HTML in a notebook and in a report.

use super::html::escaped;
use std::{
    fmt,
    fmt::{Debug, Display, Write as _},
};
use unicode_width::UnicodeWidthStr;

/// A table with a header. [`Display`] aligns it for a terminal; as the last expression of a notebook cell,
/// it is displayed.
///
/// ```
/// use finetune::show::Table;
/// let table = Table::new(["breed", "times"])
///     .row(["beagle", "3"])
///     .row(["basset_hound", "12"]);
/// assert_eq!(table.to_string(), "\
/// breed         times
/// beagle            3
/// basset_hound     12
/// ");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Returns true if a cell is a number. Columns of numbers are right-aligned.
fn numeric(cell: &str) -> bool {
    cell.is_empty()
        || cell.parse::<f64>().is_ok()
        || cell.starts_with(|c: char| c.is_ascii_digit()) && !cell.contains(char::is_alphabetic)
}

impl Table {
    /// Returns a table without rows.
    #[must_use]
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: vec![] }
    }

    /// Adds a row. Missing cells are empty. Cells beyond the header get columns without a name.
    #[must_use]
    pub fn row<S: Into<String>>(mut self, cells: impl IntoIterator<Item = S>) -> Self {
        let mut cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        let columns = self.head.len().max(cells.len());
        for line in self.rows.iter_mut().chain([&mut self.head, &mut cells]) {
            line.resize(columns, String::new());
        }
        self.rows.push(cells);
        self
    }

    /// Returns the rows.
    #[must_use]
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Returns the table as an HTML `table` element.
    #[must_use]
    pub fn html(&self) -> String {
        let right = self.right();
        let line = |cells: &[String], tag: &str| {
            let cell = |(cell, right): (&String, &bool)| {
                let align = if *right { r#" style="text-align:right""# } else { "" };
                format!("<{tag}{align}>{}</{tag}>", escaped(cell))
            };
            let cells: String = cells.iter().zip(&right).map(cell).collect();
            format!("<tr>{cells}</tr>\n")
        };
        let head = line(&self.head, "th");
        let rows: String = self.rows.iter().map(|row| line(row, "td")).collect();
        format!("<table>\n<thead>\n{head}</thead>\n<tbody>\n{rows}</tbody>\n</table>\n")
    }

    /// Shows the table in a notebook with the Rust kernel (evcxr), which calls this for the last
    /// expression of a cell.
    pub fn evcxr_display(&self) {
        super::notebook::show(&[("text/plain", &self.to_string()), ("text/html", &self.html())]);
    }

    fn right(&self) -> Vec<bool> {
        let all = |i: usize| self.rows.iter().all(|row| numeric(&row[i]));
        (0..self.head.len()).map(|i| !self.rows.is_empty() && all(i)).collect()
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |i: usize| lines().map(|l| l[i].width()).max().unwrap_or(0);
        let columns: Vec<_> = (0..self.head.len()).map(width).zip(self.right()).collect();
        for line in lines() {
            let mut text = String::new();
            for (i, (cell, (width, right))) in line.iter().zip(&columns).enumerate() {
                let blank = " ".repeat(width - cell.width());
                let gap = if i == 0 { "" } else { "  " };
                let (before, after) =
                    if *right { (blank, String::new()) } else { (String::new(), blank) };
                write!(text, "{gap}{before}{cell}{after}")?;
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}
