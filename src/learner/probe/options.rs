//! The options of a linear probe.

use crate::error::{Error, Result};

/// The options of [`Learner::probe_with`](crate::learner::Learner::probe_with).
///
/// ```
/// use finetune::learner::ProbeOptions;
///
/// let options = ProbeOptions::new().l2(0.01).max_iterations(500);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct ProbeOptions {
    pub(super) l2: Option<f64>,
    inner_valid_pct: Option<f64>,
    pub(super) max_iterations: usize,
    pub(super) tolerance: f64,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self { l2: None, inner_valid_pct: None, max_iterations: 2000, tolerance: 1e-6 }
    }
}

impl ProbeOptions {
    /// Returns the default options: the regularization is chosen by an inner split.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the weight `l2` of the penalty `l2 / 2 · ‖W‖²`, which is added to the mean loss of the
    /// training items on standardized features. scikit-learn's `C` is `1 / (l2 · items)`. Must be
    /// positive. Default: chosen by an inner split.
    pub fn l2(mut self, l2: f64) -> Self {
        self.l2 = Some(l2);
        self
    }

    /// Sets the fraction of the training items on which candidates for `l2` are compared, between 0 and 1. It
    /// cannot be combined with [`l2`](Self::l2). Default: 0.2.
    pub fn inner_valid_pct(mut self, pct: f64) -> Self {
        self.inner_valid_pct = Some(pct);
        self
    }

    /// Sets the maximum number of iterations of one regression, 1 or more. Default: 2000.
    pub fn max_iterations(mut self, n: usize) -> Self {
        self.max_iterations = n;
        self
    }

    /// Sets the largest absolute value of a gradient component at which a regression has converged. Must be
    /// positive. Default: 1e-6.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Returns the fraction of the training items that the inner split holds out.
    pub(super) fn held_out(&self) -> f64 {
        self.inner_valid_pct.unwrap_or(0.2)
    }

    pub(super) fn check(&self) -> Result<()> {
        if let Some(l2) = self.l2.filter(|l2| !(l2.is_finite() && *l2 > 0.0)) {
            return Err(Error::config("l2", format!("is {l2}; it must be positive and finite")));
        }
        if self.l2.is_some() && self.inner_valid_pct.is_some() {
            let why = "has no effect with `l2`, which is chosen without an inner split";
            return Err(Error::config("inner_valid_pct", why));
        }
        let pct = self.held_out();
        if !(pct > 0.0 && pct < 1.0) {
            let why = format!("is {pct}; it must be between 0 and 1");
            return Err(Error::config("inner_valid_pct", why));
        }
        if self.max_iterations == 0 {
            return Err(Error::config("max_iterations", "is 0; it must be 1 or more"));
        }
        if !(self.tolerance.is_finite() && self.tolerance > 0.0) {
            let why = format!("is {}; it must be positive and finite", self.tolerance);
            return Err(Error::config("tolerance", why));
        }
        Ok(())
    }
}
