//! Figures of the results of `check`.

use super::{Cell, Figure, Grid};
use crate::{
    data::CheckReport,
    error::{Error, Result},
};
use std::path::Path;

impl CheckReport {
    /// Draws the pairs of training and validation items that look alike, one pair per row with its file
    /// names: up to 24, most similar first.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there are no such pairs.
    ///
    /// ```no_run
    /// # fn f(block: finetune::data::DataBlock<finetune::data::CategoryBlock>) -> finetune::Result<()> {
    /// let report = block.check("photos")?;
    /// if !report.near_duplicates.is_empty() {
    ///     report.show_near_duplicates()?.save("near-duplicates.png")?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn show_near_duplicates(&self) -> Result<Figure> {
        let name = |path: &String| match Path::new(path).file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => path.clone(),
        };
        let mut cells = vec![];
        for pair in &self.near_duplicates {
            let Some(pictures) = &pair.pictures else { continue };
            let sides = ["training", "validation"].iter().zip(&pair.names).zip(pictures);
            for ((side, path), picture) in sides {
                cells.push(Cell::new(picture.clone()).line(*side).line(name(path)));
            }
        }
        if cells.is_empty() {
            return Err(Error::unsupported("show_near_duplicates", "no images look alike"));
        }
        Ok(Grid::new("", cells).columns(2).figure())
    }
}
