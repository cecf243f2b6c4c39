//! Axes with round tick values, linear or logarithmic.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// One axis: its range and its mapping to pixels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    whole: bool,
}

impl Axis {
    /// Returns an axis for all `values` that can be shown: finite ones, and positive ones if it is
    /// logarithmic. Adds a margin at both ends unless `range` is set, whose ends must be such values in ascending
    /// order.
    pub(super) fn around(
        values: impl Iterator<Item = f64>,
        log: bool,
        range: Option<(f64, f64)>,
    ) -> Self {
        let shown = |v: &f64| v.is_finite() && (!log || *v > 0.0);
        if let Some((low, high)) = range {
            return Self { low, high, log, whole: false };
        }
        let (mut low, mut high) = values
            .filter(shown)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if low > high {
            (low, high) = if log { (0.1, 1.0) } else { (0.0, 1.0) };
        }
        let (a, b) = if log { (low.log10(), high.log10()) } else { (low, high) };
        // A single value gets a range of its own size, so that tick labels differ; on a logarithmic axis, a
        // decade or more.
        let room = if b - a > 1e-9 * a.abs().max(b.abs()) {
            0.04 * (b - a)
        } else if log || a == 0.0 {
            a.abs().max(1.0) / 2.0
        } else {
            a.abs() / 2.0
        };
        let (a, b) = (a - room, b + room);
        let (low, high) = if log { (10f64.powf(a), 10f64.powf(b)) } else { (a, b) };
        // The margins of the smallest and of the largest numbers are beyond what a number can be.
        let least = if log { f64::from_bits(1) } else { f64::MIN };
        Self { low: low.max(least), high: high.min(f64::MAX), log, whole: false }
    }

    /// Restricts the ticks to whole numbers.
    pub(super) fn whole(self, whole: bool) -> Self {
        Self { whole, ..self }
    }

    fn place(&self, v: f64) -> f64 {
        if self.log {
            (v / self.low).ln() / (self.high / self.low).ln()
        } else {
            (v - self.low) / (self.high - self.low)
        }
    }

    /// Returns at most `most` round tick values in the range.
    pub(super) fn ticks(&self, most: usize) -> Vec<f64> {
        let most = most.max(2);
        if !self.log {
            let rough = self.high / most as f64 - self.low / most as f64;
            let mut step = step(if self.whole { rough.max(1.0) } else { rough });
            if !(step.is_finite() && step > 0.0) {
                // No number is between those of a range of the smallest ones.
                return vec![self.low, self.high];
            }
            if self.whole {
                // 2.5 is a step, but not a whole number.
                step = step.ceil();
            }
            let first = (self.low / step).ceil() as i64;
            let last = (self.high / step).floor() as i64;
            return (first..=last).map(|i| tidy(i as f64 * step)).collect();
        }
        let decades = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let among = |factors: &[f64], every: i32| -> Vec<f64> {
            let all = (decades.0..=decades.1).filter(|d| d % every == 0);
            all.flat_map(|d| factors.iter().map(move |f| tidy(f * 10f64.powi(d))))
                .filter(|v| (self.low..=self.high).contains(v))
                .collect()
        };
        let every = among(&[1.0], 1).len().div_ceil(most).max(1) as i32;
        [&[1.0, 2.0, 5.0][..], &[1.0, 3.0]]
            .into_iter()
            .map(|factors| among(factors, 1))
            .find(|ticks| ticks.len() <= most)
            .unwrap_or_else(|| among(&[1.0], every))
    }
}

/// Returns the smallest of 1, 2, 2.5, 5 times a power of ten that is not below `rough`.
fn step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|f| f * power)
        .find(|s| *s >= rough * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// Rounds off the last digits, so that 0.1 * 3 equals 0.3.
fn tidy(v: f64) -> f64 {
    format!("{v:.12e}").parse().unwrap_or(v)
}

/// Formats a number in short form: 0.05, 250, 3e-4, 2.5e6.
pub(super) fn short(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        a if (1e-2..1e5).contains(&a) => {
            let text = format!("{v:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => {
            let text = format!("{v:.2e}");
            let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        // Points far outside are drawn just outside, because pixels are i32.
        let at = self.place(*value).clamp(-4.0, 5.0);
        limit.0 + (f64::from(limit.1 - limit.0) * at).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        self.ticks(hint.bold_points())
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        short(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let axis = Axis::around([0.0, 0.93].into_iter(), false, None);
        assert_eq!(axis.ticks(6), [0.0, 0.2, 0.4, 0.6, 0.8]);
        let axis = Axis::around([1e-7, 10.0].into_iter(), true, None);
        assert_eq!(axis.ticks(9), [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0]);
        assert_eq!(axis.ticks(4), [1e-6, 1e-3, 1.0]);
        let axis = Axis::around([0.002, 0.04].into_iter(), true, None);
        assert_eq!(axis.ticks(8), [0.002, 0.005, 0.01, 0.02]);
    }

    #[test]
    fn whole_ticks_are_whole() {
        let ticks =
            |high: f64| Axis::around([0.0, high].into_iter(), false, None).whole(true).ticks(5);
        assert_eq!(ticks(2.0), [0.0, 1.0, 2.0]);
        assert_eq!(ticks(11.0), [0.0, 3.0, 6.0, 9.0]);
    }

    #[test]
    fn no_values_one_value_and_bad_values_still_make_an_axis() {
        for values in [vec![], vec![3.0], vec![f64::NAN, f64::INFINITY], vec![-1.0, 0.0]] {
            for log in [false, true] {
                let axis = Axis::around(values.iter().copied(), log, None);
                assert!(axis.low < axis.high, "{values:?} {log}");
                assert!(!axis.ticks(8).is_empty(), "{values:?} {log} {axis:?}");
            }
        }
    }

    #[test]
    fn the_smallest_and_the_largest_numbers_have_few_ticks() {
        let tiny = f64::from_bits(1);
        for values in [[0.0, tiny], [tiny, tiny], [tiny, 1.0], [1.0, f64::MAX], [tiny, f64::MAX]] {
            for log in [false, true] {
                let axis = Axis::around(values.into_iter(), log, None);
                assert!(axis.low.is_finite() && axis.high.is_finite(), "{axis:?}");
                assert!(axis.ticks(8).len() <= 10, "{values:?} {log}: {:?}", axis.ticks(8));
            }
        }
        let axis = Axis::around([f64::MIN, f64::MAX].into_iter(), false, None);
        assert!((2..=10).contains(&axis.ticks(8).len()), "{:?}", axis.ticks(8));
    }

    #[test]
    fn one_small_value_can_be_read() {
        let axis = Axis::around([1e-5, 1e-5].into_iter(), false, None);
        let ticks = axis.ticks(6);
        assert!(ticks.contains(&1e-5) && ticks.iter().all(|t| *t > 0.0 && *t < 2e-5), "{ticks:?}");
    }

    #[test]
    fn numbers_are_short() {
        let text = [0.0, 0.05, 0.25, 250.0, 3e-4, 1e-7, 2.5e6, -0.1].map(short);
        assert_eq!(text, ["0", "0.05", "0.25", "250", "3e-4", "1e-7", "2.5e6", "-0.1"]);
    }
}
