//! Compares a fit with the linear probe of the same learner.

use crate::{
    error::Result,
    learner::{Callback, Outcome, Step, Training, order},
    metric::Proportion,
    sample::{Batch, Task},
};
use tch::{Kind, Tensor};

/// The accuracy of the last linear probe of a learner.
#[derive(Debug, Clone)]
pub(in crate::learner) struct Standing {
    accuracy: Proportion,
    /// The indices of the validation items, sorted.
    items: Vec<usize>,
    /// True if the probe is the head of the model and has not been trained since.
    pub(in crate::learner) is_installed: bool,
}

impl Standing {
    pub(super) fn new(accuracy: Proportion, items: &[usize]) -> Self {
        let mut items = items.to_vec();
        items.sort_unstable();
        Self { accuracy, items, is_installed: false }
    }

    pub(super) fn installed(self) -> Self {
        Self { is_installed: true, ..self }
    }
}

/// Adds a message at the end of a fit if the probe had a higher accuracy.
#[derive(Debug)]
pub(in crate::learner) struct BelowProbe {
    probe: Standing,
    /// The items of the current validation so far.
    items: Vec<usize>,
    /// The number of correct items in each batch of the current validation.
    right: Vec<Tensor>,
    /// The accuracy in the last complete validation.
    last: Option<Proportion>,
}

impl BelowProbe {
    pub(in crate::learner) fn new(probe: Standing) -> Self {
        Self { probe, items: vec![], right: vec![], last: None }
    }

    fn counted(&mut self) -> Result<Option<Proportion>> {
        let (mut items, right) = (std::mem::take(&mut self.items), std::mem::take(&mut self.right));
        items.sort_unstable();
        if right.is_empty() || items != self.probe.items {
            return Ok(None);
        }
        let hits = i64::try_from(&Tensor::f_stack(&right, 0)?.f_sum(Kind::Int64)?)?;
        Ok(Some(Proportion { hits: hits as usize, of: items.len() }))
    }
}

/// Returns the number of correct items of a batch; `None` if the task or the shapes do not define it.
fn right(task: &Task, pred: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
    Ok(match task {
        Task::Category { .. } if pred.dim() == 2 && y.dim() == 1 => {
            Some(pred.f_argmax(1, false)?.f_eq_tensor(y)?.f_sum(Kind::Int64)?)
        }
        Task::Categories { .. } if pred.size() == y.size() => {
            let same = pred.f_gt(0.0)?.f_eq_tensor(&y.f_gt(0.5)?)?;
            Some(same.f_all_dim(1, false)?.f_sum(Kind::Int64)?)
        }
        _ => None,
    })
}

impl Callback for BelowProbe {
    /// Comes before the callback that prints the messages.
    fn order(&self) -> i32 {
        order::RECORDER
    }

    fn before_validate(&mut self, _: &mut Training) -> Step {
        self.items.clear();
        self.right.clear();
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, batch: &Batch, outcome: &Outcome) -> Step {
        let (false, Some(pred), Some(y)) = (t.at.is_training(), &outcome.pred, &batch.y) else {
            return Ok(());
        };
        if let Some(right) = right(&t.dls.task(), pred, y)? {
            self.items.extend(&batch.items);
            self.right.push(right);
        }
        Ok(())
    }

    fn after_validate(&mut self, _: &mut Training) -> Step {
        self.last = self.counted()?;
        Ok(())
    }

    fn after_fit(&mut self, t: &mut Training) -> Step {
        let is_last = t.plan.len() <= 1;
        let probe = self.probe.accuracy;
        if let Some(last) = self.last.filter(|last| is_last && last.hits < probe.hits) {
            let (low, high) = probe.interval();
            let missed = probe.hits - last.hits;
            t.say(format!(
                "the last epoch is below the linear probe: accuracy {:.4} against {:.4} (95 % interval {low:.4} \
                 to {high:.4}), {missed} items fewer; lower the learning rate, or start with \
                 `FineTune::from_probe`",
                last.value(),
                probe.value(),
            ));
        }
        Ok(())
    }
}
