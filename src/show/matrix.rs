//! A matrix of counts or fractions with names at its sides.

use super::font::{
    BLACK, LARGE, NORMAL, Rgb, SMALL, UNITS, WHITE, at, drawing, fit, px, rgb, text, upwards, width,
};
use crate::error::Result;
use ndarray::Array2;
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

/// A matrix as colored squares with numbers: rows are true categories, columns predicted ones.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    pub(super) title: String,
    pub(super) names: Vec<String>,
    /// Counts, or fractions of a row.
    pub(super) values: Array2<f64>,
    /// The number of decimals: 0 for counts.
    pub(super) decimals: usize,
    /// Smaller numbers are not written. Their squares are still colored.
    pub(super) least: f64,
}

/// The maximum width of a name, in units. Longer names are truncated with an ellipsis.
const NAME: u32 = px(220);
/// The text color on light squares. It differs from black, so that dark-mode style sheets do not change it.
const ON_LIGHT: Rgb = [0x20, 0x20, 0x20];
/// The blues of ColorBrewer for zero, half of the maximum, and the maximum.
const BLUES: [Rgb; 3] = [[0xf4, 0xf8, 0xfd], [0x6b, 0xae, 0xd6], [0x08, 0x30, 0x6b]];

/// Positions, in units.
struct Layout {
    /// The side of a square.
    cell: u32,
    /// The position of the first square.
    left: u32,
    top: u32,
}

impl Matrix {
    fn name_width(&self) -> u32 {
        self.names.iter().map(|s| width(s, SMALL).min(NAME)).max().unwrap_or(0)
    }

    /// Returns the margins around the squares: left, top, right and bottom.
    fn margins(&self) -> (u32, u32, u32, u32) {
        let names = self.name_width() + px(16);
        let title = if self.title.is_empty() { px(12) } else { LARGE + px(24) };
        (names + NORMAL + px(16), title, px(20), names + NORMAL + px(20))
    }

    pub(super) fn dimensions(&self) -> (u32, u32) {
        let n = self.names.len().max(1) as u32;
        let number = width(&self.written(self.largest()), SMALL) + px(8);
        // Up to about 60 names, every square shows its number; even thousands can be drawn.
        let least = number.max(SMALL + px(8));
        let cell = (px(640) / n).clamp(least, least.max(px(72)));
        let cell = cell.min((px(2400) / n).max(1));
        let (left, top, right, bottom) = self.margins();
        ((left + n * cell + right).div_ceil(UNITS), (top + n * cell + bottom).div_ceil(UNITS))
    }

    fn largest(&self) -> f64 {
        self.values.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max)
    }

    fn written(&self, v: f64) -> String {
        format!("{v:.*}", self.decimals)
    }

    pub(super) fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<()> {
        let (wide, height) = area.dim_in_pixel();
        let n = self.names.len().max(1) as u32;
        let (left, top, right, bottom) = self.margins();
        let room = wide.saturating_sub(left + right).min(height.saturating_sub(top + bottom));
        let layout = Layout { cell: (room / n).max(1), left, top };
        let side = (n * layout.cell) as i32;
        let (left, top) = (left as i32, top as i32);
        let put = |s: String, at: (i32, i32), style: TextStyle<'static>| {
            area.draw(&Text::new(s, at, style)).map_err(drawing)
        };
        let middle = (left + side / 2, top + side / 2);
        if !self.title.is_empty() {
            let title = fit(&self.title, LARGE, wide.saturating_sub(px(16)));
            let style = text(&title, LARGE, BLACK, HPos::Center, VPos::Top);
            put(title, (middle.0, at(12)), style)?;
        }
        let style = text("", NORMAL, BLACK, HPos::Center, VPos::Bottom);
        put("Predicted".into(), (middle.0, height as i32 - at(8)), style)?;
        put(
            "Actual".into(),
            (at(8), middle.1),
            upwards("", NORMAL, BLACK, HPos::Center, VPos::Top),
        )?;
        self.squares(area, &layout)?;
        self.sides(area, &layout)
    }

    fn squares<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        &Layout { cell, left, top }: &Layout,
    ) -> Result<()> {
        let largest = self.largest();
        let side = cell as i32;
        // Separate squares that are large enough by a thin white line.
        let line = if cell >= px(10) { at(1) } else { 0 };
        for ((row, column), &value) in self.values.indexed_iter() {
            let share = if largest > 0.0 && value.is_finite() { value / largest } else { 0.0 };
            let color = shade(share);
            let x = (left + column as u32 * cell) as i32;
            let y = (top + row as u32 * cell) as i32;
            let corners = [(x, y), (x + side - line, y + side - line)];
            area.draw(&Rectangle::new(corners, rgb(color).filled())).map_err(drawing)?;
            let number = self.written(value);
            let fits = cell >= SMALL + px(2) && width(&number, SMALL) + px(2) <= cell;
            if value.is_finite() && value >= self.least && fits {
                // Luminance decides the text color on the square.
                let [r, g, b] = color.map(f64::from);
                let dark = 0.299 * r + 0.587 * g + 0.114 * b < 140.0;
                let ink = if dark { WHITE } else { ON_LIGHT };
                let style = text("", SMALL, ink, HPos::Center, VPos::Center);
                area.draw(&Text::new(number, (x + side / 2, y + side / 2), style))
                    .map_err(drawing)?;
            }
        }
        Ok(())
    }

    /// Draws the names: all of them, or every k-th if squares are smaller than letters.
    fn sides<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        &Layout { cell, left, top }: &Layout,
    ) -> Result<()> {
        let every = (SMALL + px(2)).div_ceil(cell) as usize;
        let end = top + self.names.len() as u32 * cell;
        for (i, name) in self.names.iter().enumerate().step_by(every) {
            let name = fit(name, SMALL, NAME);
            let middle = i as u32 * cell + cell / 2;
            let row = Text::new(
                name.clone(),
                (left as i32 - at(8), (top + middle) as i32),
                text(&name, SMALL, BLACK, HPos::Right, VPos::Center),
            );
            area.draw(&row).map_err(drawing)?;
            let style = upwards(&name, SMALL, BLACK, HPos::Right, VPos::Center);
            let place = ((left + middle) as i32, end as i32 + at(8));
            let column = Text::new(name, place, style);
            area.draw(&column).map_err(drawing)?;
        }
        Ok(())
    }
}

/// Returns a shade from nearly white to dark blue. The square root makes a single mistake among hundreds of
/// correct items visible.
fn shade(share: f64) -> Rgb {
    let t = share.clamp(0.0, 1.0).sqrt() * 2.0;
    let (from, to, t) =
        if t < 1.0 { (BLUES[0], BLUES[1], t) } else { (BLUES[1], BLUES[2], t - 1.0) };
    std::array::from_fn(|i| {
        let (from, to) = (f64::from(from[i]), f64::from(to[i]));
        (from + (to - from) * t).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::{super::Figure, *};

    fn confused(n: usize) -> Matrix {
        let values = Array2::from_shape_fn((n, n), |(i, j)| match (i, j) {
            (i, j) if i == j => 36.0 + (i % 5) as f64,
            (i, j) => ((i * 7 + j * 13) % 29 / 26) as f64 * (1 + i % 4) as f64,
        });
        let names = (0..n).map(|i| format!("american_pit_bull_{i}")).collect();
        Matrix { title: "Confusion matrix".into(), names, values, decimals: 0, least: 1.0 }
    }

    #[test]
    fn every_size_is_drawn() {
        for n in [0, 1, 3, 37, 300] {
            let figure = Figure::from(confused(n));
            let (w, h) = figure.dimensions();
            assert!(w < 3000 && h < 3000, "{n}: {w}x{h}");
            let image = figure.image().unwrap();
            if let Some(folder) = std::env::var_os("FINETUNE_SHOW_DIR") {
                figure.save(std::path::Path::new(&folder).join(format!("matrix{n}.png"))).unwrap();
            }
            let blue = image.pixels().chunks(3).filter(|p| p[2] > p[0].saturating_add(20)).count();
            assert!(n == 0 || blue > 500, "{n}: {blue}");
        }
    }
}
