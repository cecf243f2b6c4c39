//! The curve of the learning-rate finder, and its suggestions.

use crate::error::{Error, Result};
use tch::{Kind, Tensor};

/// A function that suggests a learning rate, such as [`LrCurve::valley`] or your own.
pub type SuggestFunction = fn(&LrCurve) -> Result<f64>;

/// A suggested learning rate.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Suggestion {
    /// The name of the suggestion.
    pub name: String,
    /// The learning rate.
    pub lr: f64,
    /// The smoothed loss at that rate.
    pub loss: f64,
}

/// The smoothed losses of a sweep of the learning rate.
///
/// Smith, [Cyclical Learning Rates](https://arxiv.org/abs/1506.01186); the suggestions are
/// [fastai's](https://docs.fast.ai/callback.schedule.html#learner.lr_find).
#[derive(Debug, Clone, PartialEq)]
#[must_use]
#[non_exhaustive]
pub struct LrCurve {
    /// The learning rates, in geometric progression.
    pub lrs: Vec<f64>,
    /// The smoothed loss at each learning rate.
    pub losses: Vec<f64>,
    /// The reason why the sweep ended before its last step; `None` if it did not.
    pub ended: Option<String>,
}

impl LrCurve {
    /// Returns a curve from learning rates and the loss at each.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the number of losses differs from the number of rates.
    pub fn new(lrs: Vec<f64>, losses: Vec<f64>) -> Result<Self> {
        let curve = Self { lrs, losses, ended: None };
        curve.at_least(0, "new")?;
        Ok(curve)
    }

    /// Returns the curve without its first tenth, the last five of its `steps` points, and everything from the
    /// first NaN loss on.
    #[doc(hidden)]
    pub fn trimmed(lrs: &[f64], losses: &[f64], steps: usize) -> Self {
        let from = steps / 10;
        // A NaN loss ends the sweep. In fastai, the sweep continues, and its last points are NaN.
        let to = match losses.iter().position(|l| l.is_nan()) {
            Some(nan) => nan.min(losses.len().max(steps).saturating_sub(5)),
            None => losses.len().saturating_sub(5),
        };
        let kept = |v: &[f64]| v.get(from..to).unwrap_or_default().to_vec();
        Self { lrs: kept(lrs), losses: kept(losses), ended: None }
    }

    /// Checks that the curve has at least this number of points, as the function `suggestion` needs.
    pub(crate) fn at_least(&self, points: usize, suggestion: &str) -> Result<()> {
        let (rates, losses) = (self.lrs.len(), self.losses.len());
        if rates != losses {
            let why = format!("{rates} learning rates, but {losses} losses");
            return Err(Error::mismatch("learning-rate curve", why));
        }
        if losses >= points {
            return Ok(());
        }
        let what = self.ended.as_deref().unwrap_or("use more steps");
        let why =
            format!("`{suggestion}` needs {points} points, but the curve has {losses}: {what}");
        Err(Error::config("lr_find", why))
    }

    /// Returns the rate halfway along the longest valley: the longest decreasing subsequence of
    /// losses. fastai's default.
    ///
    /// # Errors
    /// [`Error::Config`] if the curve is empty; [`Error::Mismatch`] if the numbers of rates and losses differ.
    pub fn valley(&self) -> Result<f64> {
        self.at_least(1, "valley")?;
        let losses = &self.losses;
        let n = losses.len();
        let mut longest = vec![1_usize; n];
        // The start is one before the valley: -1 if the valley is the whole curve.
        let (mut start, mut end) = (0_isize, 0);
        for i in 1..n {
            for j in 0..i {
                if losses[i] < losses[j] && longest[i] < longest[j] + 1 {
                    longest[i] = longest[j] + 1;
                }
                if longest[end] < longest[i] {
                    end = i;
                    start = end as isize - longest[end] as isize;
                }
            }
        }
        let section = (end as isize - start) as f64 / 3.0;
        let at = start + section as isize + (section / 2.0) as isize;
        // For curves of two points the index is -1, the last point, as in fastai.
        Ok(self.lrs[at.rem_euclid(n as isize) as usize])
    }

    /// Returns a tenth of the rate with the lowest loss.
    ///
    /// # Errors
    /// [`Error::Config`] if the curve is empty; [`Error::Mismatch`] if the numbers of rates and losses differ.
    pub fn minimum(&self) -> Result<f64> {
        self.at_least(1, "minimum")?;
        Ok(self.lrs[least(&single(&self.losses))?] / 10.0)
    }

    /// Returns the rate of the steepest descent of the loss over the logarithm of the rate.
    ///
    /// # Errors
    /// [`Error::Config`] if the curve has fewer than two points; [`Error::Mismatch`] if the numbers of rates and
    /// losses differ.
    pub fn steep(&self) -> Result<f64> {
        self.at_least(2, "steep")?;
        let steps = |t: Tensor| t.narrow(0, 1, t.size()[0] - 1) - t.narrow(0, 0, t.size()[0] - 1);
        let slopes = steps(single(&self.losses)) / steps(single(&self.lrs).log());
        Ok(self.lrs[least(&slopes)?])
    }

    /// Returns the rate at which, searching from the right, the slopes of points 15 apart agree within
    /// 0.005.
    ///
    /// # Errors
    /// [`Error::Config`] if the curve has fewer than 16 points; [`Error::Mismatch`] if the numbers of rates and
    /// losses differ.
    pub fn slide(&self) -> Result<f64> {
        self.slide_with(15, 0.005, 1.0)
    }

    /// As [`LrCurve::slide`], with another distance and threshold, and a factor for the result.
    ///
    /// # Errors
    /// [`Error::Config`] if the curve is not longer than the distance; [`Error::Mismatch`] if the numbers of rates
    /// and losses differ.
    pub fn slide_with(&self, distance: usize, threshold: f64, factor: f64) -> Result<f64> {
        // No curve has `usize::MAX` points, so saturation does not change the result.
        self.at_least(distance.saturating_add(1), "slide")?;
        let slopes = gradient(&self.losses);
        let (mut right, mut left) = (slopes.len() - 1, slopes.len() - 1 - distance);
        let mut lr = self.lrs[left];
        while (slopes[right] - slopes[left]).abs() > threshold {
            lr = self.lrs[left];
            if left == 0 {
                break;
            }
            (right, left) = (right - 1, left - 1);
        }
        Ok(lr * factor)
    }

    /// Returns named suggestions, of this crate or your own, each with its position on the curve.
    ///
    /// # Errors
    /// The errors of the suggestion functions.
    ///
    /// ```
    /// use finetune::learner::LrCurve;
    ///
    /// // The highest rate whose loss is below the first loss.
    /// fn brave(found: &LrCurve) -> finetune::Result<f64> {
    ///     let first = found.losses[0];
    ///     let last = found.losses.iter().rposition(|l| *l < first).unwrap_or(0);
    ///     Ok(found.lrs[last])
    /// }
    /// let found = LrCurve::new(vec![1e-4, 1e-3, 1e-2, 1e-1], vec![2.0, 1.8, 1.5, 3.0])?;
    /// let all = found.suggestions(&[("valley", LrCurve::valley), ("brave", brave)])?;
    /// assert_eq!((all[1].lr, all[1].loss), (1e-2, 1.5));
    /// # Ok::<(), finetune::Error>(())
    /// ```
    pub fn suggestions(&self, functions: &[(&str, SuggestFunction)]) -> Result<Vec<Suggestion>> {
        let suggest = |(name, function): &(&str, SuggestFunction)| {
            let lr = function(self)?;
            Ok(Suggestion { name: (*name).to_owned(), lr, loss: self.loss_at(lr) })
        };
        functions.iter().map(suggest).collect()
    }

    /// Returns the loss at `lr`, interpolated over the logarithm of the rate, for drawing suggestions. NaN
    /// if there are no points, or if the numbers of losses and rates differ.
    #[must_use]
    pub fn loss_at(&self, lr: f64) -> f64 {
        if self.lrs.len() != self.losses.len() {
            return f64::NAN;
        }
        let after = self.lrs.iter().position(|l| *l >= lr);
        match after {
            Some(0) => self.losses[0],
            Some(i) => {
                let (a, b) = (self.lrs[i - 1].ln(), self.lrs[i].ln());
                let part = (lr.ln() - a) / (b - a);
                self.losses[i - 1] + part * (self.losses[i] - self.losses[i - 1])
            }
            None => self.losses.last().copied().unwrap_or(f64::NAN),
        }
    }
}

/// Converts to 32 bits, which fastai uses: among equal slopes, the rounding decides.
fn single(values: &[f64]) -> Tensor {
    Tensor::from_slice(values).to_kind(Kind::Float)
}

/// Returns the index of the first smallest value.
fn least(values: &Tensor) -> Result<usize> {
    Ok(i64::try_from(values.argmin(None, false))? as usize)
}

/// Returns central differences, one-sided at the ends, as numpy's `gradient` in 32 bits.
fn gradient(values: &[f64]) -> Vec<f64> {
    let n = values.len();
    let v = |i: usize| values[i] as f32;
    (0..n)
        .map(|i| match i {
            _ if n < 2 => 0.0,
            0 => f64::from(v(1) - v(0)),
            i if i + 1 == n => f64::from(v(i) - v(i - 1)),
            i => f64::from((v(i + 1) - v(i - 1)) / 2.0),
        })
        .collect()
}
