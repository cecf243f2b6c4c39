//! Minimizes smooth convex functions.

use crate::error::{Error, Result};
use std::collections::VecDeque;
use tch::Tensor;

/// The limits of [`minimize`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_iterations: usize,
    /// The largest absolute value of a gradient component at which the minimum counts as reached.
    pub(super) tolerance: f64,
}

/// The result of [`minimize`].
#[derive(Debug)]
pub(super) struct Minimum {
    pub(super) at: Tensor,
    pub(super) iterations: usize,
    pub(super) converged: bool,
}

/// A step: the changes of the point and of the gradient, and the reciprocal of their dot product.
struct Pair {
    step: Tensor,
    change: Tensor,
    rho: f64,
}

/// The number of past steps from which the curvature is estimated.
const MEMORY: usize = 20;

/// The minimum ratio of the decrease of a step to the decrease that the slope predicts: Armijo's condition.
const SUFFICIENT: f64 = 1e-4;

/// Minimizes a function that returns its value and gradient, by limited-memory BFGS: Liu and Nocedal,
/// 1989, <https://doi.org/10.1007/BF01589116>. Points are vectors in double precision.
///
/// The function is assumed to be convex, so that backtracking suffices to find a step.
pub(super) fn minimize(
    start: &Tensor,
    limits: Limits,
    mut evaluate: impl FnMut(&Tensor) -> Result<(f64, Tensor)>,
) -> Result<Minimum> {
    let mut at = start.copy();
    let (mut value, mut gradient) = evaluate(&at)?;
    let mut memory: VecDeque<Pair> = VecDeque::new();
    for iterations in 0..limits.max_iterations {
        if !value.is_finite() {
            return Err(Error::other("the loss is not finite"));
        }
        if number(&gradient.f_abs()?.f_max()?)? <= limits.tolerance {
            return Ok(Minimum { at, iterations, converged: true });
        }
        let mut direction = direction(&gradient, &memory)?;
        let mut slope = dot(&direction, &gradient)?;
        if slope >= 0.0 {
            // Because of rounding errors, the past steps give no descent direction: discard them.
            memory.clear();
            direction = gradient.f_neg()?;
            slope = dot(&direction, &gradient)?;
        }
        let mut length = match memory.is_empty() {
            true => 1.0 / (-slope).sqrt().max(1.0),
            false => 1.0,
        };
        let mut found = None;
        for _ in 0..40 {
            let next = &at + &direction * length;
            let (next_value, next_gradient) = evaluate(&next)?;
            // Near the minimum, differences of values are smaller than their rounding errors.
            let rounding = 1e-14 * value.abs();
            if next_value <= value + SUFFICIENT * length * slope + rounding {
                found = Some((next, next_value, next_gradient));
                break;
            }
            let curve = next_value - value - length * slope;
            let lowest = -slope * length * length / (2.0 * curve);
            length = match lowest.is_finite() {
                true => lowest.clamp(0.1 * length, 0.5 * length),
                false => 0.1 * length,
            };
        }
        let Some((next, next_value, next_gradient)) = found else {
            if memory.is_empty() {
                return Ok(Minimum { at, iterations, converged: false });
            }
            memory.clear();
            continue;
        };
        let (step, change) = (&next - &at, &next_gradient - &gradient);
        let product = dot(&step, &change)?;
        if product > f64::EPSILON * dot(&change, &change)? {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back(Pair { step, change, rho: 1.0 / product });
        }
        (at, value, gradient) = (next, next_value, next_gradient);
    }
    let converged = number(&gradient.f_abs()?.f_max()?)? <= limits.tolerance;
    Ok(Minimum { at, iterations: limits.max_iterations, converged })
}

/// Returns the direction of the next step, by the two-loop recursion over the past steps.
fn direction(gradient: &Tensor, memory: &VecDeque<Pair>) -> Result<Tensor> {
    let mut q = gradient.f_neg()?;
    let mut alphas = vec![];
    for pair in memory.iter().rev() {
        let alpha = pair.rho * dot(&pair.step, &q)?;
        q -= &pair.change * alpha;
        alphas.push(alpha);
    }
    if let Some(last) = memory.back() {
        q *= 1.0 / (last.rho * dot(&last.change, &last.change)?);
    }
    for (pair, alpha) in memory.iter().zip(alphas.into_iter().rev()) {
        let beta = pair.rho * dot(&pair.change, &q)?;
        q += &pair.step * (alpha - beta);
    }
    Ok(q)
}

fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    number(&a.f_dot(b)?)
}

pub(super) fn number(t: &Tensor) -> Result<f64> {
    Ok(f64::try_from(t)?)
}
