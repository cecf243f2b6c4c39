//! A training by several processes: each batch is cut into shares, and gradients are averaged.

use super::shards::{SHARDS, Tree};
use crate::{
    data::{BatchPart, Share},
    distributed::World,
    error::{Error, Result},
    model::Model,
    sys::{Reducer, TensorList},
};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// How the processes of a job train together, for [`Learner::distributed_with`](crate::learner::Learner::distributed_with).
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
    /// Gradients averaged by libtorch's reducer, batch normalization of each process's own items.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the batch normalizations of the model normalize by the statistics of the whole batch, not
    /// by those of a process's share of it: PyTorch's `SyncBatchNorm`. It costs two small exchanges for
    /// each of them in each direction. For networks of this crate, and your own where they are made of
    /// [`BatchNorm`](crate::model::BatchNorm). Default: false.
    pub fn sync_bn(mut self, yes: bool) -> Self {
        self.sync_bn = yes;
        self
    }

    /// Trains to the same weights, bit for bit, for 1, 2, 4 and 8 processes, and after a resume with
    /// another number of them.
    ///
    /// Each batch is cut into 8 shards. Each shard goes through the network by itself, with batch
    /// normalization and random numbers of its own, and the gradients of the shards are added in a fixed
    /// tree. The events from `before_batch` to `before_backward` come once for each shard.
    ///
    /// The cost: batches of an eighth of the size use a device less well, and every process receives the
    /// gradients of every other one, after the backward pass and not during it. The processes must have
    /// the same number of threads (`OMP_NUM_THREADS`) and the same kind of processor: libtorch's kernels
    /// round differently on others. Default: false.
    pub fn deterministic_reduction(mut self) -> Self {
        self.deterministic = true;
        self
    }

    /// The size of the buckets in which gradients are averaged, in MiB. Small ones begin earlier, large
    /// ones use the network better. Default: 25, as in PyTorch.
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
            let why = "contradicts `deterministic_reduction`, whose shards are normalized one by one: \
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

/// What all processes do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Train or validate on this rank's part of a batch.
    Part(BatchPart),
    /// Nothing is left of this batch on any rank.
    Nothing,
    /// A stop was requested on some rank.
    Stop,
    /// The pass is over.
    End,
}

/// A training's place among several processes.
#[derive(Debug)]
pub(in crate::learner) struct Parallel {
    world: Arc<World>,
    options: DistributedOptions,
    hooked: Option<Hooked>,
    /// The items of the current batch on all ranks.
    pub(in crate::learner) batch_items: usize,
    /// Those of them that are this rank's.
    own_items: usize,
    /// Whether all ranks know of the error that ends the fit.
    agreed: bool,
}

/// The reducer, and which parameters it averages.
#[derive(Debug)]
struct Hooked {
    learns: Vec<bool>,
    reducer: Reducer,
}

impl Parallel {
    pub(super) fn new(world: Arc<World>, options: DistributedOptions) -> Self {
        Self { world, options, hooked: None, batch_items: 0, own_items: 0, agreed: false }
    }

    /// Whether this rank has a part of the current batch that counts.
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

    /// The shards of this rank.
    pub(super) fn shards(&self) -> std::ops::Range<usize> {
        Share { index: self.world.rank(), of: self.world.size() }.range(SHARDS)
    }

    /// What all ranks do, where this one has `own` to do next.
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
            let (rank, why) = failed.unwrap_or((0, "it did not say why".into()));
            return Err(Error::distributed(Some(rank), format!("rank {rank} failed: {why}")));
        }
        if all.iter().any(|[_, _, stop, _]| *stop > 0.0) {
            return Ok(Next::Stop);
        }
        if all.iter().any(|[other, ..]| *other != all[0][0]) {
            let why =
                "they have different numbers of batches: every process must use the same loader";
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

    /// Makes ready for a forward pass that a backward pass follows.
    pub(super) fn before_forward(&mut self, model: &Model) -> Result<()> {
        let Some(group) = self.world.group()? else { return Ok(()) };
        if self.options.deterministic {
            return Ok(());
        }
        let learns: Vec<bool> = model.params().iter().map(|p| p.tensor.requires_grad()).collect();
        if self.hooked.as_ref().is_none_or(|hooked| hooked.learns != learns) {
            // The old one must have let go of the parameters.
            self.hooked = None;
            let learning = model.params().iter().filter(|p| p.tensor.requires_grad());
            let learning: Vec<Tensor> = learning.map(|p| p.tensor.shallow_clone()).collect();
            if learning.is_empty() {
                return Ok(());
            }
            let bytes = (self.options.bucket_mb * f64::from(1 << 20)) as usize;
            // The first bucket is small, so that the network has work early.
            let sizes = (bytes.min(1 << 20), bytes);
            let reducer = Reducer::new(&group, &TensorList::new(&learning)?, sizes)?;
            self.hooked = Some(Hooked { learns, reducer });
        }
        self.hooked.as_ref().map_or(Ok(()), |hooked| hooked.reducer.before_forward())
    }

    /// Makes ready for the backward pass from `loss`.
    pub(super) fn before_backward(&self, loss: &Tensor) -> Result<()> {
        self.hooked.as_ref().map_or(Ok(()), |hooked| hooked.reducer.before_backward(loss))
    }

    /// The loss of the whole batch, and the factor for this rank's loss that makes the average of the
    /// ranks' gradients that of the whole batch. `weight` is what this rank's mean was divided by.
    pub(super) fn whole_loss(&self, loss: &Tensor, weight: &Tensor) -> Result<(Tensor, Tensor)> {
        let kind = if loss.device() == Device::Mps { Kind::Float } else { Kind::Double };
        let weight = weight.f_to_kind(kind)?.f_to_device(loss.device())?.f_reshape([0_i64; 0])?;
        // Of a rank that has a stand-in for an item, nothing counts, not even NaN.
        let loss = loss.detach().f_to_kind(kind)?.f_reshape([0_i64; 0])?;
        let part = (&loss * &weight).f_where_self(&weight.f_gt(0.0)?, &weight.f_zeros_like()?)?;
        let sums = Tensor::f_stack(&[part, weight.shallow_clone()], 0)?;
        self.world.all_reduce(&sums)?;
        let total = sums.f_get(1)?;
        let whole = (sums.f_get(0)? / &total).f_to_kind(Kind::Float)?;
        let factor = (weight * self.world.size() as f64 / total).f_to_kind(Kind::Float)?;
        Ok((whole, factor))
    }

    /// Adds the shards of all ranks to those of this one, in the fixed order. A sum is `numbers` long.
    pub(super) fn add_up(
        &self,
        own: Option<Tensor>,
        numbers: i64,
        device: Device,
    ) -> Result<Option<Tensor>> {
        /// 32 MiB of each rank at once.
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

    /// Gives every rank the mean of the ranks' running statistics. Each of them has seen its own shares.
    pub(in crate::learner) fn average_buffers(&self, model: &Model) -> Result<()> {
        if self.world.size() == 1 || self.options.deterministic || self.options.sync_bn {
            return Ok(());
        }
        let _guard = tch::no_grad_guard();
        let floats = || model.buffers().iter().map(|(_, t)| t).filter(|t| t.is_floating_point());
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

    /// The rows of `own` on all ranks, in order: those of a whole batch of validation.
    pub(super) fn rows(&self, own: Option<&Tensor>) -> Result<Option<Tensor>> {
        self.world.gather_rows(own)
    }

    /// The error of a fit, after every rank has one: see [`World::settle`].
    pub(in crate::learner) fn settle(&mut self, e: Error) -> Error {
        // Its hooks belong to a pass that will not end.
        self.hooked = None;
        if std::mem::take(&mut self.agreed) { e } else { self.world.settle(e) }
    }
}

impl BatchPart {
    /// The items that count: none for a stand-in.
    pub(in crate::learner) fn own_items(&self) -> usize {
        if self.stand_in { 0 } else { self.places.len() }
    }
}
