//! Figures in the terminal.

use super::Figure;
use crate::error::{Error, Result};
use image::{DynamicImage, RgbImage};
use std::io::{self, IsTerminal};

impl Figure {
    /// Shows the figure in the terminal of standard output, as large as fits: as pixels if the terminal
    /// supports kitty's, iTerm2's or sixel graphics, otherwise as colored blocks, in which shapes are
    /// visible but text is not legible. Needs the feature `terminal`.
    ///
    /// ```no_run
    /// # fn f(learn: &finetune::learner::Learner) -> finetune::Result<()> {
    /// learn.recorder().plot_loss()?.show_in_terminal()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] if standard output is not a terminal; [`Error::Io`] if it cannot be written;
    /// as [`Figure::image`].
    pub fn show_in_terminal(&self) -> Result<()> {
        require_terminal(&io::stdout())?;
        let image = self.image()?;
        let (width, height) = (image.width(), image.height());
        let pixels = RgbImage::from_raw(width, height, image.pixels().to_vec());
        let pixels = pixels.ok_or_else(|| {
            Error::mismatch("figure", "its pixels do not have the size of an RGB image")
        })?;
        let config = viuer::Config { absolute_offset: false, ..viuer::Config::default() };
        viuer::print(&DynamicImage::ImageRgb8(pixels), &config)
            .map_err(|e| Error::io("the terminal")(io::Error::other(e)))?;
        Ok(())
    }
}

/// Checks that figures can be shown on `output`.
fn require_terminal(output: &impl IsTerminal) -> Result<()> {
    if output.is_terminal() {
        return Ok(());
    }
    let why = "is not a terminal: save the figure as a file";
    Err(Error::unsupported("standard output", why))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panics")]

    #[test]
    fn a_file_is_not_a_terminal() {
        let e = super::require_terminal(&tempfile::tempfile().unwrap()).unwrap_err();
        assert!(e.to_string().contains("not a terminal"), "{e}");
    }
}
