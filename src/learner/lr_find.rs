//! The learning-rate finder.

use super::{Callback, Course, Outcome, Scope, Step, Training, order};
use crate::{
    error::{Error, Result},
    optim::Anneal,
    optim::Hyper,
    sample::Batch,
};

/// How a learning rate is looked for: fastai's arguments of `lr_find`.
#[derive(Debug, Clone)]
pub struct LrSweep {
    start_lr: f64,
    end_lr: f64,
    steps: usize,
    stop_diverging: bool,
}

impl Default for LrSweep {
    fn default() -> Self {
        Self { start_lr: 1e-7, end_lr: 10.0, steps: 100, stop_diverging: true }
    }
}

impl LrSweep {
    /// A sweep from 1e-7 to 10 in 100 steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// The first rate. Default: 1e-7.
    #[must_use]
    pub fn start_lr(mut self, lr: f64) -> Self {
        self.start_lr = lr;
        self
    }
    /// The rate that the last step would have. Default: 10.
    #[must_use]
    pub fn end_lr(mut self, lr: f64) -> Self {
        self.end_lr = lr;
        self
    }
    /// The number of steps, at least 6. Default: 100.
    #[must_use]
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }
    /// Whether to stop where the smoothed loss is four times its best. Default: true.
    #[must_use]
    pub fn stop_diverging(mut self, yes: bool) -> Self {
        self.stop_diverging = yes;
        self
    }

    pub(super) fn finder(self, batches: usize, groups: usize) -> Result<(Finder, Course)> {
        let rate = |lr: f64| lr.is_finite() && lr > 0.0;
        if !rate(self.start_lr) || !rate(self.end_lr) {
            return Err(Error::config("lr_find", "both rates must be positive numbers"));
        }
        let steps = self.steps.max(6);
        let set = vec![(Hyper::Lr, vec![self.start_lr; groups])];
        let epochs = self.steps / batches.max(1) + 1;
        let sweep = Self { steps, ..self };
        Ok((Finder { sweep, best: f64::INFINITY }, Course { epochs, set, ..Course::default() }))
    }
}

/// Raises the learning rate step by step until the loss diverges.
#[derive(Debug)]
pub(super) struct Finder {
    sweep: LrSweep,
    best: f64,
}

impl Finder {
    /// The curve of a finished sweep, without its ends as fastai drops them.
    pub(super) fn found(&self, t: &Training) -> LrFind {
        LrFind::trimmed(&t.history.lrs, &t.history.losses, self.sweep.steps)
    }
}

impl Callback for Finder {
    fn name(&self) -> &str {
        "lr_find"
    }

    fn order(&self) -> i32 {
        order::SCHEDULER
    }

    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        let done = t.at.fit_batches as f64 / self.sweep.steps as f64;
        let lr = Anneal::Exp.at(self.sweep.start_lr, self.sweep.end_lr, done);
        t.opt.set(Hyper::Lr, &vec![lr; t.opt.hypers().len()]);
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        let Some(&loss) = t.history.losses.last() else { return Ok(()) };
        self.best = self.best.min(loss);
        let diverged = self.sweep.stop_diverging && loss > 4.0 * self.best;
        // A loss that is no number compares as neither: what follows would be no number either.
        let done = t.at.fit_batches >= self.sweep.steps;
        if diverged || loss.is_nan() || done { Scope::Fit.cancel() } else { Ok(()) }
    }

    fn before_validate(&mut self, _: &mut Training) -> Step {
        Scope::Validate.cancel()
    }
}

/// The smoothed losses of a sweep of the learning rate, and what they suggest.
///
/// Smith, [Cyclical Learning Rates](https://arxiv.org/abs/1506.01186); the suggestions are
/// [fastai's](https://docs.fast.ai/callback.schedule.html#learner.lr_find).
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct LrFind {
    /// The learning rates, rising by equal factors.
    pub lrs: Vec<f64>,
    /// The smoothed loss at each.
    pub losses: Vec<f64>,
}

impl LrFind {
    /// A curve without its first tenth, its last five points, and what follows a loss that is no number.
    pub fn trimmed(lrs: &[f64], losses: &[f64], steps: usize) -> Self {
        let (from, to) = (steps / 10, losses.len().saturating_sub(5));
        let kept = |v: &[f64]| v.get(from..to).unwrap_or_default().to_vec();
        let (mut lrs, mut losses) = (kept(lrs), kept(losses));
        let numbers = losses.iter().position(|l| l.is_nan()).unwrap_or(losses.len());
        lrs.truncate(numbers);
        losses.truncate(numbers);
        Self { lrs, losses }
    }

    fn at_least(&self, points: usize, suggestion: &str) -> Result<()> {
        if self.losses.len() >= points {
            return Ok(());
        }
        let why = format!(
            "`{suggestion}` needs {points} points and the curve has {}: use more steps",
            self.losses.len()
        );
        Err(Error::config("lr_find", why))
    }

    /// The rate two thirds along the longest valley: the longest falling run of losses, not
    /// necessarily of neighbours. fastai's default.
    ///
    /// # Errors
    /// [`Error::Config`] if the curve is empty.
    pub fn valley(&self) -> Result<f64> {
        self.at_least(1, "valley")?;
        let losses = &self.losses;
        let n = losses.len();
        let mut longest = vec![1_usize; n];
        let (mut start, mut end) = (0, 0);
        for i in 1..n {
            for j in 0..i {
                if losses[i] < losses[j] && longest[i] < longest[j] + 1 {
                    longest[i] = longest[j] + 1;
                }
                if longest[end] < longest[i] {
                    end = i;
                    start = end.saturating_sub(longest[end]);
                }
            }
        }
        let section = (end - start) as f64 / 3.0;
        Ok(self.lrs[start + section as usize + (section / 2.0) as usize])
    }

    /// A tenth of the rate with the lowest loss.
    ///
    /// # Errors
    /// [`Error::Config`] if the curve is empty.
    pub fn minimum(&self) -> Result<f64> {
        self.at_least(1, "minimum")?;
        Ok(self.lrs[least(&self.losses)] / 10.0)
    }

    /// The rate at which the loss falls fastest over the logarithm of the rate.
    ///
    /// # Errors
    /// [`Error::Config`] if the curve has less than two points.
    pub fn steep(&self) -> Result<f64> {
        self.at_least(2, "steep")?;
        let slopes: Vec<f64> = (1..self.losses.len())
            .map(|i| {
                (self.losses[i] - self.losses[i - 1]) / (self.lrs[i].ln() - self.lrs[i - 1].ln())
            })
            .collect();
        Ok(self.lrs[least(&slopes)])
    }

    /// The rate where, sliding down from the right, the slopes 15 points apart agree within 0.005.
    ///
    /// # Errors
    /// [`Error::Config`] if the curve has less than 16 points.
    pub fn slide(&self) -> Result<f64> {
        self.slide_with(15, 0.005, 1.0)
    }

    /// [`LrFind::slide`] with another distance, another threshold and a factor for the result.
    ///
    /// # Errors
    /// [`Error::Config`] if the curve is not longer than the distance.
    pub fn slide_with(&self, distance: usize, threshold: f64, factor: f64) -> Result<f64> {
        self.at_least(distance + 1, "slide")?;
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

    /// The loss at `lr`, between the points by the logarithm of the rate: where a suggestion is drawn.
    #[must_use]
    pub fn loss_at(&self, lr: f64) -> f64 {
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

/// The position of the first smallest value.
fn least(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] < values[best] { i } else { best })
}

/// Central differences, one-sided at the ends, as numpy's `gradient` in 32 bits.
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
