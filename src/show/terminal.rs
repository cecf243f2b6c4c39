//! A picture in the terminal itself.

use super::Figure;
use crate::error::{Error, Result};
use image::{DynamicImage, RgbImage};
use std::io::{self, IsTerminal as _};

impl Figure {
    /// Shows the figure in the terminal that standard output is, as large as fits: as pixels where the
    /// terminal understands kitty's, iTerm2's or sixel pictures, else as colored blocks, in which
    /// shapes can be seen but letters cannot be read. Needs the feature `terminal`.
    ///
    /// ```no_run
    /// # fn f(learn: &finetune::learner::Learner) -> finetune::Result<()> {
    /// learn.recorder().plot_loss()?.show_in_terminal()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if standard output is no terminal; [`Error::Io`] if it cannot be written; as
    /// [`Figure::image`].
    pub fn show_in_terminal(&self) -> Result<()> {
        if !io::stdout().is_terminal() {
            let why = "is no terminal: save the figure as a file";
            return Err(Error::unsupported("standard output", why));
        }
        let image = self.image()?;
        let (width, height) = (image.width(), image.height());
        let pixels = RgbImage::from_raw(width, height, image.pixels().to_vec());
        let pixels = pixels.ok_or_else(|| Error::config("the figure", "should be RGB"))?;
        let config = viuer::Config { absolute_offset: false, ..viuer::Config::default() };
        viuer::print(&DynamicImage::ImageRgb8(pixels), &config)
            .map_err(|e| Error::io("the terminal")(io::Error::other(e)))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::show::plot_function;
    use std::io::{self, IsTerminal as _};

    #[test]
    fn what_is_no_terminal_gets_no_picture() {
        if io::stdout().is_terminal() {
            return;
        }
        let e = plot_function("square", |x| x * x, 0.0..=1.0).show_in_terminal().unwrap_err();
        assert!(e.to_string().contains("no terminal"), "{e}");
    }
}
