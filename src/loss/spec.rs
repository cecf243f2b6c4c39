use super::{
    Bce, BceWithLogits, CrossEntropy, Dice, Focal, L1, LabelSmoothing, Loss, Mse, PointMse,
};
use serde::{Deserialize, Serialize};

/// A loss of this crate as data, with its weights and thresholds, from which an exported model knows the
/// meaning of its outputs.
///
/// ```
/// use finetune::loss::{BceWithLogits, Loss, LossSpec};
///
/// let spec = BceWithLogits::new().thresh(0.2).spec();
/// let text = serde_json::to_string(&spec)?;
/// let loss = serde_json::from_str::<LossSpec>(&text)?.build();
/// assert_eq!(loss.spec(), spec);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LossSpec {
    /// See [`CrossEntropy`].
    CrossEntropy(CrossEntropy),
    /// See [`LabelSmoothing`].
    LabelSmoothing(LabelSmoothing),
    /// See [`Focal`].
    Focal(Focal),
    /// See [`BceWithLogits`].
    BceWithLogits(BceWithLogits),
    /// See [`Bce`].
    Bce(Bce),
    /// See [`Mse`].
    Mse(Mse),
    /// See [`L1`].
    L1(L1),
    /// See [`PointMse`].
    PointMse(PointMse),
    /// See [`Dice`].
    Dice(Dice),
}

impl LossSpec {
    /// Creates the loss.
    #[must_use]
    pub fn build(&self) -> Box<dyn Loss> {
        match self.clone() {
            Self::CrossEntropy(loss) => Box::new(loss),
            Self::LabelSmoothing(loss) => Box::new(loss),
            Self::Focal(loss) => Box::new(loss),
            Self::BceWithLogits(loss) => Box::new(loss),
            Self::Bce(loss) => Box::new(loss),
            Self::Mse(loss) => Box::new(loss),
            Self::L1(loss) => Box::new(loss),
            Self::PointMse(loss) => Box::new(loss),
            Self::Dice(loss) => Box::new(loss),
        }
    }
    /// Returns the dimension of the classes in the predictions, if there is one.
    pub(crate) fn axis(&self) -> Option<i64> {
        match self {
            Self::CrossEntropy(loss) => Some(loss.axis),
            Self::LabelSmoothing(loss) => Some(loss.axis),
            Self::Focal(loss) => Some(loss.axis),
            Self::Dice(_) => Some(1),
            Self::BceWithLogits(_)
            | Self::Bce(_)
            | Self::Mse(_)
            | Self::L1(_)
            | Self::PointMse(_) => None,
        }
    }
}
