//! Pictures of what the rest of the crate knows. Nothing else imports this.

mod axis;
mod batch;
mod chart;
mod figure;
mod font;
mod grid;
mod interpret;
mod lr_find;
mod matrix;
mod recorder;

pub use chart::{Chart, plot_function};
pub use figure::Figure;
pub use grid::{Cell, Grid};
pub use interpret::ConfusionPlot;
