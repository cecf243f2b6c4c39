//! The graph of a function.

use super::{Chart, Figure};
use std::ops::RangeInclusive;

/// Draws the graph of a function at 400 points.
///
/// ```
/// use finetune::show::plot_function;
/// let figure = plot_function("-log(x)", |x| -x.ln(), 0.01..=1.0);
/// assert_eq!(figure.dimensions(), (800, 480));
/// ```
#[must_use]
pub fn plot_function(
    title: impl Into<String>,
    f: impl Fn(f64) -> f64,
    range: RangeInclusive<f64>,
) -> Figure {
    let (a, b) = range.into_inner();
    let points = (0..400).map(|i| a + (b - a) * f64::from(i) / 399.0).map(|x| (x, f(x)));
    Chart::new(title).x("x").line("", points).figure()
}
