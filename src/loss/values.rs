use super::{Loss, LossSpec, items, per_item};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

fn difference(pred: &Tensor, y: &Tensor) -> Result<Tensor> {
    Ok(pred.f_sub(&y.f_to_kind(Kind::Float)?.f_view_as(pred)?)?.f_reshape([-1])?)
}

/// The mean squared error: fastai's `MSELossFlat`. Predictions `[N, n]`, targets `[N, n]`, or `[N]` if n is
/// 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mse;

impl Loss for Mse {
    fn name(&self) -> &str {
        "mse"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        per_item(&self.elements(pred, y)?, items(pred))
    }
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(difference(pred, y)?.f_square()?)
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(self.elements(pred, y)?.f_mean(Kind::Float)?)
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::Mse(*self))
    }
}

/// The mean absolute error: fastai's `L1LossFlat`. Predictions `[N, n]`, targets `[N, n]`, or `[N]` if n is
/// 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct L1;

impl Loss for L1 {
    fn name(&self) -> &str {
        "l1"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        per_item(&self.elements(pred, y)?, items(pred))
    }
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(difference(pred, y)?.f_abs()?)
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(self.elements(pred, y)?.f_mean(Kind::Float)?)
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::L1(*self))
    }
}

/// The mean squared error of the coordinates of visible points; equals [`Mse`] if all are visible.
/// Predictions `[N, 2K]`, targets `[N, K, 2]`, in which a hidden point is NaN.
///
/// The mean is over the coordinates of the whole batch; 0 if no point is visible.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointMse;

impl PointMse {
    /// Returns squared differences, 0 for hidden points, and a mask of visible ones, both `[N, 2K]`.
    fn parts(pred: &Tensor, y: &Tensor) -> Result<(Tensor, Tensor)> {
        if pred.dim() < 2 || pred.numel() != y.numel() {
            let why = format!(
                "the predictions have the shape {:?} and the targets {:?}; they must be [N, 2K] and \
                 [N, K, 2]",
                pred.size(),
                y.size()
            );
            return Err(Error::mismatch("point_mse", why));
        }
        let y = y.f_to_kind(Kind::Float)?.f_view_as(pred)?;
        let hidden = y.f_isnan()?;
        // A product with 0 would not help: the gradient of NaN is NaN.
        let y = pred.detach().f_where_self(&hidden, &y)?;
        Ok((pred.f_sub(&y)?.f_square()?, hidden.f_logical_not()?.f_to_kind(Kind::Float)?))
    }
}

impl Loss for PointMse {
    fn name(&self) -> &str {
        "point_mse"
    }
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (squares, counts) = Self::parts(pred, y)?;
        let sum = |t: Tensor| t.f_flatten(1, -1)?.f_sum_dim_intlist(1, false, Kind::Float);
        Ok(sum(squares)?.f_div(&sum(counts)?.f_clamp_min(1.0)?)?)
    }
    fn elements(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(Self::parts(pred, y)?.0.f_flatten(0, -1)?)
    }
    fn mean(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (squares, counts) = Self::parts(pred, y)?;
        let visible = counts.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
        Ok(squares.f_sum(Kind::Float)?.f_div(&visible)?)
    }
    fn divisor(&self, pred: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(Self::parts(pred, y)?.1.f_sum(Kind::Float)?.f_clamp_min(1.0)?))
    }
    fn spec(&self) -> Option<LossSpec> {
        Some(LossSpec::PointMse(*self))
    }
}
