//! Figures, charts, tables and the report. No other module imports this one.

mod axis;
mod batch;
mod canvas;
mod chart;
mod check;
mod fallback;
mod figure;
mod font;
mod graph;
mod grid;
mod html;
mod interpret;
mod lr_find;
mod matrix;
mod notebook;
mod overlay;
mod plot_function;
mod recorder;
mod report;
mod results;
mod seen;
mod table;
mod tables;
#[cfg(feature = "terminal")]
mod terminal;

pub use batch::{ShowBatch, show_images};
pub use chart::Chart;
pub use fallback::add_font;
pub use figure::Figure;
pub use graph::ShowGraph;
pub use grid::{Cell, Grid};
pub use interpret::ConfusionPlot;
pub use plot_function::plot_function;
pub use recorder::plot_policy;
pub use report::Report;
pub use table::Table;
