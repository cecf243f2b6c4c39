//! Pictures of what the rest of the crate knows. Nothing else imports this.

mod axis;
mod chart;
mod figure;
mod font;
mod grid;
mod matrix;

pub use chart::{Chart, plot_function};
pub use figure::Figure;
pub use grid::{Cell, Grid};
