//! Logistic regression with an L2 penalty, in double precision.

use super::{
    lbfgs::{self, Limits, Minimum, number},
    options::ProbeOptions,
};
use crate::error::{Error, Result};
use tch::{Kind, Reduction, Tensor};

/// Items with their targets.
#[derive(Debug)]
pub(super) struct Items {
    /// Standardized features, `f64` `[N, features]`.
    pub(super) x: Tensor,
    pub(super) y: Targets,
    /// The number of classes.
    pub(super) classes: i64,
}

/// The targets of a regression.
#[derive(Debug)]
pub(super) enum Targets {
    /// One class for each item, `i64` `[N]`: one multinomial regression.
    One(Tensor),
    /// Any number of classes for each item, `f64` `[N, classes]`: one regression for each class.
    Several(Tensor),
}

/// A fitted regression.
#[derive(Debug)]
pub(super) struct Fitted {
    /// Weights, `[features, classes]`, for standardized features.
    pub(super) weight: Tensor,
    /// Biases, `[classes]`.
    pub(super) bias: Tensor,
    pub(super) l2: f64,
    /// The candidates for `l2`, each with the mean loss of the held-out items.
    pub(super) tried: Vec<(f64, f64)>,
    pub(super) iterations: usize,
    pub(super) converged: bool,
}

impl Targets {
    fn narrow(&self, from: i64, n: i64) -> Result<Self> {
        Ok(match self {
            Self::One(y) => Self::One(y.f_narrow(0, from, n)?),
            Self::Several(y) => Self::Several(y.f_narrow(0, from, n)?),
        })
    }

    /// Returns the loss of each item, `[N]`: cross-entropy, or the sum of the classes' binary cross-entropies.
    pub(super) fn loss_of_each(&self, logits: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::One(y) => {
                let none: Option<Tensor> = None;
                logits.f_cross_entropy_loss(y, none, Reduction::None, -100, 0.0)?
            }
            Self::Several(y) => {
                let none: Option<Tensor> = None;
                logits
                    .f_binary_cross_entropy_with_logits(
                        y,
                        none.as_ref(),
                        none.as_ref(),
                        Reduction::None,
                    )?
                    .f_sum_dim_intlist(1_i64, false, Kind::Double)?
            }
        })
    }

    /// Returns the derivatives of the sum of the losses with respect to the logits, `[N, classes]`.
    fn residuals(&self, logits: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::One(y) => {
                let probs = logits.f_softmax(1, Kind::Double)?;
                let y = y.f_unsqueeze(1)?;
                let ones = Tensor::f_ones(y.size(), (Kind::Double, y.device()))?;
                probs.f_scatter_add(1, &y, &-ones)?
            }
            Self::Several(y) => logits.f_sigmoid()? - y,
        })
    }

    /// Returns the probabilities, `[N, classes]`.
    pub(super) fn probabilities(&self, logits: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::One(_) => logits.f_softmax(1, Kind::Double)?,
            Self::Several(_) => logits.f_sigmoid()?,
        })
    }
}

impl Items {
    /// Returns a view of `n` items from index `from`.
    pub(super) fn narrow(&self, from: i64, n: i64) -> Result<Self> {
        let x = self.x.f_narrow(0, from, n)?;
        Ok(Self { x, y: self.y.narrow(from, n)?, classes: self.classes })
    }

    fn len(&self) -> i64 {
        self.x.size()[0]
    }

    fn features(&self) -> i64 {
        self.x.size()[1]
    }

    /// Returns the initial weights and biases, all zeros, as one vector: `[features + 1, classes]`, flat.
    fn start(&self) -> Result<Tensor> {
        let numbers = (self.features() + 1) * self.classes;
        Ok(Tensor::f_zeros([numbers], (Kind::Double, self.x.device()))?)
    }

    fn parts(&self, point: &Tensor) -> Result<(Tensor, Tensor)> {
        let all = point.f_view([self.features() + 1, self.classes])?;
        Ok((all.f_narrow(0, 0, self.features())?, all.f_get(self.features())?))
    }

    fn logits(&self, point: &Tensor) -> Result<Tensor> {
        let (weight, bias) = self.parts(point)?;
        Ok(bias.f_addmm(&self.x, &weight)?)
    }

    /// Returns the mean loss without the penalty.
    fn loss(&self, point: &Tensor) -> Result<f64> {
        number(&self.y.loss_of_each(&self.logits(point)?)?.f_mean(Kind::Double)?)
    }

    /// Returns the mean loss plus `l2 / 2` times the sum of the squared weights, and the gradient. Biases have no
    /// penalty.
    fn objective(&self, point: &Tensor, l2: f64) -> Result<(f64, Tensor)> {
        let (weight, _) = self.parts(point)?;
        let logits = self.logits(point)?;
        let loss = number(&self.y.loss_of_each(&logits)?.f_mean(Kind::Double)?)?;
        let penalty = 0.5 * l2 * number(&weight.f_square()?.f_sum(Kind::Double)?)?;
        let residuals = self.y.residuals(&logits)? / self.len() as f64;
        let of_weight = self.x.f_tr()?.f_mm(&residuals)? + weight * l2;
        let of_bias = residuals.f_sum_dim_intlist([0_i64].as_slice(), true, Kind::Double)?;
        Ok((loss + penalty, Tensor::f_cat(&[of_weight, of_bias], 0)?.f_view([-1])?))
    }

    fn minimum(&self, start: &Tensor, l2: f64, limits: Limits) -> Result<Minimum> {
        lbfgs::minimize(start, limits, |point| self.objective(point, l2))
    }
}

/// The range of candidates for `l2`, as powers of 10.
const POWERS: std::ops::RangeInclusive<i32> = -6..=1;

/// Fits a regression to all `items`. Unless the options set `l2`, it is chosen first: each candidate is fitted to
/// the first `fit` items and compared on the other items.
pub(super) fn fit(items: &Items, fit: i64, options: &ProbeOptions) -> Result<Fitted> {
    let last = Limits { max_iterations: options.max_iterations, tolerance: options.tolerance };
    let (l2, start, tried) = match options.l2 {
        Some(l2) => (l2, items.start()?, vec![]),
        None => {
            let held_out = items.narrow(fit, items.len() - fit)?;
            choose(&items.narrow(0, fit)?, &held_out, last)?
        }
    };
    let Minimum { at, iterations, converged } = items.minimum(&start, l2, last)?;
    let (weight, bias) = items.parts(&at)?;
    Ok(Fitted { weight, bias, l2, tried, iterations, converged })
}

/// Penalties in ascending order, each with the mean loss of the held-out items.
type Tried = Vec<(f64, f64)>;

/// Returns the candidate with the lowest loss on `held_out`, the weights and biases fitted with it, and all
/// candidates.
fn choose(fit: &Items, held_out: &Items, last: Limits) -> Result<(f64, Tensor, Tried)> {
    // A loss with three exact digits is enough to compare candidates.
    let limits = Limits { tolerance: last.tolerance.max(1e-4), ..last };
    let mut tried = vec![];
    let mut best: Option<(f64, f64, Tensor)> = None;
    let mut point = fit.start()?;
    let mut rises = 0;
    // From the strongest to the weakest penalty: each solution is a good starting point for the next one.
    for power in POWERS.rev() {
        let l2 = 10_f64.powi(power);
        point = fit.minimum(&point, l2, limits)?.at;
        let loss = held_out.loss(&point)?;
        tried.push((l2, loss));
        if best.as_ref().is_none_or(|(_, lowest, _)| loss < *lowest) {
            best = Some((l2, loss, point.shallow_clone()));
            rises = 0;
        } else {
            rises += 1;
        }
        if rises == 2 {
            break;
        }
    }
    let Some((middle, lowest, at)) = best else {
        return Err(Error::other("no candidate for the regularization was tried"));
    };
    let mut best = (middle, lowest, at.shallow_clone());
    for l2 in [middle * 10_f64.sqrt(), middle / 10_f64.sqrt()] {
        let point = fit.minimum(&at, l2, limits)?.at;
        let loss = held_out.loss(&point)?;
        tried.push((l2, loss));
        if loss < best.1 {
            best = (l2, loss, point);
        }
    }
    tried.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok((best.0, best.2, tried))
}
