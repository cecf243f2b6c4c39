//! Predictions for many items, kept on the host.

use super::Training;
use crate::{
    data::DataLoader,
    error::Result,
    loss::Loss,
    sample::{Target, Task},
};
use ndarray::Array2;
use tch::{Kind, Tensor};

/// What a model says of the items of one loader, in the loader's order, in the computer's own memory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Predictions {
    /// The positions of the items in their data set.
    pub items: Vec<usize>,
    /// Items × outputs, after the loss's activation: probabilities for categories.
    pub preds: Array2<f32>,
    /// What the labels say; [`Target::None`] for items without.
    pub targets: Vec<Target>,
    /// What the predictions say.
    pub decoded: Vec<Target>,
    /// The loss of each item; empty for items without labels.
    pub losses: Vec<f32>,
    /// What the outputs stand for.
    pub task: Task,
}

impl Predictions {
    /// Predictions gathered elsewhere; `losses` is empty where there are no labels.
    #[must_use]
    pub fn new(
        items: Vec<usize>,
        preds: Array2<f32>,
        targets: Vec<Target>,
        decoded: Vec<Target>,
        losses: Vec<f32>,
        task: Task,
    ) -> Self {
        Self { items, preds, targets, decoded, losses, task }
    }

    /// The number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// What a model says of one image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// The most probable category; several joined by `;` where the task has several, numbers where it
    /// has numbers.
    pub label: String,
    /// The position of the largest output.
    pub index: usize,
    /// The outputs after the loss's activation: probabilities for categories.
    pub probs: Vec<f32>,
    /// What the outputs say.
    pub target: Target,
    task: Task,
}

impl Prediction {
    /// The `k` largest outputs with what they stand for, the largest first: labels, or positions where
    /// there is no vocabulary.
    #[must_use]
    pub fn top_k(&self, k: usize) -> Vec<(String, f32)> {
        let mut order: Vec<usize> = (0..self.probs.len()).collect();
        order.sort_by(|a, b| self.probs[*b].total_cmp(&self.probs[*a]));
        let vocab = self.task.vocab();
        let name = |i: usize| vocab.get(i).cloned().unwrap_or_else(|| i.to_string());
        order.into_iter().take(k).map(|i| (name(i), self.probs[i])).collect()
    }

    pub(super) fn new(probs: Vec<f32>, target: Target, task: &Task) -> Self {
        let index = (0..probs.len()).fold(0, |b, i| if probs[i] > probs[b] { i } else { b });
        let name = |i: &usize| task.vocab().get(*i).cloned().unwrap_or_else(|| i.to_string());
        let label = match &target {
            Target::Category(i) => name(i),
            Target::Categories(all) => all.iter().map(name).collect::<Vec<_>>().join(";"),
            Target::Values(v) => v.iter().map(f32::to_string).collect::<Vec<_>>().join(";"),
            Target::None => String::new(),
        };
        Self { label, index, probs, target, task: task.clone() }
    }
}

/// Predictions for every item of `loader`; the pass addresses the draws where the loader augments.
pub(super) fn gather(t: &Training, loader: &DataLoader, pass: u64) -> Result<Predictions> {
    let _guard = tch::no_grad_guard();
    let (mut items, mut preds, mut losses, mut targets) = (vec![], vec![], vec![], vec![]);
    for batch in loader.batches(pass) {
        let batch = batch?;
        let pred = t.forward_as(&batch.x, false)?;
        match &batch.y {
            Some(y) => {
                losses.extend(floats(&t.loss.each(&pred, y))?);
                targets.extend(decode(y, &loader.task())?);
            }
            None => targets.extend(batch.items.iter().map(|_| Target::None)),
        }
        preds.push(t.loss.activation(&pred).to_device(tch::Device::Cpu));
        items.extend(batch.items);
    }
    let task = loader.task();
    let preds = if preds.is_empty() {
        Tensor::zeros([0, task.n_out() as i64], (Kind::Float, tch::Device::Cpu))
    } else {
        Tensor::f_cat(&preds, 0)?
    };
    let decoded = decode(&t.loss.decode(&preds), &task)?;
    Ok(Predictions { items, preds: rows(&preds)?, targets, decoded, losses, task })
}

fn floats(t: &Tensor) -> Result<Vec<f32>> {
    let flat = t.to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
    Ok(Vec::try_from(&flat)?)
}

/// A tensor of predictions as items × outputs.
pub(super) fn rows(preds: &Tensor) -> Result<Array2<f32>> {
    let n = preds.size()[0];
    let outputs = if n == 0 { preds.size().get(1).copied().unwrap_or(1) } else { -1 };
    let preds = preds.to_kind(Kind::Float).contiguous().view([n, outputs]);
    let shape = (n as usize, preds.size()[1] as usize);
    let flat = floats(&preds)?;
    Ok(Array2::from_shape_vec(shape, flat).expect("as many numbers as the shape says"))
}

/// What decoded predictions, or targets, say.
pub(super) fn decode(decoded: &Tensor, task: &Task) -> Result<Vec<Target>> {
    let all = rows(decoded)?;
    let target = |row: ndarray::ArrayView1<'_, f32>| match task {
        Task::Category { .. } => Target::Category(row[0] as usize),
        Task::Categories { .. } => {
            let set = row.iter().enumerate().filter(|(_, v)| **v > 0.5);
            Target::Categories(set.map(|(i, _)| i).collect())
        }
        Task::Values { .. } => Target::Values(row.to_vec()),
    };
    Ok(all.rows().into_iter().map(target).collect())
}

/// What the activated outputs of one item say.
pub(super) fn one(preds: &Tensor, loss: &dyn Loss, task: &Task) -> Result<Vec<Prediction>> {
    let decoded = decode(&loss.decode(preds), task)?;
    let all = rows(preds)?;
    Ok(all
        .rows()
        .into_iter()
        .zip(decoded)
        .map(|(row, target)| Prediction::new(row.to_vec(), target, task))
        .collect())
}
