//! Targets of numbers.

use super::category::TargetBlock;
use crate::{
    error::{Error, Result},
    sample::{Target, Task},
};
use std::{fmt::Debug, marker::PhantomData};

/// A label of one number, or a list of numbers.
pub trait RegressionLabel: Clone + Debug + Send + Sync + 'static {
    /// Converts to a list.
    fn to_list(&self) -> Vec<f32>;

    /// Converts from a list; `None` if its length is wrong.
    fn from_list(list: &[f32]) -> Option<Self>;
}

impl RegressionLabel for f32 {
    fn to_list(&self) -> Vec<f32> {
        vec![*self]
    }

    fn from_list(list: &[f32]) -> Option<Self> {
        <[Self; 1]>::try_from(list).ok().map(|[v]| v)
    }
}

impl RegressionLabel for Vec<f32> {
    fn to_list(&self) -> Vec<f32> {
        self.clone()
    }

    fn from_list(list: &[f32]) -> Option<Self> {
        Some(list.to_vec())
    }
}

/// Numbers for each item, such as an age or the position of a point: fastai's `RegressionBlock`.
///
/// ```
/// use finetune::{data::{RegressionBlock, TargetBlock}, sample::Target};
///
/// let mut age = RegressionBlock::one();
/// age.setup(&mut [31.0, 4.0].iter())?;
/// assert_eq!(age.encode(&31.0)?, Target::Values(vec![31.0]));
/// assert_eq!(RegressionBlock::new(2).encode(&vec![0.5, -1.0])?, Target::Values(vec![0.5, -1.0]));
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RegressionBlock<L = Vec<f32>> {
    n: usize,
    label: PhantomData<fn() -> L>,
}

impl RegressionBlock {
    /// Creates a block of `n` numbers per item: `get_y` returns a `Vec<f32>`.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self { n, label: PhantomData }
    }
}

impl RegressionBlock<f32> {
    /// Creates a block of one number per item: `get_y` returns an `f32`.
    #[must_use]
    pub fn one() -> Self {
        Self { n: 1, label: PhantomData }
    }
}

impl<L: RegressionLabel> TargetBlock for RegressionBlock<L> {
    type Label = L;

    fn setup(&mut self, _: &mut dyn Iterator<Item = &L>) -> Result<()> {
        if self.n == 0 {
            return Err(Error::config("RegressionBlock", "`n` is 0; it must be 1 or more"));
        }
        Ok(())
    }

    fn encode(&self, label: &L) -> Result<Target> {
        let values = label.to_list();
        let fails = |why| Err(Error::label(format!("{label:?}"), why));
        if values.len() != self.n {
            return fails(format!(
                "there are {} numbers, but the block expects {}",
                values.len(),
                self.n
            ));
        }
        if let Some(v) = values.iter().find(|v| !v.is_finite()) {
            return fails(format!("{v} is not finite"));
        }
        Ok(Target::Values(values))
    }

    fn decode(&self, target: &Target) -> Option<L> {
        let Target::Values(values) = target else { return None };
        L::from_list(values)
    }

    fn task(&self) -> Task {
        Task::Values { n: self.n }
    }
}
