//! Schedules: values as functions of the progress of a fit.

use crate::error::{Error, Result};
use std::f64::consts::PI;

/// The shape of the change from one value to another: fastai's `SchedLin`, `SchedCos` and so on.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Anneal {
    /// Constant at the start value.
    Const,
    /// Linear.
    Linear,
    /// Half a cosine.
    Cos,
    /// Exponential.
    Exp,
    /// Polynomial of this degree.
    Poly(f64),
}

impl Anneal {
    /// Returns the value at `pos`, from 0 (start) to 1 (end).
    #[must_use]
    pub fn at(self, start: f64, end: f64, pos: f64) -> f64 {
        match self {
            Self::Const => start,
            Self::Linear => start + pos * (end - start),
            Self::Cos => start + (1.0 + (PI * (1.0 - pos)).cos()) * (end - start) / 2.0,
            Self::Exp => start * (end / start).powf(pos),
            Self::Poly(power) => start + (end - start) * pos.powf(power),
        }
    }
}

/// Several changes in sequence, each for a fraction of the whole: fastai's `combine_scheds` and
/// `combined_cos`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Schedule {
    parts: Vec<(f64, Anneal, f64, f64)>,
}

impl Schedule {
    /// Returns a schedule of one change.
    #[must_use]
    pub fn single(anneal: Anneal, start: f64, end: f64) -> Self {
        Self { parts: vec![(1.0, anneal, start, end)] }
    }

    /// Returns a cosine from `start` to `middle` over the fraction `pct`, then one from `middle` to
    /// `end`.
    #[must_use]
    pub fn cos_cos(pct: f64, start: f64, middle: f64, end: f64) -> Self {
        let parts = vec![(pct, Anneal::Cos, start, middle), (1.0 - pct, Anneal::Cos, middle, end)];
        Self { parts }
    }

    /// Combines changes, each given by its fraction of the whole, its shape, its start and its end.
    ///
    /// # Errors
    /// [`Error::Config`] if the fractions do not add up to 1, one is negative or NaN, or a start or an end is NaN or
    /// infinite.
    pub fn combine(parts: Vec<(f64, Anneal, f64, f64)>) -> Result<Self> {
        let sum: f64 = parts.iter().map(|p| p.0).sum();
        let whole = (sum - 1.0).abs() <= 1e-6 && parts.iter().all(|p| p.0 >= 0.0);
        if !whole {
            let why = format!(
                "the sum of the fractions is {sum}; they must not be negative and must add up to 1"
            );
            return Err(Error::config("Schedule::combine", why));
        }
        let bad = parts.iter().enumerate().find(|(_, p)| !p.2.is_finite() || !p.3.is_finite());
        if let Some((i, (_, _, start, end))) = bad {
            let why = format!("part {i} is from {start} to {end}; both must be finite");
            return Err(Error::config("Schedule::combine", why));
        }
        Ok(Self { parts })
    }

    /// Describes the parts, with their values relative to the largest, with 6 digits.
    pub(crate) fn shape(&self) -> String {
        let largest = self.parts.iter().map(|p| p.2.abs().max(p.3.abs())).fold(0.0, f64::max);
        let of = |value: f64| if largest > 0.0 { value / largest } else { 0.0 };
        let each = self.parts.iter().map(|&(part, anneal, start, end)| {
            format!("{part:.6} {anneal:?} {:.5e} {:.5e}", of(start), of(end))
        });
        each.collect::<Vec<_>>().join(", ")
    }

    /// Returns the value at `pos`, from 0 to 1.
    #[must_use]
    pub fn at(&self, pos: f64) -> f64 {
        // fastai stores the boundaries in 32 bits: at a boundary, the rounding decides which part applies.
        let mut from = 0.0_f32;
        for (i, &(part, anneal, start, end)) in self.parts.iter().enumerate() {
            let to = from + part as f32;
            if (pos as f32) < to || i + 1 == self.parts.len() {
                let (from, part) = (f64::from(from), f64::from(to - from));
                // That rounding must not extrapolate a part, for example to a rate below 0.
                let within = if part > 0.0 { ((pos - from) / part).clamp(0.0, 1.0) } else { 1.0 };
                return anneal.at(start, end, within);
            }
            from = to;
        }
        f64::NAN
    }
}
