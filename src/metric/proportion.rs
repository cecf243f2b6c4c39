//! A proportion with its confidence interval.

use std::fmt;

/// A proportion of items, such as an accuracy or a recall. Its two counts define it, so the struct is
/// exhaustive.
///
/// ```
/// use finetune::metric::Proportion;
/// let p = Proportion { hits: 8, of: 10 };
/// let (low, high) = p.interval();
/// assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4);
/// assert_eq!(p.to_string(), "0.800 (95 % interval 0.490 to 0.943)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proportion {
    /// The number of items that count, for example correct ones.
    pub hits: usize,
    /// The total number of items.
    pub of: usize,
}

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

impl Proportion {
    /// Returns the proportion; NaN without items.
    #[must_use]
    pub fn value(self) -> f64 {
        self.hits as f64 / self.of as f64
    }

    /// Returns the 95 % confidence interval of Wilson (1927, "Probable Inference, the Law of Succession,
    /// and Statistical Inference"). It is never empty and stays within 0 and 1. Without items, it is 0 to
    /// 1.
    #[must_use]
    pub fn interval(self) -> (f64, f64) {
        if self.of == 0 {
            return (0.0, 1.0);
        }
        let (p, n) = (self.value(), self.of as f64);
        let scale = 1.0 + Z * Z / n;
        let center = (p + Z * Z / (2.0 * n)) / scale;
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
        // At both ends, rounding errors would move the bound away from 0 or 1.
        let low = if self.hits == 0 { 0.0 } else { center - half };
        let high = if self.hits == self.of { 1.0 } else { center + half };
        (low, high)
    }
}

impl fmt::Display for Proportion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.interval();
        write!(f, "{:.3} (95 % interval {low:.3} to {high:.3})", self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_scipy() {
        // scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
        let known = [
            (8, 10, 0.4901624715366418, 0.9433178485456248),
            (0, 5, 0.0, 0.43448246478317476),
            (90, 100, 0.8256343384950865, 0.9447708629393249),
            (5, 5, 1.0 - 0.43448246478317476, 1.0),
        ];
        for (hits, of, low, high) in known {
            let (a, b) = Proportion { hits, of }.interval();
            assert!((a - low).abs() < 1e-12 && (b - high).abs() < 1e-12, "{hits} of {of}: {a} {b}");
        }
        assert_eq!(Proportion { hits: 0, of: 0 }.interval(), (0.0, 1.0));
    }
}
