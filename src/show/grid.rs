//! Images in rows, each with lines of text above it.

use super::{
    canvas::{LARGEST, Placed},
    font::{
        BLACK, LARGE, NORMAL, RIGHT, Rgb, SMALL, UNITS, WRONG, drawing, fit, px, rgb, text,
        width as text_width,
    },
};
use crate::{
    error::{Error, Result},
    image::{Filter, Image},
};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

/// Images in rows, with lines of text above each: for example a batch, results, the worst mistakes.
///
/// ```
/// use finetune::{image::Image, show::{Cell, Grid}};
/// let photo = Image::new(1, 1, 3, vec![200, 120, 40])?;
/// let grid = Grid::new("", vec![Cell::new(photo).line("beagle").wrong("basset_hound")]);
/// assert_eq!(grid.figure().dimensions(), (232, 286));
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Grid {
    title: String,
    cells: Vec<Cell>,
    columns: Option<usize>,
    side: u32,
    /// The ratio of width to height of a cell.
    aspect: u32,
    legend: Vec<(String, Rgb)>,
}

/// One image of a [`Grid`] and the lines above it. A line that is too long for the image is written
/// smaller, and is truncated with an ellipsis if that is not enough.
#[derive(Debug, Clone)]
pub struct Cell {
    picture: Image,
    lines: Vec<(String, Rgb)>,
}

impl Cell {
    /// Returns an image without text.
    #[must_use]
    pub fn new(picture: Image) -> Self {
        Self { picture, lines: vec![] }
    }

    /// Adds a line in black.
    #[must_use]
    pub fn line(self, text: impl Into<String>) -> Self {
        self.colored(text, BLACK)
    }

    /// Adds a line in green with a tick, for a correct prediction.
    #[must_use]
    pub fn right(self, text: impl Into<String>) -> Self {
        self.colored(format!("✓ {}", text.into()), RIGHT)
    }

    /// Adds a line in red with a cross, for a wrong prediction.
    #[must_use]
    pub fn wrong(self, text: impl Into<String>) -> Self {
        self.colored(format!("✗ {}", text.into()), WRONG)
    }

    fn colored(mut self, text: impl Into<String>, color: Rgb) -> Self {
        self.lines.push((text.into(), color));
        self
    }
}

/// The space between images and around all of them, in units.
const GAP: u32 = px(16);
/// The space below a row, in units. It is larger than that between a text and its image, so that text and image
/// are perceived as belonging together.
const BELOW: u32 = px(26);
/// The height of a line of text, in units.
const LINE: u32 = NORMAL + px(6);

impl Grid {
    /// Returns images in as many columns as rows, or one more. An empty title takes no space.
    #[must_use]
    pub fn new(title: impl Into<String>, cells: Vec<Cell>) -> Self {
        Self { title: title.into(), cells, columns: None, side: 200, aspect: 1, legend: vec![] }
    }

    /// Sets the number of images per row, 1 or more. Default: the square root of their number, rounded up.
    #[must_use]
    pub fn columns(mut self, columns: usize) -> Self {
        self.columns = Some(columns);
        self
    }

    /// Sets the width and height of the square into which each image is fitted, in pixels, if the size of
    /// the figure is not set. Default: 200.
    #[must_use]
    pub fn side(mut self, side: u32) -> Self {
        self.side = side;
        self
    }

    /// Makes cells twice as wide as high, for two images side by side.
    #[must_use]
    pub(super) fn pairs(mut self) -> Self {
        self.aspect = 2;
        self
    }

    /// Sets the names and colors of the legend below the title. Default: none.
    #[must_use]
    pub(super) fn legend(mut self, legend: Vec<(String, Rgb)>) -> Self {
        self.legend = legend;
        self
    }

    fn shape(&self) -> (u32, u32) {
        let n = self.cells.len().max(1);
        let square = (n as f64 / f64::from(self.aspect)).sqrt().ceil() as usize;
        let columns = self.columns.unwrap_or(square).clamp(1, n);
        (columns as u32, n.div_ceil(columns) as u32)
    }

    /// Returns the entries of the legend with their distances from the left edge, row by row.
    fn legend_rows(&self, width: u32) -> Vec<Vec<(u32, &str, Rgb)>> {
        let mut rows: Vec<Vec<(u32, &str, Rgb)>> = vec![];
        let mut x = u32::MAX;
        for (name, color) in &self.legend {
            let wide = LINE + text_width(name, NORMAL) + GAP;
            if x.saturating_add(wide) > width {
                rows.push(vec![]);
                x = GAP;
            }
            if let Some(row) = rows.last_mut() {
                row.push((x, name, *color));
            }
            x += wide;
        }
        rows
    }

    /// Returns the height of the title with the legend and of the text above each image, in units, for a
    /// width of the figure.
    fn text_heights(&self, width: u32) -> (u32, u32) {
        let title = if self.title.is_empty() { 0 } else { LARGE + GAP / 2 };
        let legend = self.legend_rows(width).len() as u32 * LINE;
        let title = title + if legend > 0 { legend + GAP / 2 } else { 0 };
        let lines = self.cells.iter().map(|c| c.lines.len()).max().unwrap_or(0) as u32;
        (title, lines * LINE)
    }

    pub(super) fn dimensions(&self) -> (u32, u32) {
        let (columns, rows) = self.shape();
        let cell = self.side.saturating_mul(UNITS * self.aspect).saturating_add(GAP);
        let expected = columns.saturating_mul(cell).saturating_add(GAP);
        let (title, lines) = self.text_heights(expected.min(px(LARGEST)));
        // If there are many images, make them smaller.
        let wide = (px(LARGEST) - GAP) / columns;
        let high = (px(LARGEST) - GAP).saturating_sub(title) / rows;
        let most = wide.saturating_sub(GAP) / self.aspect;
        let most = most.min(high.saturating_sub(BELOW + lines));
        let side = self.side.saturating_mul(UNITS).min(most / UNITS * UNITS);
        let width = columns * (side * self.aspect + GAP) + GAP;
        let height = rows * (side + lines + BELOW) + GAP + title;
        (width.div_ceil(UNITS), height.div_ceil(UNITS))
    }

    pub(super) fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
    ) -> Result<Vec<Placed>> {
        if self.columns == Some(0) {
            return Err(Error::config("columns", "is 0; it must be 1 or more"));
        }
        let (width, height) = area.dim_in_pixel();
        let (columns, rows) = self.shape();
        let (title, lines) = self.text_heights(width);
        let wide = width.saturating_sub(GAP) / columns;
        let high = height.saturating_sub(GAP + title) / rows;
        let room = (wide.saturating_sub(GAP), high.saturating_sub(BELOW + lines));
        let pixels = (room.0 / UNITS, room.1 / UNITS);
        if pixels.0 == 0 || pixels.1 == 0 {
            let (width, height) = (width / UNITS, height / UNITS);
            let why = format!("{width}x{height} pixels are too few for {columns}x{rows} images");
            return Err(Error::config("size", why));
        }
        let write = |s: &str, size: u32, color: Rgb, limit: u32, x: u32, y: u32| {
            let s = fit(s, size, limit);
            let style = text(&s, size, color, HPos::Center, VPos::Top);
            let text = Text::new(s, (x as i32, y as i32), style);
            area.draw(&text).map_err(drawing)
        };
        let legend = self.legend_rows(width);
        let legend_top = if self.title.is_empty() { GAP / 2 } else { LARGE + GAP };
        for (i, row) in legend.iter().enumerate() {
            let y = (legend_top + i as u32 * LINE) as i32;
            for &(x, name, color) in row {
                let side = (NORMAL * 3 / 4) as i32;
                let corner = (x as i32, y + (LINE as i32 - side) / 2);
                let square = [corner, (corner.0 + side, corner.1 + side)];
                area.draw(&Rectangle::new(square, rgb(color).filled())).map_err(drawing)?;
                let name = fit(name, NORMAL, width.saturating_sub(x + LINE));
                let style = text(&name, NORMAL, BLACK, HPos::Left, VPos::Top);
                let name = Text::new(name, (x as i32 + LINE as i32, y), style);
                area.draw(&name).map_err(drawing)?;
            }
        }
        if !self.title.is_empty() {
            write(&self.title, LARGE, BLACK, width.saturating_sub(GAP), width / 2, GAP / 2)?;
        }
        let mut placed = vec![];
        for (i, cell) in self.cells.iter().enumerate() {
            let (column, row) = (i as u32 % columns, i as u32 / columns);
            let (left, top) = (GAP + column * wide, GAP + title + row * high);
            // In a cell with fewer lines than others, they are next to the image.
            let blank = lines - cell.lines.len() as u32 * LINE;
            for (k, (line, color)) in cell.lines.iter().enumerate() {
                let y = top + blank + k as u32 * LINE;
                // Text may extend into the gap a little.
                let limit = room.0 + GAP / 2;
                let small = pixels.0 < 150 || text_width(line, NORMAL) > limit;
                let size = if small { SMALL } else { NORMAL };
                write(line, size, *color, limit, left + room.0 / 2, y)?;
            }
            let picture = fitted(&cell.picture, pixels)?;
            let x = left / UNITS + (pixels.0 - picture.width()) / 2;
            let y = (top + lines) / UNITS;
            placed.push(Placed { x, y, picture });
        }
        Ok(placed)
    }
}

/// Resizes the image to fit into `room`, keeping its aspect ratio.
pub(super) fn fitted(picture: &Image, room: (u32, u32)) -> Result<Image> {
    let (w, h) = (f64::from(picture.width()), f64::from(picture.height()));
    let scale = (f64::from(room.0) / w).min(f64::from(room.1) / h);
    let side = |s: f64, limit: u32| ((s * scale).round() as u32).clamp(1, limit);
    let (width, height) = (side(w, room.0), side(h, room.1));
    if (width, height) == (picture.width(), picture.height()) {
        return Ok(picture.clone());
    }
    picture.resize(width, height, Filter::Bilinear)
}
