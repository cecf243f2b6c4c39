//! Tables: the rows of a CSV file or of a list in memory as items.

use crate::error::{Error, Result};
use csv::{ReaderBuilder, StringRecord, Writer};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, fs, io, path::Path, sync::Arc};

/// One row of a table with named columns. A list of rows is a source of items; see [`read_csv`].
///
/// All cells of a row share one allocation, so a million rows are cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    columns: Arc<[String]>,
    number: usize,
    cells: StringRecord,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.columns.iter().zip(&self.cells)).finish()
    }
}

/// A column, by name or by position from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Column {
    /// The name in the header.
    Name(String),
    /// The position, from 0.
    Position(usize),
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{name}`"),
            Self::Position(position) => write!(f, "{position}"),
        }
    }
}

impl From<&str> for Column {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for Column {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<usize> for Column {
    fn from(position: usize) -> Self {
        Self::Position(position)
    }
}

impl Row {
    /// Returns the rows of a table in memory.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the number of cells of a row differs from the number of columns.
    ///
    /// ```
    /// use finetune::data::Row;
    ///
    /// let rows = Row::table(["file", "label"], [["1.jpg", "pug"], ["2.jpg", "boxer"]])?;
    /// assert_eq!(rows[1].get(&"label".into())?, "boxer");
    /// # Ok::<(), finetune::Error>(())
    /// ```
    pub fn table<C, R, S>(columns: C, rows: impl IntoIterator<Item = R>) -> Result<Vec<Self>>
    where
        C: IntoIterator<Item: Into<String>>,
        R: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let columns: Arc<[String]> = columns.into_iter().map(Into::into).collect();
        let row = |(number, cells): (usize, R)| {
            let mut record = StringRecord::new();
            cells.into_iter().for_each(|cell| record.push_field(cell.as_ref()));
            Self::new(&columns, number, record)
        };
        rows.into_iter().enumerate().map(row).collect()
    }

    /// Returns the rows of values of your own type, whose fields are the columns.
    ///
    /// # Errors
    /// [`Error::Config`] if a value is not a flat record.
    pub fn from_records<T: Serialize>(records: impl IntoIterator<Item = T>) -> Result<Vec<Self>> {
        let wrong = |why: &dyn fmt::Display| Error::config("Row::from_records", why.to_string());
        let mut text = Writer::from_writer(vec![]);
        for record in records {
            text.serialize(record).map_err(|e| wrong(&e))?;
        }
        let text = text.into_inner().map_err(|e| wrong(&e.error()))?;
        Csv::new().rows(&*text).map_err(|e| wrong(&e))
    }

    fn new(columns: &Arc<[String]>, number: usize, cells: StringRecord) -> Result<Self> {
        if cells.len() != columns.len() {
            let why =
                format!("row {number} has {} cells for {} columns", cells.len(), columns.len());
            return Err(Error::mismatch("columns", why));
        }
        Ok(Self { columns: columns.clone(), number, cells })
    }

    /// Returns the names of the columns.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Returns the number of the row in the table, from 0.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns the cell of a column.
    ///
    /// # Errors
    /// [`Error::Config`] if the column does not exist, or if several columns have the name.
    pub fn get(&self, column: &Column) -> Result<&str> {
        let position = match column {
            Column::Name(name) => {
                let called = |name: &str, is: fn(&str, &str) -> bool| {
                    let there = |p: &usize| is(&self.columns[*p], name);
                    (0..self.columns.len()).filter(there).collect::<Vec<_>>()
                };
                let exact = called(name, |a, b| a == b);
                // A header may have white space after its commas.
                let found = match exact.is_empty() {
                    true => called(name, |a, b| a.trim() == b.trim()),
                    false => exact,
                };
                if let [first, second, ..] = found.as_slice() {
                    let why = format!(
                        "there are several columns {column}, at the positions {first} and {second}: use the \
                         position instead of the name"
                    );
                    return Err(Error::config("column", why));
                }
                found.first().copied()
            }
            Column::Position(position) => Some(*position),
        };
        position.and_then(|p| self.cells.get(p)).ok_or_else(|| {
            let why = format!("there is no {column}: the table has {}", self.columns.join(", "));
            Error::config("column", why)
        })
    }
}

/// Returns the rows of a CSV file with a header. See [`Csv`] for other formats.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read or is not a valid table, for example because of an unclosed
/// quote; it names the file and the line.
///
/// ```no_run
/// use finetune::data::{
///     CategoryBlock, ColReader, ColSplitter, DataBlock, ImageBlock, read_csv,
/// };
///
/// let dls = DataBlock::rows(ImageBlock::rgb(), CategoryBlock::new())
///     .get_items(|folder| read_csv(folder.join("labels.csv")))
///     .get_x(ColReader::new("file").folder("photos/train").suff(".jpg").text())
///     .get_y(ColReader::new("breed").text())
///     .splitter(ColSplitter::new("is_valid"))
///     .dataloaders("photos")?;
/// # Ok::<(), finetune::Error>(())
/// ```
pub fn read_csv(path: impl AsRef<Path>) -> Result<Vec<Row>> {
    Csv::new().read(path)
}

/// Options for reading a file of separated values.
#[derive(Debug, Clone, Copy)]
pub struct Csv {
    delimiter: u8,
    header: bool,
}

impl Default for Csv {
    fn default() -> Self {
        Self::new()
    }
}

impl Csv {
    /// Returns options for commas and a header.
    #[must_use]
    pub fn new() -> Self {
        Self { delimiter: b',', header: true }
    }

    /// Sets the separator of cells, such as `b'\t'`. Default: a comma.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// If true, the first line contains the column names; otherwise, the columns are named `0`, `1` and so
    /// on. Default: true.
    #[must_use]
    pub fn header(mut self, header: bool) -> Self {
        self.header = header;
        self
    }

    /// Returns the rows of a file.
    ///
    /// # Errors
    /// As [`read_csv`].
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<Row>> {
        let path = path.as_ref();
        let text = self.checked(path)?;
        self.rows(&*text).map_err(|e| Error::io(path)(e.into()))
    }

    /// Returns the bytes of a file after checking its quotes.
    fn checked(&self, path: &Path) -> Result<Vec<u8>> {
        let text = fs::read(path).map_err(Error::io(path))?;
        let invalid =
            |why: String| Error::io(path)(io::Error::new(io::ErrorKind::InvalidData, why));
        if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
            return Err(invalid("it is UTF-16: save it as UTF-8".into()));
        }
        open_quote(&text, self.delimiter).map_or(Ok(()), |why| Err(invalid(why)))?;
        Ok(text)
    }

    /// Returns the rows of a file as your own type, whose fields are the columns.
    ///
    /// # Errors
    /// As [`read_csv`]; also if a row cannot be converted to the type.
    ///
    /// ```no_run
    /// use finetune::data::{Csv, DataBlock, ImageBlock, RegressionBlock};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Face {
    ///     file: String,
    ///     age: f32,
    /// }
    ///
    /// let dls = DataBlock::rows(ImageBlock::rgb(), RegressionBlock::one())
    ///     .get_x(|face: &Face| Ok(format!("faces/{}", face.file)))
    ///     .get_y(|face| Ok(face.age))
    ///     .dataloaders_from(Csv::new().read_as("faces.csv")?)?;
    /// # Ok::<(), finetune::Error>(())
    /// ```
    pub fn read_as<T: DeserializeOwned>(&self, path: impl AsRef<Path>) -> Result<Vec<T>> {
        let path = path.as_ref();
        let text = self.checked(path)?;
        let rows = self.reader(&*text).into_deserialize().collect::<csv::Result<_>>();
        rows.map_err(|e| Error::io(path)(e.into()))
    }

    fn reader<R: io::Read>(&self, from: R) -> csv::Reader<R> {
        ReaderBuilder::new().delimiter(self.delimiter).has_headers(self.header).from_reader(from)
    }

    fn rows<R: io::Read>(&self, from: R) -> csv::Result<Vec<Row>> {
        let mut reader = self.reader(from);
        let first = reader.headers()?;
        let columns: Arc<[String]> = if self.header {
            first.iter().map(ToOwned::to_owned).collect()
        } else {
            (0..first.len()).map(|i| i.to_string()).collect()
        };
        let row = |(number, cells): (usize, csv::Result<StringRecord>)| {
            let mut cells = cells?;
            cells.set_position(None);
            Ok(Row { columns: columns.clone(), number, cells })
        };
        reader.records().enumerate().map(row).collect()
    }
}

/// Describes an error in the quotes of a table, if there is one. A CSV reader treats an unclosed quote as
/// the start of a cell that extends to the next quote or the end of the file, so that rows disappear in it.
fn open_quote(text: &[u8], delimiter: u8) -> Option<String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    // At the start of a cell, inside an unquoted cell, inside a quoted cell that starts on a line, after
    // its end.
    enum At {
        Begin,
        Plain,
        Quoted(usize),
        Closed(usize),
    }
    let (mut at, mut line) = (At::Begin, 1);
    for &byte in text {
        at = match (at, byte) {
            (At::Begin, b'"') => At::Quoted(line),
            (At::Quoted(since), b'"') => At::Closed(since),
            // A doubled quote is an escaped quote.
            (At::Quoted(since), _) | (At::Closed(since), b'"') => At::Quoted(since),
            (_, byte) if byte == delimiter || byte == b'\n' || byte == b'\r' => At::Begin,
            (At::Begin | At::Plain, _) => At::Plain,
            (At::Closed(since), _) => {
                return Some(format!(
                    "the quote that opens a cell in line {since} is closed within the text of line {line}: \
                     close it before the next cell, and double quotes within a cell"
                ));
            }
        };
        line += usize::from(byte == b'\n');
    }
    match at {
        At::Quoted(since) => {
            Some(format!("the quote that opens a cell in line {since} is never closed"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn file(dir: &tempfile::TempDir, text: &str) -> PathBuf {
        let path = dir.path().join("t.csv");
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn cells_are_found_by_name_and_by_position() {
        let dir = tempfile::tempdir().unwrap();
        let rows = read_csv(file(&dir, "file,label\n\"a,b.jpg\",pug\nc.jpg,\n")).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].get(&"file".into()).unwrap(), "a,b.jpg");
        assert_eq!((rows[1].get(&1.into()).unwrap(), rows[1].number()), ("", 1));
        let e = rows[0].get(&"lable".into()).unwrap_err().to_string();
        assert_eq!(e, "`column`: there is no `lable`: the table has file, label");
        let plain = Csv::new().header(false).delimiter(b'\t').read(file(&dir, "a\tb\n")).unwrap();
        assert_eq!(plain[0].columns(), ["0", "1"]);
        assert_eq!(plain[0].get(&"1".into()).unwrap(), "b");
    }

    #[test]
    fn what_is_no_table_is_an_error_that_names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let e = read_csv(file(&dir, "a,b\n1,2\n3\n")).unwrap_err().to_string();
        assert!(e.contains("t.csv") && e.contains("line: 3"), "{e}");
        let e = Csv::new().read_as::<(u32, u32)>(file(&dir, "a,b\n1,x\n")).unwrap_err().to_string();
        assert!(e.contains("t.csv") && e.contains("line: 2"), "{e}");
        assert!(matches!(read_csv(dir.path().join("nowhere")), Err(Error::Io { .. })));
        assert!(Row::table(["a", "b"], [["1"]]).is_err());
    }

    #[test]
    fn records_of_ones_own_are_rows() {
        #[derive(Serialize)]
        struct Face {
            file: &'static str,
            age: f32,
        }
        let rows = Row::from_records([Face { file: "a.jpg", age: 3.5 }]).unwrap();
        assert_eq!(rows, Row::table(["file", "age"], [["a.jpg", "3.5"]]).unwrap());
    }
}
