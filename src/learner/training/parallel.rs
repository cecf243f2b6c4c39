//! Training with several processes: each batch is split into shares, and gradients are averaged.

use super::shards::{SHARDS, Tree};
use crate::{
    data::{BatchPart, Share},
    distributed::World,
    error::{Error, Result},
    model::Model,
    sample::{Batch, Placement, Task},
    sys::{Reducer, TensorList},
};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Options of training with several processes, for
/// [`Learner::distributed_with`](crate::learner::Learner::distributed_with).
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct DistributedOptions {
    pub(super) sync_bn: bool,
    pub(super) deterministic: bool,
    bucket_mb: f64,
}

impl Default for DistributedOptions {
    fn default() -> Self {
        Self { sync_bn: false, deterministic: false, bucket_mb: 25.0 }
    }
}

impl DistributedOptions {
    /// Returns the defaults: gradients averaged by libtorch's reducer, batch normalization over each
    /// process's own items.
    pub fn new() -> Self {
        Self::default()
    }

    /// If true, the batch normalization layers of the model use the statistics of the global batch instead
    /// of those of a process's share: PyTorch's `SyncBatchNorm`. It costs two small exchanges per layer and
    /// direction. For networks of this crate, and your own if they use
    /// [`BatchNorm`](crate::model::BatchNorm). Default: false.
    pub fn sync_bn(mut self, yes: bool) -> Self {
        self.sync_bn = yes;
        self
    }

    /// Trains to bitwise identical weights for 1, 2, 4 and 8 processes, and after a resume with another
    /// number of processes.
    ///
    /// Each batch is split into 8 shards. Each shard is computed separately, with its own batch statistics
    /// and random numbers, and the gradients of the shards are added in a fixed tree. The events from
    /// `before_batch` to `before_backward` are called once per shard.
    ///
    /// The cost: batches of an eighth of the size utilize a device less well, and every process receives
    /// the gradients of every other one after, not during, the backward pass. The processes must have the
    /// same number of threads (`OMP_NUM_THREADS`) and the same kind of processor, because libtorch's
    /// kernels round differently otherwise. Default: false.
    pub fn deterministic_reduction(mut self) -> Self {
        self.deterministic = true;
        self
    }

    /// Sets the size of the buckets in which gradients are averaged, in MiB. Small buckets start earlier,
    /// large ones use the network better. Default: 25, as in PyTorch.
    pub fn bucket_mb(mut self, mb: f64) -> Self {
        self.bucket_mb = mb;
        self
    }

    pub(super) fn check(&self, world: &World) -> Result<()> {
        if !(self.bucket_mb.is_finite() && self.bucket_mb > 0.0) {
            let why = format!("is {}; it must be a positive number of MiB", self.bucket_mb);
            return Err(Error::config("bucket_mb", why));
        }
        if self.deterministic && self.sync_bn {
            let why = "contradicts `deterministic_reduction`, which normalizes each shard separately: \
                       choose one of them";
            return Err(Error::config("sync_bn", why));
        }
        if self.deterministic && !SHARDS.is_multiple_of(world.size()) {
            let why = format!(
                "needs 1, 2, 4 or 8 processes, which share {SHARDS} shards equally; there are {}",
                world.size()
            );
            return Err(Error::config("deterministic_reduction", why));
        }
        Ok(())
    }
}

/// The next action of all processes.
#[derive(Debug)]
pub(super) enum Next {
    /// Train or validate on this rank's part of a batch.
    Part(BatchPart),
    /// No rank has any item left of this batch.
    Nothing,
    /// A stop was requested on some rank.
    Stop,
    /// The pass has ended.
    End,
}

/// The state of this process in a training with several processes.
#[derive(Debug)]
pub(in crate::learner) struct Parallel {
    world: Arc<World>,
    options: DistributedOptions,
    hooked: Option<Hooked>,
    /// The number of items of the current batch on all ranks.
    pub(in crate::learner) batch_items: usize,
    /// The number of items of the current batch on this rank.
    own_items: usize,
    /// True if all ranks know the error that ends the fit.
    agreed: bool,
}

/// The reducer, and the parameters that it averages.
#[derive(Debug)]
struct Hooked {
    learns: Vec<bool>,
    reducer: Reducer,
}

impl Parallel {
    pub(super) fn new(world: Arc<World>, options: DistributedOptions) -> Self {
        Self { world, options, hooked: None, batch_items: 0, own_items: 0, agreed: false }
    }

    /// Returns true if this rank has counted items in the current batch.
    pub(super) fn has_items(&self) -> bool {
        self.own_items > 0
    }

    pub(super) fn share(&self) -> Share {
        Share { index: self.world.rank(), of: self.world.size() }
    }

    pub(super) fn is_deterministic(&self) -> bool {
        self.options.deterministic
    }

    pub(in crate::learner) fn world(&self) -> &World {
        &self.world
    }

    /// Drops the reducer: the model has other parameters now.
    pub(in crate::learner) fn forget_parameters(&mut self) {
        self.hooked = None;
    }

    /// Returns the shards of this rank.
    pub(super) fn shards(&self) -> std::ops::Range<usize> {
        Share { index: self.world.rank(), of: self.world.size() }.range(SHARDS)
    }

    /// Agrees on the next action of all ranks; `own` is that of this rank.
    pub(super) fn next(
        &mut self,
        own: Option<Result<BatchPart>>,
        stop: bool,
        training: bool,
    ) -> Result<Next> {
        const END: f64 = 0.0;
        const PART: f64 = 1.0;
        const FAILED: f64 = 2.0;
        let (state, items, empty) = match &own {
            None => (END, 0, false),
            Some(Err(_)) => (FAILED, 0, false),
            Some(Ok(part)) => (PART, part.own_items(), part.batch.is_none()),
        };
        let flag = |yes: bool| f64::from(u8::from(yes));
        let own_numbers = [state, items as f64, flag(stop), flag(empty)];
        let all = self.world.exchange_numbers(own_numbers)?;
        if all.iter().any(|[state, ..]| *state == FAILED) {
            let message = own.as_ref().and_then(|r| r.as_ref().err()).map(ToString::to_string);
            let messages = self.world.exchange(&message)?;
            self.agreed = true;
            if let Some(Err(e)) = own {
                return Err(e);
            }
            let failed = messages.into_iter().enumerate().find_map(|(r, m)| Some((r, m?)));
            let (rank, why) = failed.unwrap_or((0, "it gave no reason".into()));
            return Err(Error::distributed(Some(rank), format!("rank {rank} failed: {why}")));
        }
        if all.iter().any(|[_, _, stop, _]| *stop > 0.0) {
            return Ok(Next::Stop);
        }
        if all.iter().any(|[other, ..]| *other != all[0][0]) {
            let why = "their numbers of batches differ: every process must use the same loader";
            return Err(Error::mismatch("the ranks", why));
        }
        self.own_items = items;
        self.batch_items = all.iter().map(|[_, items, ..]| *items as usize).sum();
        if let (true, Some(rank)) =
            (training && self.batch_items > 0, all.iter().position(|[_, _, _, empty]| *empty > 0.0))
        {
            let why = format!(
                "no item of rank {rank}'s share of a batch could be loaded: remove the files that \
                 `DataLoaders::skipped` names, or use a larger `bs`"
            );
            self.agreed = true;
            return Err(Error::distributed(Some(rank), why));
        }
        Ok(match own {
            Some(Ok(part)) if self.batch_items > 0 => Next::Part(part),
            Some(_) => Next::Nothing,
            None => Next::End,
        })
    }

    /// Prepares a forward pass that a backward pass follows.
    pub(super) fn before_forward(&mut self, model: &Model) -> Result<()> {
        let Some(group) = self.world.group()? else { return Ok(()) };
        if self.options.deterministic {
            return Ok(());
        }
        let learns: Vec<bool> = model.params().iter().map(|p| p.tensor.requires_grad()).collect();
        if self.hooked.as_ref().is_none_or(|hooked| hooked.learns != learns) {
            // The old one must release the parameters first.
            self.hooked = None;
            let learning = model.params().iter().filter(|p| p.tensor.requires_grad());
            let learning: Vec<Tensor> = learning.map(|p| p.tensor.shallow_clone()).collect();
            if learning.is_empty() {
                return Ok(());
            }
            let bytes = (self.options.bucket_mb * f64::from(1 << 20)) as usize;
            // The first bucket is small, so that communication starts early.
            let sizes = (bytes.min(1 << 20), bytes);
            let reducer = Reducer::new(&group, &TensorList::new(&learning)?, sizes)?;
            self.hooked = Some(Hooked { learns, reducer });
        }
        self.hooked.as_ref().map_or(Ok(()), |hooked| hooked.reducer.before_forward())
    }

    /// Prepares the backward pass from `loss`.
    pub(super) fn before_backward(&self, loss: &Tensor) -> Result<()> {
        self.hooked.as_ref().map_or(Ok(()), |hooked| hooked.reducer.before_backward(loss))
    }

    /// Returns the loss of the global batch, and the factor for this rank's loss that makes the average of
    /// the ranks' gradients that of the global batch. `weight` is the divisor of this rank's mean.
    pub(super) fn whole_loss(&self, loss: &Tensor, weight: &Tensor) -> Result<(Tensor, Tensor)> {
        let kind = if loss.device() == Device::Mps { Kind::Float } else { Kind::Double };
        let weight = weight.f_to_kind(kind)?.f_to_device(loss.device())?.f_reshape([0_i64; 0])?;
        // On a rank with a placeholder item, the loss does not count, even if it is NaN.
        let loss = loss.detach().f_to_kind(kind)?.f_reshape([0_i64; 0])?;
        let part = (&loss * &weight).f_where_self(&weight.f_gt(0.0)?, &weight.f_zeros_like()?)?;
        let sums = Tensor::f_stack(&[part, weight.shallow_clone()], 0)?;
        self.world.all_reduce(&sums)?;
        let total = sums.f_get(1)?;
        let whole = (sums.f_get(0)? / &total).f_to_kind(Kind::Float)?;
        let factor = (weight * self.world.size() as f64 / total).f_to_kind(Kind::Float)?;
        Ok((whole, factor))
    }

    /// Adds the shards of all ranks to those of this one, in the fixed order. A sum has `numbers` elements.
    pub(super) fn add_up(
        &self,
        own: Option<Tensor>,
        numbers: i64,
        device: Device,
    ) -> Result<Option<Tensor>> {
        /// 32 MiB of each rank at a time.
        const SLICE: i64 = 8 << 20;
        if self.world.size() == 1 {
            return Ok(own);
        }
        let there = self.world.exchange_numbers([f64::from(u8::from(own.is_some()))])?;
        if there.iter().all(|[there]| *there == 0.0) {
            return Ok(None);
        }
        let own = match own {
            Some(own) => own,
            None => Tensor::f_zeros([numbers], (Kind::Float, device))?,
        };
        let mut from = 0;
        while from < numbers {
            let mut slice = own.f_narrow(0, from, SLICE.min(numbers - from))?;
            let parts = self.world.all_gather(&slice)?;
            let mut tree = Tree::default();
            for (part, [there]) in parts.into_iter().zip(&there) {
                tree.push((*there > 0.0).then_some(part))?;
            }
            if let Some(sum) = tree.sum()? {
                slice.f_copy_(&sum)?;
            }
            from += SLICE;
        }
        Ok(Some(own))
    }

    /// Sets the running statistics of every rank to the mean over all ranks, since each rank has seen only
    /// its own shares.
    pub(in crate::learner) fn average_buffers(&self, model: &Model) -> Result<()> {
        self.average(model.buffers())
    }

    /// Replaces statistics by their mean over all ranks, unless running statistics are equal on all ranks.
    pub(super) fn average(&self, statistics: &[(String, Tensor)]) -> Result<()> {
        if self.world.size() == 1 || self.options.deterministic || self.options.sync_bn {
            return Ok(());
        }
        let _guard = tch::no_grad_guard();
        let floats = || statistics.iter().map(|(_, t)| t).filter(|t| t.is_floating_point());
        let flat: Vec<Tensor> = floats().map(|t| t.reshape([-1])).collect();
        if flat.is_empty() {
            return Ok(());
        }
        let all = Tensor::f_cat(&flat, 0)?;
        self.world.all_reduce(&all)?;
        let all = all / self.world.size() as f64;
        let mut from = 0;
        for buffer in floats() {
            let n = buffer.numel() as i64;
            let mut to = buffer.shallow_clone();
            to.f_copy_(&all.f_narrow(0, from, n)?.f_view_as(buffer)?)?;
            from += n;
        }
        Ok(())
    }

    /// Gathers outputs of the model and batch from all ranks, in the order of the items. If `own` is false,
    /// this rank's part does not count. Boxes are padded with zeros of class 0, as in a batch. `x` is
    /// gathered only if `inputs`.
    pub(in crate::learner) fn whole(
        &self,
        pred: Option<&Tensor>,
        batch: &Batch,
        task: &Task,
        (own, inputs): (bool, bool),
    ) -> Result<(Option<Tensor>, Batch)> {
        let boxes = matches!(task, Task::Boxes { .. });
        let rows = |t: Option<&Tensor>, padded| self.world.gather_rows(t.filter(|_| own), padded);
        let pred = rows(pred, false)?;
        let y = rows(batch.y.as_ref(), boxes)?;
        let labels = if boxes { rows(batch.labels.as_ref(), true)? } else { None };
        let x = if inputs { rows(Some(&batch.x), false)? } else { None };
        let items: &[usize] = if own { &batch.items } else { &[] };
        let items = self.world.exchange(&items.to_vec())?.concat();
        let placements: &[Option<Placement>] = if own { &batch.placements } else { &[] };
        let placements = self.world.exchange(&placements.to_vec())?.concat();
        let x = x.unwrap_or_else(|| batch.x.shallow_clone());
        Ok((pred, Batch { x, y, labels, items, placements }))
    }

    /// Returns the error of a fit, after every rank has one: see [`World::settle`].
    pub(in crate::learner) fn settle(&mut self, e: Error) -> Error {
        // Its hooks belong to a backward pass that will not complete.
        self.hooked = None;
        if std::mem::take(&mut self.agreed) { e } else { self.world.settle(e) }
    }
}

impl BatchPart {
    /// Returns the number of items that count: 0 for a placeholder.
    pub(in crate::learner) fn own_items(&self) -> usize {
        if self.stand_in { 0 } else { self.places.len() }
    }
}
