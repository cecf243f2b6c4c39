//! Inputs, labels and splits from the columns of a table.

use super::{
    names::utf8,
    table::{Column, Row},
};
use crate::{
    data::split::splitter::{Splits, Splitter},
    error::{Error, Result},
};
use std::{collections::HashSet, path::PathBuf};

/// Reads inputs and labels from the columns of a [`Row`]: fastai's
/// [`ColReader`](https://docs.fast.ai/data.transforms.html#colreader). Its methods return a `get_x` or a
/// `get_y`.
///
/// An empty cell is an error that names the row. (In fastai, it is the label `nan`.)
///
/// ```
/// use finetune::data::{ColReader, Row};
///
/// let rows = Row::table(["file", "tags", "x", "y"], [["1", "sea boat", "0.5", "-1"]])?;
/// assert_eq!(ColReader::new("file").pref("photos/").suff(".jpg").text()(&rows[0])?, "photos/1.jpg");
/// assert_eq!(ColReader::new("tags").labels(" ")(&rows[0])?, ["sea", "boat"]);
/// assert_eq!(ColReader::columns(["x", "y"]).numbers()(&rows[0])?, [0.5, -1.0]);
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ColReader {
    columns: Vec<Column>,
    folder: Option<PathBuf>,
    pref: String,
    suff: String,
    trim: bool,
}

impl ColReader {
    /// Creates a reader of one column, given by name or by position.
    #[must_use]
    pub fn new(column: impl Into<Column>) -> Self {
        Self::columns([column])
    }

    /// Creates a reader of several columns; see [`numbers`](Self::numbers) and [`flags`](Self::flags).
    #[must_use]
    pub fn columns<C: Into<Column>>(columns: impl IntoIterator<Item = C>) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self { columns, folder: None, pref: String::new(), suff: String::new(), trim: true }
    }

    /// Sets a prefix for each text. Default: none.
    #[must_use]
    pub fn pref(mut self, pref: impl Into<String>) -> Self {
        self.pref = pref.into();
        self
    }

    /// Sets a suffix for each text, such as `.jpg`. Default: none.
    #[must_use]
    pub fn suff(mut self, suff: impl Into<String>) -> Self {
        self.suff = suff.into();
        self
    }

    /// If true, white space around each text is removed, so that `"cat "` and `"cat"` are the same label.
    /// fastai keeps it. Default: true.
    #[must_use]
    pub fn trim(mut self, trim: bool) -> Self {
        self.trim = trim;
        self
    }

    /// Sets the folder of the files that the column names. Default: none.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Returns a reader of the column's text: a file or a category.
    pub fn text(self) -> impl Fn(&Row) -> Result<String> + Send + Sync + 'static {
        move |row| {
            let cell = self.cell(row)?;
            let text = format!("{}{cell}{}", self.pref, self.suff);
            let Some(folder) = &self.folder else { return Ok(text) };
            Ok(utf8(folder.join(text).as_os_str(), folder)?.to_owned())
        }
    }

    /// Returns a reader of the column's texts, separated by `delim`: several categories, for a
    /// [`MultiCategoryBlock`](crate::data::MultiCategoryBlock). An empty cell has none. Empty parts, such
    /// as that after the last `;` of `a;b;`, are ignored. (fastai makes a category of them.)
    pub fn labels(
        self,
        delim: impl Into<String>,
    ) -> impl Fn(&Row) -> Result<Vec<String>> + Send + Sync + 'static {
        let delim = delim.into();
        move |row| {
            let label = |text: &str| format!("{}{text}{}", self.pref, self.suff);
            let cell = row.get(self.column()?)?;
            let parts: Vec<&str> = match delim.is_empty() {
                true => vec![cell],
                false => cell.split(&*delim).collect(),
            };
            let parts = parts.into_iter().map(|part| self.trimmed(part));
            Ok(parts.filter(|part| !part.trim().is_empty()).map(label).collect())
        }
    }

    /// Returns a reader of the column's number, for a [`RegressionBlock`](crate::data::RegressionBlock)
    /// with one value.
    pub fn number(self) -> impl Fn(&Row) -> Result<f32> + Send + Sync + 'static {
        move |row| number(row, self.column()?)
    }

    /// Returns a reader of the columns' numbers, for a [`RegressionBlock`](crate::data::RegressionBlock)
    /// with several values.
    pub fn numbers(self) -> impl Fn(&Row) -> Result<Vec<f32>> + Send + Sync + 'static {
        move |row| self.columns.iter().map(|column| number(row, column)).collect()
    }

    /// Returns a reader of the columns as booleans, for an
    /// [`EncodedMultiCategoryBlock`](crate::data::EncodedMultiCategoryBlock). See [`ColSplitter`] for the
    /// accepted values.
    pub fn flags(self) -> impl Fn(&Row) -> Result<Vec<bool>> + Send + Sync + 'static {
        move |row| {
            let flag = |column| {
                let cell = row.get(column)?;
                yes(cell).ok_or_else(|| wrong(row, column, "is neither true nor false"))
            };
            self.columns.iter().map(flag).collect()
        }
    }

    fn cell<'a>(&self, row: &'a Row) -> Result<&'a str> {
        let column = self.column()?;
        match self.trimmed(row.get(column)?) {
            cell if cell.trim().is_empty() => Err(wrong(row, column, "is empty")),
            cell => Ok(cell),
        }
    }

    /// Returns the only column.
    fn column(&self) -> Result<&Column> {
        match self.columns.as_slice() {
            [column] => Ok(column),
            several => {
                let n = several.len();
                let why = format!("{n} columns are set, but one is read: use `numbers` or `flags`");
                Err(Error::config("ColReader", why))
            }
        }
    }

    fn trimmed<'a>(&self, text: &'a str) -> &'a str {
        if self.trim { text.trim() } else { text }
    }
}

fn number(row: &Row, column: &Column) -> Result<f32> {
    row.get(column)?.trim().parse().map_err(|_| wrong(row, column, "is not a number"))
}

fn wrong(row: &Row, column: &Column, what: &str) -> Error {
    let cell = row.get(column).unwrap_or_default();
    let why = format!("column {column} {what}: `{cell}`");
    Error::label(format!("row {}", row.number()), why)
}

/// Parses a cell as a boolean: `true` or a number other than 0; `false`, 0 or the empty string.
fn yes(cell: &str) -> Option<bool> {
    match cell.trim().to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" | "" => Some(false),
        number => number.parse::<f64>().ok().filter(|n| !n.is_nan()).map(|n| n != 0.0),
    }
}

/// Splits by a column that marks the validation rows: fastai's
/// [`ColSplitter`](https://docs.fast.ai/data.transforms.html#colsplitter).
///
/// `true` in any case and numbers other than 0 mark validation rows; `false`, 0 and empty cells mark
/// training rows; any other text is an error. (In pandas any text is true, including `"False"`.) With
/// [`on`](Self::on), the column may contain anything.
///
/// ```
/// use finetune::data::{ColSplitter, Row, Splitter};
///
/// let rows = Row::table(["file", "fold"], [["a", "0"], ["b", "2"], ["c", "1"]])?;
/// assert_eq!(ColSplitter::new("fold").on(["2"]).split(&rows)?.valid, [1]);
/// assert_eq!(ColSplitter::new("fold").split(&rows)?.valid, [1, 2]);
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ColSplitter {
    column: Column,
    on: Option<HashSet<String>>,
}

impl Default for ColSplitter {
    /// Creates a splitter by the column `is_valid`.
    fn default() -> Self {
        Self::new("is_valid")
    }
}

impl ColSplitter {
    /// Creates a splitter by a column, given by name or by position.
    #[must_use]
    pub fn new(column: impl Into<Column>) -> Self {
        Self { column: column.into(), on: None }
    }

    /// Sets the texts that mark validation rows. Default: booleans as above.
    #[must_use]
    pub fn on<S: Into<String>>(mut self, on: impl IntoIterator<Item = S>) -> Self {
        self.on = Some(on.into_iter().map(Into::into).collect());
        self
    }

    fn is_valid(&self, row: &Row) -> Result<bool> {
        let cell = row.get(&self.column)?;
        if let Some(on) = &self.on {
            return Ok(on.contains(cell) || on.contains(cell.trim()));
        }
        yes(cell).ok_or_else(|| {
            let (number, column) = (row.number(), &self.column);
            let why = format!(
                "`{cell}` in column {column} of row {number} is neither true nor false: name the texts \
                 that mark validation rows with `on`"
            );
            Error::config("ColSplitter", why)
        })
    }
}

impl Splitter<Row> for ColSplitter {
    fn split(&self, rows: &[Row]) -> Result<Splits> {
        if let Some(on) = &self.on {
            let cells = rows.iter().map(|row| row.get(&self.column).map(str::trim));
            let cells = cells.collect::<Result<HashSet<_>>>()?;
            if let Some(absent) = on.iter().find(|text| !cells.contains(text.trim())) {
                let why = format!("no row has `{absent}` in column {}", self.column);
                return Err(Error::config("ColSplitter", why));
            }
        }
        let mask = rows.iter().map(|row| self.is_valid(row)).collect::<Result<Vec<_>>>()?;
        Ok(Splits::by(rows.len(), |&i| mask[i]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_say_nothing_are_errors_that_name_the_row() {
        let rows = Row::table(["label", "age"], [["pug", "3"], ["", "old"]]).unwrap();
        let e = ColReader::new("label").text()(&rows[1]).unwrap_err().to_string();
        assert_eq!(e, "no label for row 1: column `label` is empty: ``");
        let e = ColReader::new(1).number()(&rows[1]).unwrap_err().to_string();
        assert_eq!(e, "no label for row 1: column 1 is not a number: `old`");
        let e = ColReader::new("label").flags()(&rows[0]).unwrap_err().to_string();
        assert!(e.contains("neither true nor false"), "{e}");
        assert!(ColReader::new("none").text()(&rows[0]).is_err());
    }

    #[test]
    fn several_labels_are_divided_and_none_are_none() {
        let rows = Row::table(["tags"], [["a;b"], [""], ["c"]]).unwrap();
        let tags = ColReader::new("tags").labels(";");
        let all: Vec<_> = rows.iter().map(|r| tags(r).unwrap()).collect();
        assert_eq!(all, [vec!["a", "b"], vec![], vec!["c"]]);
    }

    #[test]
    fn a_text_is_no_mask() {
        let rows = Row::table(["is_valid"], [["True"], ["FALSE"], ["1"], ["0.0"], [""]]).unwrap();
        assert_eq!(ColSplitter::default().split(&rows).unwrap().valid, [0, 2]);
        let rows = Row::table(["is_valid"], [["yes"]]).unwrap();
        let e = ColSplitter::default().split(&rows).unwrap_err().to_string();
        assert!(e.contains("`yes` in column `is_valid` of row 0"), "{e}");
        // As other programs write a missing value.
        for missing in ["nan", "NaN", " NAN"] {
            let rows = Row::table(["is_valid"], [["0"], [missing]]).unwrap();
            let e = ColSplitter::default().split(&rows).unwrap_err().to_string();
            assert!(e.contains("of row 1 is neither true nor false"), "{e}");
            assert!(ColReader::new("is_valid").flags()(&rows[1]).is_err());
        }
    }
}
