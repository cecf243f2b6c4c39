//! A figure that can be saved as PNG or SVG, or shown in a notebook.

use super::{
    canvas::{LARGEST, Placed},
    chart::Chart,
    font::{Rgb, UNITS, drawing, px, rgb},
    grid::Grid,
    matrix::Matrix,
    notebook,
};
use crate::{
    disk, distributed,
    error::{Error, Result},
    image::Image,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use image::{
    ExtendedColorType, ImageEncoder as _,
    codecs::{jpeg::JpegEncoder, png::PngEncoder},
};
use plotters::{
    coord::Shift,
    drawing::{DrawingArea, IntoDrawingArea as _},
    prelude::{BitMapBackend, DrawingBackend, SVGBackend},
};
use std::{fmt::Write as _, io::Write as _, path::Path};

/// A figure: a chart, images, or a matrix.
///
/// It contains the content, not pixels, so it can be saved as PNG and as SVG in any size. As the last
/// expression of a notebook cell, it is displayed.
///
/// ```
/// use finetune::show::plot_function;
/// let figure = plot_function("sigmoid", |x| 1.0 / (1.0 + (-x).exp()), -6.0..=6.0);
/// assert!(figure.svg()?.contains("sigmoid"));
/// let png = figure.size(320, 240).png()?;
/// assert_eq!(&png[1..4], b"PNG");
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Figure {
    content: Content,
    size: Option<(u32, u32)>,
    background: Rgb,
}

#[derive(Debug, Clone)]
enum Content {
    Charts { charts: Vec<Chart>, columns: usize },
    Grid(Grid),
    Matrix(Matrix),
}

impl Figure {
    /// Returns charts in a grid with `columns` columns.
    pub(super) fn charts(charts: Vec<Chart>, columns: usize) -> Self {
        Self::new(Content::Charts { charts, columns: columns.max(1) })
    }

    /// Returns the charts of a figure as separate figures; any other figure unchanged.
    pub(super) fn each(self) -> Vec<Self> {
        match self.content {
            Content::Charts { charts, .. } => charts.into_iter().map(Self::from).collect(),
            _ => vec![self],
        }
    }

    fn new(content: Content) -> Self {
        Self { content, size: None, background: [255; 3] }
    }

    /// Sets the width and height in pixels, at most 4,096 each. Default: fits the content.
    #[must_use]
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.size = Some((width, height));
        self
    }

    /// Sets the background color: red, green, blue. Default: white.
    #[must_use]
    pub fn background(mut self, color: [u8; 3]) -> Self {
        self.background = color;
        self
    }

    /// Returns the width and height in pixels of the saved figure.
    #[must_use]
    pub fn dimensions(&self) -> (u32, u32) {
        self.size.unwrap_or_else(|| match &self.content {
            Content::Charts { charts, columns } => {
                let columns = (*columns).min(charts.len()).max(1);
                let rows = charts.len().div_ceil(columns).max(1);
                match columns {
                    1 => (800, 480 * rows as u32),
                    n => (560 * n as u32, 400 * rows as u32),
                }
            }
            Content::Grid(grid) => grid.dimensions(),
            Content::Matrix(matrix) => matrix.dimensions(),
        })
    }

    /// Writes the figure as PNG or SVG, depending on the extension of `path`. Missing folders are created.
    ///
    /// # Errors
    /// As [`Figure::image`]; [`Error::Config`] for another extension; [`Error::Io`], naming the path, if the file
    /// cannot be written.
    ///
    /// If several processes train together, only rank 0 writes.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if !distributed::writes_files() {
            return Ok(());
        }
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let bytes = match extension.to_ascii_lowercase().as_str() {
            "png" => self.png()?,
            "svg" => self.svg()?.into_bytes(),
            _ => {
                let why = format!("{} must end in .png or .svg", path.display());
                return Err(Error::config("path", why));
            }
        };
        disk::replace(path, |out| out.write_all(&bytes))
    }

    /// Returns the RGB pixels.
    ///
    /// # Errors
    /// [`Error::Config`] for a size of 0 or above 4,096, and for an invalid option of the content, such as the
    /// range of an axis.
    pub fn image(&self) -> Result<Image> {
        let (width, height) = self.checked()?;
        let fine = (px(width), px(height));
        let mut pixels = vec![0; fine.0 as usize * fine.1 as usize * 3];
        let backend = BitMapBackend::with_buffer(&mut pixels, fine);
        let placed = self.draw(&backend.into_drawing_area())?;
        let mut pixels = averaged(&pixels, width as usize);
        for p in placed {
            paste(&mut pixels, (width, height), &p);
        }
        Image::new(width, height, 3, pixels)
    }

    /// Returns the bytes of a PNG file.
    ///
    /// # Errors
    /// As [`Figure::image`].
    pub fn png(&self) -> Result<Vec<u8>> {
        encode(&self.image()?)
    }

    /// Returns the text of an SVG file. Photos are embedded as PNG. Letters are text in a named
    /// font, which is not embedded.
    ///
    /// # Errors
    /// As [`Figure::image`].
    pub fn svg(&self) -> Result<String> {
        let (width, height) = self.checked()?;
        let fine = (px(width), px(height));
        let mut text = String::new();
        let placed = self.draw(&SVGBackend::with_string(&mut text, fine).into_drawing_area())?;
        // The view box of the backend is already in units; the outer size is in pixels.
        let outer = |(w, h): (u32, u32)| format!(r#"width="{w}" height="{h}" viewBox"#);
        let mut text = text.replacen(&outer(fine), &outer((width, height)), 1);
        let end = text.rfind("</svg>").unwrap_or(text.len());
        let mut pictures = String::new();
        for Placed { x, y, picture } in placed {
            let data = data_url(&picture)?;
            let [x, y, w, h] = [x, y, picture.width(), picture.height()].map(px);
            let tag = format!(r#"<image x="{x}" y="{y}" width="{w}" height="{h}" href="{data}"/>"#);
            writeln!(pictures, "{tag}").map_err(drawing)?;
        }
        text.insert_str(end, &pictures);
        Ok(text)
    }

    /// Shows the figure in a notebook with the Rust kernel (evcxr), which calls this for the last
    /// expression of a cell. If drawing fails, the notebook shows the error.
    pub fn evcxr_display(&self) {
        match self.png() {
            Ok(png) => notebook::show(&[("image/png", &BASE64.encode(png))]),
            Err(e) => notebook::show(&[("text/plain", &e.to_string())]),
        }
    }

    fn checked(&self) -> Result<(u32, u32)> {
        let (width, height) = self.dimensions();
        if [width, height].iter().any(|side| !(1..=LARGEST).contains(side)) {
            let why =
                format!("is {width}x{height}; both sides must be between 1 and {LARGEST} pixels");
            return Err(Error::config("size", why));
        }
        Ok((width, height))
    }

    fn draw<B>(&self, area: &DrawingArea<B, Shift>) -> Result<Vec<Placed>>
    where
        B: DrawingBackend,
    {
        area.fill(&rgb(self.background)).map_err(drawing)?;
        let placed = match &self.content {
            Content::Charts { charts, columns } => {
                let rows = charts.len().div_ceil(*columns);
                let areas = area.split_evenly((rows, (*columns).min(charts.len())));
                for (chart, area) in charts.iter().zip(areas) {
                    chart.draw(&area)?;
                }
                vec![]
            }
            Content::Grid(grid) => grid.draw(area)?,
            Content::Matrix(matrix) => {
                matrix.draw(area)?;
                vec![]
            }
        };
        area.present().map_err(drawing)?;
        Ok(placed)
    }
}

impl From<Chart> for Figure {
    fn from(chart: Chart) -> Self {
        Self::charts(vec![chart], 1)
    }
}

impl From<Grid> for Figure {
    fn from(grid: Grid) -> Self {
        Self::new(Content::Grid(grid))
    }
}

impl From<Matrix> for Figure {
    fn from(matrix: Matrix) -> Self {
        Self::new(Content::Matrix(matrix))
    }
}

/// Averages squares of units to RGB pixels.
fn averaged(units: &[u8], width: usize) -> Vec<u8> {
    let n = UNITS as usize;
    let row = width * n * 3;
    let mut pixels = Vec::with_capacity(units.len() / (n * n));
    for rows in units.chunks_exact(row * n) {
        for x in 0..width {
            for c in 0..3 {
                let square = (0..n).flat_map(|i| (0..n).map(move |j| i * row + (x * n + j) * 3));
                let sum: usize = square.map(|at| usize::from(rows[at + c])).sum();
                pixels.push(((sum + n * n / 2) / (n * n)) as u8);
            }
        }
    }
    pixels
}

/// Copies an image into RGB pixels, clipped at their edges.
fn paste(pixels: &mut [u8], (width, height): (u32, u32), placed: &Placed) {
    let from = placed.picture.view();
    let (h, w, channels) = from.dim();
    let rows = h.min(height.saturating_sub(placed.y) as usize);
    let columns = w.min(width.saturating_sub(placed.x) as usize);
    for row in 0..rows {
        for column in 0..columns {
            let x = placed.x as usize + column;
            let at = ((placed.y as usize + row) * width as usize + x) * 3;
            for c in 0..3 {
                pixels[at + c] = from[(row, column, c.min(channels - 1))];
            }
        }
    }
}

/// Returns the bytes of a PNG file.
pub(super) fn encode(picture: &Image) -> Result<Vec<u8>> {
    let color =
        if picture.channels() == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut bytes = vec![];
    PngEncoder::new(&mut bytes)
        .write_image(picture.pixels(), picture.width(), picture.height(), color)
        .map_err(drawing)?;
    Ok(bytes)
}

/// Returns a photo as a data URL for HTML: a JPEG, about a tenth of the size of a PNG.
pub(super) fn photo_url(picture: &Image) -> Result<String> {
    let color =
        if picture.channels() == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut bytes = vec![];
    JpegEncoder::new_with_quality(&mut bytes, 85)
        .write_image(picture.pixels(), picture.width(), picture.height(), color)
        .map_err(drawing)?;
    Ok(format!("data:image/jpeg;base64,{}", BASE64.encode(bytes)))
}

/// Returns an image as a data URL, for SVG and HTML.
pub(super) fn data_url(picture: &Image) -> Result<String> {
    Ok(format!("data:image/png;base64,{}", BASE64.encode(encode(picture)?)))
}

impl Chart {
    /// Returns the chart as a figure.
    #[must_use]
    pub fn figure(self) -> Figure {
        self.into()
    }
}

impl Grid {
    /// Returns the grid as a figure.
    #[must_use]
    pub fn figure(self) -> Figure {
        self.into()
    }
}
