//! Charts of lines, points and bars.

use super::{
    axis::{Axis, short},
    font::{
        BLACK, LARGE, PALETTE, Rgb, SMALL, UNITS, at, drawing, fit, font, px, rgb, text, width,
    },
};
use crate::error::{Error, Result};
use plotters::{
    chart::{ChartBuilder, ChartContext},
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, VPos},
};
use std::ops::RangeInclusive;

/// A chart: lines, points or bars over two axes, with a legend above them.
///
/// ```
/// use finetune::show::Chart;
/// let chart = Chart::new("learning rate finder")
///     .x("learning rate").log_x()
///     .y("loss")
///     .line("loss", [(1e-5, 1.1), (1e-3, 0.9), (1e-1, 2.0)])
///     .mark("valley", (1e-3, 0.9));
/// let figure = chart.figure();
/// # let _ = figure;
/// ```
/// Points that are not finite, or not positive on a logarithmic axis, are skipped, and a line is
/// interrupted there.
#[derive(Debug, Clone, Default)]
pub struct Chart {
    title: String,
    x: AxisOptions,
    y: AxisOptions,
    series: Vec<Series>,
}

#[derive(Debug, Clone, Default)]
struct AxisOptions {
    name: String,
    log: bool,
    whole: bool,
    range: Option<(f64, f64)>,
}

#[derive(Debug, Clone)]
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Line,
    LineWithDots,
    Dashed,
    /// Draws small translucent dots without a line.
    Points,
    /// Draws one large dot.
    Dot,
    /// Draws bars from 0, with this width in units of x.
    Bars(f64),
}

impl Chart {
    /// Returns an empty chart. An empty title takes no space.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Sets the label of the horizontal axis. Default: none.
    #[must_use]
    pub fn x(mut self, name: impl Into<String>) -> Self {
        self.x.name = name.into();
        self
    }

    /// Sets the label of the vertical axis. Default: none.
    #[must_use]
    pub fn y(mut self, name: impl Into<String>) -> Self {
        self.y.name = name.into();
        self
    }

    /// Makes the horizontal axis logarithmic. Default: linear.
    #[must_use]
    pub fn log_x(mut self) -> Self {
        self.x.log = true;
        self
    }

    /// Restricts tick labels on the horizontal axis to whole numbers, for steps or epochs. Default: all numbers.
    #[must_use]
    pub fn whole_x(mut self) -> Self {
        self.x.whole = true;
        self
    }

    /// Makes the vertical axis logarithmic. Default: linear.
    #[must_use]
    pub fn log_y(mut self) -> Self {
        self.y.log = true;
        self
    }

    /// Sets the range of the horizontal axis, in ascending order. Default: all points are visible.
    #[must_use]
    pub fn x_range(mut self, range: RangeInclusive<f64>) -> Self {
        self.x.range = Some(range.into_inner());
        self
    }

    /// Sets the range of the vertical axis, in ascending order. Default: all points are visible.
    #[must_use]
    pub fn y_range(mut self, range: RangeInclusive<f64>) -> Self {
        self.y.range = Some(range.into_inner());
        self
    }

    /// Adds a line through points.
    #[must_use]
    pub fn line(
        self,
        name: impl Into<String>,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        self.add(name, points, Kind::Line)
    }

    /// Adds a line with visible points, for few points.
    #[must_use]
    pub fn line_with_dots(
        self,
        name: impl Into<String>,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        self.add(name, points, Kind::LineWithDots)
    }

    /// Adds a dashed gray line, for reference.
    #[must_use]
    pub fn dashed(
        self,
        name: impl Into<String>,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        self.add(name, points, Kind::Dashed)
    }

    /// Adds small translucent points without a line, for many points.
    #[must_use]
    pub fn points(
        self,
        name: impl Into<String>,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        self.add(name, points, Kind::Points)
    }

    /// Marks one point with a large dot; its name is in the legend.
    #[must_use]
    pub fn mark(self, name: impl Into<String>, at: (f64, f64)) -> Self {
        self.add(name, [at], Kind::Dot)
    }

    /// Adds bars from 0, centered at each x, with the width `wide` in units of x.
    #[must_use]
    pub fn bars(
        self,
        name: impl Into<String>,
        points: impl IntoIterator<Item = (f64, f64)>,
        wide: f64,
    ) -> Self {
        self.add(name, points, Kind::Bars(wide))
    }

    fn add(
        mut self,
        name: impl Into<String>,
        points: impl IntoIterator<Item = (f64, f64)>,
        kind: Kind,
    ) -> Self {
        let points = points.into_iter().collect();
        self.series.push(Series { name: name.into(), points, kind });
        self
    }

    fn shown(&self, (x, y): (f64, f64)) -> bool {
        x.is_finite() && y.is_finite() && (!self.x.log || x > 0.0) && (!self.y.log || y > 0.0)
    }

    fn check(&self) -> Result<()> {
        for (option, axis) in [("x_range", &self.x), ("y_range", &self.y)] {
            let Some((low, high)) = axis.range else { continue };
            let shown = |v: f64| v.is_finite() && (!axis.log || v > 0.0);
            if !(shown(low) && shown(high) && low < high) {
                let positive = if axis.log { " and above 0" } else { "" };
                let why = format!("is {low} to {high}; it must be ascending, finite{positive}");
                return Err(Error::config(option, why));
            }
        }
        Ok(())
    }

    fn axes(&self) -> (Axis, Axis) {
        let (mut xs, mut ys) = (vec![], vec![]);
        for s in &self.series {
            for &(x, y) in s.points.iter().filter(|p| self.shown(**p)) {
                xs.push(x);
                ys.push(y);
                if let Kind::Bars(wide) = s.kind {
                    xs.extend([x - wide / 2.0, x + wide / 2.0]);
                    ys.push(0.0);
                }
            }
        }
        let x = Axis::around(xs.into_iter(), self.x.log, self.x.range).whole(self.x.whole);
        (x, Axis::around(ys.into_iter(), self.y.log, self.y.range))
    }

    /// Returns the color of each series: the palette cyclically, gray for dashed lines.
    fn colors(&self) -> Vec<Rgb> {
        let mut next = PALETTE[..PALETTE.len() - 1].iter().cycle();
        let gray = PALETTE[PALETTE.len() - 1];
        let color = |s: &Series| match s.kind {
            Kind::Dashed => gray,
            _ => *next.next().unwrap_or(&gray),
        };
        self.series.iter().map(color).collect()
    }

    pub(super) fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<()> {
        self.check()?;
        let (wide, high) = area.dim_in_pixel();
        let colors = self.colors();
        let (x, y) = self.axes();
        let label = |v: &f64| short(*v);
        let y_labels = (high / px(70)).clamp(2, 8) as usize;
        let y_width = y.ticks(y_labels).iter().map(|v| width(&label(v), SMALL)).max().unwrap_or(0);
        let (left, below) = (y_width + SMALL + px(20), 2 * SMALL + px(16));
        let mut top = at(8);
        if !self.title.is_empty() {
            let title = fit(&self.title, LARGE, wide.saturating_sub(px(16)));
            let style = text(&title, LARGE, BLACK, HPos::Center, VPos::Top);
            area.draw(&Text::new(title, (wide as i32 / 2, top), style)).map_err(drawing)?;
            top += LARGE as i32 + at(8);
        }
        let axes = format!("{}{}", self.x.name, self.y.name);
        top = self.legend(area, &colors, (left as i32, top))?;
        let mut context = ChartBuilder::on(area)
            .margin_top(top)
            .margin_right(px(20))
            .margin_left(px(8))
            .margin_bottom(px(4))
            .x_label_area_size(below)
            .y_label_area_size(left)
            .build_cartesian_2d(x, y)
            .map_err(drawing)?;
        context
            .configure_mesh()
            .x_labels((wide / px(90)).clamp(2, 12) as usize)
            .y_labels(y_labels)
            .disable_x_mesh()
            .max_light_lines(0)
            .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd).stroke_width(UNITS))
            .axis_style(RGBColor(0x66, 0x66, 0x66).stroke_width(UNITS))
            .set_all_tick_mark_size(px(5))
            .label_style(font("", SMALL).color(&rgb(BLACK)))
            .axis_desc_style(font(&axes, SMALL).color(&rgb(BLACK)))
            .x_desc(self.x.name.clone())
            .y_desc(self.y.name.clone())
            .x_label_formatter(&label)
            .y_label_formatter(&label)
            .draw()
            .map_err(drawing)?;
        // Draw bars first, then lines, then points on top.
        let order = |s: &Series| match s.kind {
            Kind::Bars(_) => 0,
            Kind::Dashed => 1,
            Kind::Line | Kind::LineWithDots | Kind::Points => 2,
            Kind::Dot => 3,
        };
        let mut series: Vec<_> = self.series.iter().zip(colors).collect();
        series.sort_by_key(|(s, _)| order(s));
        for (s, color) in series {
            self.series(&mut context, s, rgb(color))?;
        }
        Ok(())
    }

    fn series<B: DrawingBackend>(
        &self,
        context: &mut ChartContext<'_, B, Cartesian2d<Axis, Axis>>,
        s: &Series,
        color: RGBColor,
    ) -> Result<()> {
        let shown = || s.points.iter().copied().filter(|p| self.shown(*p));
        if matches!(s.kind, Kind::Line | Kind::LineWithDots | Kind::Dashed) {
            for part in s.points.split(|p| !self.shown(*p)).filter(|part| part.len() > 1) {
                let points = part.iter().copied();
                if s.kind == Kind::Dashed {
                    let dashes =
                        DashedLineSeries::new(points, px(6), px(5), color.stroke_width(px(2)));
                    context.draw_series(dashes).map_err(drawing)?;
                } else {
                    let line = LineSeries::new(points, color.stroke_width(px(2)));
                    context.draw_series(line).map_err(drawing)?;
                }
            }
        }
        let radius = match s.kind {
            // Later marks at the same position are smaller, so that all are visible.
            Kind::Dot => {
                let later = self.series.iter().skip_while(|other| !std::ptr::eq(*other, s)).skip(1);
                let over = later.filter(|o| o.kind == Kind::Dot && o.points == s.points).count();
                px(7) + px(4) * over as u32
            }
            Kind::LineWithDots => px(4),
            // A line of a single point would be invisible.
            Kind::Line | Kind::Dashed if s.points.len() == 1 => px(4),
            _ => 0,
        };
        if radius > 0 {
            let dots = shown().map(|p| Circle::new(p, radius, color.filled()));
            context.draw_series(dots).map_err(drawing)?;
        }
        if s.kind == Kind::Points {
            let dots = shown().map(|p| Circle::new(p, px(4), color.mix(0.5).filled()));
            context.draw_series(dots).map_err(drawing)?;
        }
        if s.kind == Kind::Dot {
            let rings = shown().map(|p| Circle::new(p, radius, ring()));
            context.draw_series(rings).map_err(drawing)?;
        }
        if let Kind::Bars(wide) = s.kind {
            let half = wide * 0.45;
            let bars = shown()
                .map(|(x, y)| Rectangle::new([(x - half, 0.0), (x + half, y)], color.filled()));
            context.draw_series(bars).map_err(drawing)?;
        }
        Ok(())
    }

    /// Draws the names of the series, in rows from `start`. Returns where the chart may begin.
    fn legend<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        colors: &[Rgb],
        start: (i32, i32),
    ) -> Result<i32> {
        let named: Vec<_> =
            self.series.iter().zip(colors).filter(|(s, _)| !s.name.is_empty()).collect();
        let alone = self.series.len() == 1 && named.iter().all(|(s, _)| s.name == self.y.name);
        if named.is_empty() || alone {
            return Ok(start.1);
        }
        let (sign, gap, line) = (at(26), at(22), SMALL as i32 + at(8));
        let limit = area.dim_in_pixel().0 as i32 - at(16);
        let (mut x, mut y) = start;
        for (s, color) in named {
            let name = fit(&s.name, SMALL, (limit - sign - start.0).max(0) as u32);
            let wide = sign + width(&name, SMALL) as i32;
            if x > start.0 && x + wide > limit {
                (x, y) = (start.0, y + line);
            }
            // The key is at the height of the middle of lowercase letters.
            key(area, s.kind, rgb(*color), (x, y + SMALL as i32 / 3))?;
            let style = text(&name, SMALL, BLACK, HPos::Left, VPos::Top);
            area.draw(&Text::new(name, (x + sign, y), style)).map_err(drawing)?;
            x += wide + gap;
        }
        Ok(y + line + at(4))
    }
}

/// Draws the symbol of a series before its name.
fn key<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    kind: Kind,
    color: RGBColor,
    (x, y): (i32, i32),
) -> Result<()> {
    let line = |from: i32, to: i32, wide: u32| {
        let line = PathElement::new([(x + at(from), y), (x + at(to), y)], color.stroke_width(wide));
        area.draw(&line).map_err(drawing)
    };
    match kind {
        Kind::Dot => {
            let dot = Circle::new((x + at(10), y), px(6), color.filled());
            area.draw(&dot).map_err(drawing)?;
            area.draw(&Circle::new((x + at(10), y), px(6), ring())).map_err(drawing)
        }
        Kind::Points => {
            let dot = Circle::new((x + at(10), y), px(4), color.filled());
            area.draw(&dot).map_err(drawing)
        }
        Kind::Bars(_) => {
            let bar = [(x + at(3), y - at(6)), (x + at(17), y + at(6))];
            area.draw(&Rectangle::new(bar, color.filled())).map_err(drawing)
        }
        Kind::Dashed => {
            line(0, 8, px(2))?;
            line(12, 20, px(2))
        }
        Kind::Line | Kind::LineWithDots => line(0, 20, px(3)),
    }
}

/// Returns a thin outline for marks.
fn ring() -> ShapeStyle {
    rgb(BLACK).stroke_width(UNITS)
}
