//! A learning rate for each group of parameters.

use crate::{
    error::{Error, Result},
    model::MAX_GROUPS,
};
use std::ops::{RangeInclusive, RangeToInclusive};

/// A learning rate for each group of parameters: fastai's `slice`, as Rust's ranges.
///
/// - `1e-3` applies to every group;
/// - `1e-6..=1e-4` is a geometric progression from the first group to the last;
/// - `..=1e-3` applies to the last group, and a tenth of it to the others;
/// - a `Vec` has a rate for each group, or one for all.
///
/// ```
/// use finetune::optim::Lr;
///
/// assert_eq!(Lr::from(..=1e-3).for_groups(3)?, [1e-4, 1e-4, 1e-3]);
/// let spread = Lr::from(1e-6..=1e-4).for_groups(3)?;
/// assert!((spread[1] - 1e-5).abs() < 1e-12);
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Lr {
    /// The same rate for every group.
    Same(f64),
    /// A geometric progression from the first group to the last.
    Spread(f64, f64),
    /// The rate of the last group; the others have a tenth of it.
    Last(f64),
    /// One rate per group.
    Each(Vec<f64>),
}

impl From<f64> for Lr {
    fn from(v: f64) -> Self {
        Self::Same(v)
    }
}

impl From<RangeInclusive<f64>> for Lr {
    fn from(r: RangeInclusive<f64>) -> Self {
        Self::Spread(*r.start(), *r.end())
    }
}

impl From<RangeToInclusive<f64>> for Lr {
    fn from(r: RangeToInclusive<f64>) -> Self {
        Self::Last(r.end)
    }
}

impl From<Vec<f64>> for Lr {
    fn from(v: Vec<f64>) -> Self {
        Self::Each(v)
    }
}

impl Lr {
    /// Returns the rate of each of `n` groups. With one group, a range gives its end. A range that starts
    /// at 0 is treated as an open one, as in fastai.
    ///
    /// # Errors
    /// [`Error::Config`] if the length of a list is neither 1 nor `n`, or `n` is above 65,536.
    pub fn for_groups(&self, n: usize) -> Result<Vec<f64>> {
        if n > MAX_GROUPS {
            let why = format!("is for {n} parameter groups; there can be at most {MAX_GROUPS}");
            return Err(Error::config("lr", why));
        }
        let last = |v: f64| (0..n).map(|i| if i + 1 == n { v } else { v / 10.0 }).collect();
        Ok(match *self {
            Self::Same(v) => vec![v; n],
            Self::Last(v) => last(v),
            Self::Spread(0.0, b) => last(b),
            Self::Spread(_, b) if n == 1 => vec![b],
            Self::Spread(a, b) => {
                let step = (b / a).powf(1.0 / (n as f64 - 1.0));
                (0..n).map(|i| a * step.powi(i as i32)).collect()
            }
            Self::Each(ref v) if v.len() == n => v.clone(),
            Self::Each(ref v) if v.len() == 1 => vec![v[0]; n],
            Self::Each(ref v) => {
                let why = format!("there are {} rates for {n} parameter groups", v.len());
                return Err(Error::config("lr", why));
            }
        })
    }
}
