//! Figures of a network's inputs.

use super::{Cell, Figure, Grid, overlay::legend, seen::pictures_with_targets};
use crate::{
    data::{DataLoader, DataLoaders, LoaderOptions},
    error::{Error, Result},
    image::{Decode, Image},
    sample::Split,
};
use std::path::Path;

/// Options of `show_batch`, with fastai's names.
///
/// ```no_run
/// # fn f(dls: finetune::data::DataLoaders) -> finetune::Result<()> {
/// use finetune::show::ShowBatch;
/// dls.show_batch(9)?.save("batch.png")?;
/// dls.show_batch(ShowBatch::new(8).unique().columns(4))?.save("augmented.png")?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct ShowBatch {
    n: usize,
    unique: bool,
    columns: Option<usize>,
    pass: u64,
}

impl ShowBatch {
    /// Returns options that show up to `n` images.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self { n, unique: false, columns: None, pass: 0 }
    }

    /// Shows one item `n` times with different random draws, to judge the augmentation. Default: different
    /// items.
    #[must_use]
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// Sets the number of images per row, 1 or more. Default: the square root of their number, rounded up.
    #[must_use]
    pub fn columns(mut self, columns: usize) -> Self {
        self.columns = Some(columns);
        self
    }

    /// Sets the pass over the data to show: each pass has its own order and augmentations. Default: 0.
    #[must_use]
    pub fn pass(mut self, pass: u64) -> Self {
        self.pass = pass;
        self
    }
}

impl From<usize> for ShowBatch {
    fn from(n: usize) -> Self {
        Self::new(n)
    }
}

impl DataLoaders {
    /// Shows training items as the network receives them, augmented, with their labels: fastai's
    /// [`show_batch`](https://docs.fast.ai/data.core.html#tfmddl.show_batch). Takes the number of items, or
    /// a [`ShowBatch`] with options.
    ///
    /// # Errors
    /// As [`DataLoader::show_batch`].
    pub fn show_batch(&self, how: impl Into<ShowBatch>) -> Result<Figure> {
        self.loader(Split::Train).show_batch(how)
    }
}

impl DataLoader {
    /// Shows items of the first batch as the network receives them, with their labels. Takes the number of
    /// items, or a [`ShowBatch`] with options.
    ///
    /// # Errors
    /// Errors of the data; [`Error::Config`] if `n` is 0; [`Error::Unsupported`] if the inputs are not images.
    pub fn show_batch(&self, how: impl Into<ShowBatch>) -> Result<Figure> {
        let how = how.into();
        if how.n == 0 {
            return Err(Error::config("show_batch", "`n` is 0; it must be 1 or more"));
        }
        let shown = if how.unique { self.one_again_and_again(&how)? } else { self.first(&how)? };
        let task = self.task();
        let cells = shown
            .into_iter()
            .map(|(picture, item)| {
                if task.is_spatial() {
                    // The target is drawn into the image.
                    return Ok(Cell::new(picture));
                }
                let label = task.words(&self.target(item)?);
                let cell = Cell::new(picture);
                Ok(if label.is_empty() { cell } else { cell.line(label) })
            })
            .collect::<Result<Vec<_>>>()?;
        let grid = Grid::new("", cells).legend(legend(&task));
        let grid = if let Some(columns) = how.columns { grid.columns(columns) } else { grid };
        Ok(grid.figure())
    }

    /// Returns the requested number of items of a pass, even if a batch is smaller.
    fn first(&self, how: &ShowBatch) -> Result<Vec<(Image, usize)>> {
        let mut shown = vec![];
        for batch in self.batches(how.pass) {
            let batch = batch?;
            let pictures = pictures_with_targets(self, &batch, how.n - shown.len())?;
            shown.extend(pictures.into_iter().zip(batch.items));
            if shown.len() >= how.n {
                return Ok(shown);
            }
        }
        if shown.is_empty() {
            // Returns the error that there is no batch.
            self.one_batch()?;
        }
        Ok(shown)
    }

    /// Returns one item in several passes.
    fn one_again_and_again(&self, how: &ShowBatch) -> Result<Vec<(Image, usize)>> {
        let Some(&item) = self.items().first() else {
            return self.first(how);
        };
        let alone = self.with(LoaderOptions::new().bs(1).drop_last(false))?.subset([item])?;
        let mut shown = vec![];
        for k in 0..how.n as u64 {
            // After the last pass, the first ones follow.
            let Some(batch) = alone.batches(how.pass.wrapping_add(k)).next() else { break };
            let pictures = pictures_with_targets(self, &batch?, 1)?;
            shown.extend(pictures.into_iter().map(|picture| (picture, item)));
        }
        Ok(shown)
    }
}

/// Shows image files, each with its name: fastai's
/// [`show_images`](https://docs.fast.ai/torch_core.html#show_images) for files. For other text, or images
/// in memory, see [`Grid`].
///
/// ```no_run
/// use finetune::{data::get_image_files, show::show_images};
/// let files = get_image_files("pets/images")?;
/// show_images(files.iter().take(12))?.save("some.png")?;
/// # Ok::<(), finetune::Error>(())
/// ```
///
/// # Errors
/// [`Error::Io`] or [`Error::Image`], naming the file, if one cannot be read or decoded.
pub fn show_images<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Result<Figure> {
    let cell = |file: P| {
        let file = file.as_ref();
        let name = file.file_name().unwrap_or(file.as_os_str());
        Ok(Cell::new(Decode::new().open(file)?).line(name.to_string_lossy()))
    };
    Ok(Grid::new("", files.into_iter().map(cell).collect::<Result<_>>()?).figure())
}
