//! Options of building a network, and the rounding of widths.

/// Options of building a network.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct Build {
    /// The number of channels of the images.
    pub(in crate::model) n_in: i64,
    /// The number of outputs of the classifier.
    pub(in crate::model) n_out: i64,
    /// The height and width of the images, if not the network's own. Only networks whose variables depend
    /// on the size use it.
    pub(in crate::model) size: Option<[i64; 2]>,
    /// The rate of stochastic depth of the last block, if not the network's own.
    pub(in crate::model) drop_path: Option<f64>,
    /// The rate of dropout before the classifier, if not the network's own.
    pub(in crate::model) drop: Option<f64>,
    /// If true, the network's own classifier is built too.
    pub(in crate::model) whole: bool,
}

/// The implementation whose names and shapes the variables have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Layout {
    /// timm's.
    Timm,
    /// torchvision's.
    Torchvision,
}

/// Rounds `n` to a multiple of `step` that is not below 90 % of it: timm's `make_divisible`.
pub(super) fn divisible(n: i64, step: i64) -> i64 {
    divisible_f(n as f64, step)
}

/// As [`divisible`], for a float.
pub(super) fn divisible_f(n: f64, step: i64) -> i64 {
    let rounded = nearest_multiple(n, step);
    if (rounded as f64) < 0.9 * n { rounded + step } else { rounded }
}

/// Returns the nearest multiple of `step` that is not 0.
pub(super) fn nearest_multiple(n: f64, step: i64) -> i64 {
    ((n + step as f64 / 2.0) as i64 / step * step).max(step)
}
