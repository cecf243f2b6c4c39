//! What a network is built for, and how widths are rounded.

/// What a network is built for.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct Build {
    /// Channels of the images.
    pub(in crate::model) n_in: i64,
    /// Outputs of the classifier.
    pub(in crate::model) n_out: i64,
    /// Height and width of the images, if other than the network's own. Only networks whose variables
    /// depend on the size use it.
    pub(in crate::model) size: Option<[i64; 2]>,
    /// The rate of stochastic depth of the last block, if other than the network's own.
    pub(in crate::model) drop_path: Option<f64>,
    /// The rate of dropout before the classifier, if other than the network's own.
    pub(in crate::model) drop: Option<f64>,
    /// Whether the network's own classifier is built too.
    pub(in crate::model) whole: bool,
}

/// Whose names and shapes the variables have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Layout {
    /// timm's.
    Timm,
    /// torchvision's.
    Torchvision,
}

/// `n` as a multiple of `step`, the nearest that is not below nine tenths of it: timm's
/// `make_divisible`.
pub(super) fn divisible(n: i64, step: i64) -> i64 {
    divisible_f(n as f64, step)
}

/// [`divisible`] of a fraction.
pub(super) fn divisible_f(n: f64, step: i64) -> i64 {
    let rounded = nearest_multiple(n, step);
    if (rounded as f64) < 0.9 * n { rounded + step } else { rounded }
}

/// The nearest multiple of `step` that is not 0.
pub(super) fn nearest_multiple(n: f64, step: i64) -> i64 {
    ((n + step as f64 / 2.0) as i64 / step * step).max(step)
}
