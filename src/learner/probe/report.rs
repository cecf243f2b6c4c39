//! The result of a linear probe.

use super::standing::Standing;
use crate::{
    error::{Error, Result},
    learner::{Learner, Predictions},
    metric::Proportion,
    model::LinearHead,
    sys::caught,
};
use ndarray::{Array1, Array2};
use std::{fmt, sync::Arc, time::Duration};

/// A logistic regression on the features of a body: the result of [`Learner::probe`], which has an
/// example.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Probe {
    /// The proportion of validation items that are classified correctly. If items have several categories, all
    /// of them must be correct, with a threshold of 0.5. [`Proportion::interval`] returns the 95 % interval.
    pub accuracy: Proportion,
    /// The weight of the L2 penalty, for the mean loss on standardized features. scikit-learn's `C` is
    /// `1 / (l2 · train_items)`.
    pub l2: f64,
    /// The candidates for `l2`, in ascending order, each with the mean loss of the held-out training items.
    /// Empty if `l2` was set.
    pub tried: Vec<(f64, f64)>,
    /// The number of iterations of the last regression.
    pub iterations: usize,
    /// True if the last regression reached the tolerance.
    pub converged: bool,
    /// The number of training items.
    pub train_items: usize,
    /// The weights for features that are not standardized, `[outputs, features]`.
    pub weight: Array2<f64>,
    /// The biases for features that are not standardized, `[outputs]`.
    pub bias: Array1<f64>,
    /// The regression as a head.
    pub(super) head: Arc<LinearHead>,
    /// The probabilities, decoded predictions and losses of the validation items, for
    /// [`interpret`](crate::interpret).
    pub predictions: Predictions,
    /// The time in which the features of all items were computed.
    pub features_time: Duration,
    /// The time in which the regressions were fitted.
    pub fit_time: Duration,
    /// Messages for the user, for example that the regression did not converge.
    pub notes: Vec<String>,
}

impl Probe {
    /// Replaces the head of the learner's model by the regression, in the layers of
    /// [`HeadOptions::linear`](crate::model::HeadOptions::linear): the pooling of the previous head, a normalization
    /// with the statistics of the training items, the dropout of the previous head's last layer, and one linear layer.
    /// The model then has the predictions of the probe, up to rounding to 32 bits. The learner gets a new optimizer.
    /// The body is not changed, and its frozen groups stay frozen.
    ///
    /// The normalization gives all features the same scale, so that a step of the optimizer changes the outputs by
    /// each of them alike. The dropout regularizes the head in fine-tuning, which has no penalty like that of the
    /// regression.
    ///
    /// [`FineTune::from_probe`](crate::learner::FineTune::from_probe) trains from this model, which can be
    /// saved, exported and resumed like any other.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the model is not a body with a head of
    /// [`HeadOptions`](crate::model::HeadOptions); [`Error::Mismatch`] if the body has another number of
    /// features or the targets another number of categories; the error of the optimizer's function. In the
    /// last case, the head is already replaced; otherwise, the model is unchanged.
    pub fn install(&self, learn: &mut Learner) -> Result<()> {
        let outputs = learn.training.dls.task().n_out();
        if outputs != self.bias.len() {
            let why = format!("has {} outputs for {outputs} categories", self.bias.len());
            return Err(Error::mismatch("the linear probe", why));
        }
        let t = &mut learn.training;
        t.model.install_linear_head(&self.head)?;
        if let Some(p) = &mut t.parallel {
            p.forget_parameters();
        }
        t.opt = caught(|| (learn.opt_func)(t.model.params()))?;
        learn.probed = Some(Standing::new(self.accuracy, &self.predictions.items).installed());
        Ok(())
    }
}

impl fmt::Display for Probe {
    /// Writes a short table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.accuracy.interval();
        let value = self.accuracy.value();
        writeln!(f, "linear probe  {} validation items", self.accuracy.of)?;
        writeln!(f, "accuracy      {value:.4}, 95 % interval {low:.4} to {high:.4}")?;
        writeln!(f, "error rate    {:.4}", 1.0 - value)?;
        let (features, items) = (self.weight.ncols(), self.train_items);
        writeln!(f, "features      {features} of {items} training items")?;
        let how = match self.tried.len() {
            0 => "given".to_owned(),
            n => format!("chosen from {n} by an inner split"),
        };
        writeln!(f, "l2            {}, {how}", significant(self.l2))?;
        writeln!(f, "iterations    {}", self.iterations)?;
        let (features, fit) = (self.features_time.as_secs_f64(), self.fit_time.as_secs_f64());
        write!(f, "time          features {features:.1} s, regression {fit:.1} s")?;
        self.notes.iter().try_for_each(|note| write!(f, "\nnote          {note}"))
    }
}

/// Formats a number with three significant digits.
fn significant(x: f64) -> String {
    let digits = (2.0 - x.abs().log10().floor()).clamp(0.0, 12.0) as usize;
    let text = format!("{x:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}
