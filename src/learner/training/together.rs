//! Training together with other processes.

use super::parallel::{DistributedOptions, Parallel};
use crate::{
    data::DataLoader,
    distributed::World,
    error::{Error, Result},
    learner::{Learner, Training},
    sample::Batch,
};
use tch::{Device, Kind, Tensor};

impl Training {
    /// Returns true if this process prints and writes files: on rank 0, and without other processes.
    #[must_use]
    pub fn is_first_rank(&self) -> bool {
        self.parallel.as_ref().is_none_or(|p| p.world().is_first())
    }

    /// Returns true if no other process takes part in this training.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.parallel.is_none()
    }

    /// Returns the number of items of a batch on all ranks. In a callback, `batch` contains only this
    /// rank's share.
    #[must_use]
    pub fn batch_items(&self, own: usize) -> usize {
        match &self.parallel {
            Some(p) if self.at.is_training() => p.batch_items,
            _ => own,
        }
    }

    /// Gathers outputs and batch from all ranks in training, for metrics. `x` stays this rank's own.
    pub(in crate::learner) fn whole_batch(
        &self,
        pred: &Tensor,
        batch: &Batch,
    ) -> Result<(Tensor, Batch)> {
        let own = |batch: &Batch| Batch {
            x: batch.x.shallow_clone(),
            y: batch.y.as_ref().map(Tensor::shallow_clone),
            labels: batch.labels.as_ref().map(Tensor::shallow_clone),
            items: batch.items.clone(),
            placements: batch.placements.clone(),
        };
        let Some(p) = &self.parallel else { return Ok((pred.shallow_clone(), own(batch))) };
        // A placeholder item has been counted on its own rank.
        let (all, whole) = p.whole(Some(pred), batch, &self.dls.task(), (p.has_items(), false))?;
        Ok((all.unwrap_or_else(|| pred.shallow_clone()), whole))
    }

    /// Replaces statistics of a callback by their mean over all ranks. It is meant for statistics that depend on
    /// the running statistics of normalization layers, which each rank computes from its own items. Has no effect
    /// if the running statistics are equal on all ranks. Every rank must call it at the same point.
    ///
    /// # Errors
    /// [`Error::Distributed`] if a rank does not respond.
    pub fn average_statistics(&self, statistics: &[(String, Tensor)]) -> Result<()> {
        self.parallel.as_ref().map_or(Ok(()), |p| p.average(statistics))
    }

    /// Returns an error on every rank if the next fits, or their initial weights, differ.
    pub(super) fn agree_on_fit(&self) -> Result<()> {
        let Some(p) = &self.parallel else { return Ok(()) };
        let mut sum = crc32fast::Hasher::new();
        for param in self.model.params() {
            let flat = param.tensor.detach().f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
            let numbers: Vec<f32> = Vec::try_from(&flat.f_reshape([-1])?)?;
            numbers.iter().for_each(|n| sum.update(&n.to_le_bytes()));
        }
        let plan = serde_json::to_string(&self.plan).map_err(Error::other)?;
        p.world().must_agree(&[
            ("the fit".to_owned(), plan),
            ("the position".to_owned(), format!("{:?}", self.at)),
            ("the optimizer's hyper-parameters".to_owned(), format!("{:?}", self.opt.hypers())),
            ("the weights' checksum".to_owned(), format!("{:08x}", sum.finalize())),
        ])
    }

    /// Waits until rank 0 has written its files.
    pub(in crate::learner) fn wait_for_files(&self) -> Result<()> {
        self.parallel.as_ref().map_or(Ok(()), |p| p.world().barrier())
    }

    /// Returns the first rank on which `yes` is true. Every rank must call it at the same point.
    ///
    /// # Errors
    /// [`Error::Distributed`] if a rank does not respond.
    pub fn first_rank_where(&self, yes: bool) -> Result<Option<usize>> {
        let Some(p) = &self.parallel else { return Ok(yes.then_some(0)) };
        let all = p.world().exchange_numbers([f64::from(u8::from(yes))])?;
        Ok(all.iter().position(|[yes]| *yes > 0.0))
    }
}

impl Learner {
    /// Trains together with the other processes that a launcher started: fastai's `distrib_ctx`. The rest
    /// of the program stays the same.
    ///
    /// - `bs` is the size of the global batch; each process loads and computes an equal share of it.
    ///   Batches, shuffling and augmentation are the same for any number of processes.
    /// - Gradients are averaged over the processes, weighted by their numbers of items.
    /// - Losses, metrics and predictions cover all items, in every process.
    /// - Only rank 0 prints and writes files.
    ///
    /// Without a launcher, it has no effect. Every process must build the same learner and call the same
    /// methods in the same order; only [`predict`](Learner::predict) may be called by a single process.
    ///
    /// # Errors
    /// [`Error::Config`] for invalid variables of a launcher or invalid options; [`Error::Distributed`] if
    /// the processes cannot connect; [`Error::Mismatch`] if their learners differ; [`Error::Unsupported`] if
    /// [`sync_bn`](DistributedOptions::sync_bn) is combined with gradient checkpointing.
    ///
    /// ```no_run
    /// # use finetune::prelude::*;
    /// # fn f(dls: DataLoaders) -> finetune::Result<()> {
    /// let mut learn = vision_learner(dls, resnet18()).build()?.distributed()?;
    /// learn.fine_tune(4)?;
    /// # Ok(()) }
    /// ```
    pub fn distributed(self) -> Result<Self> {
        self.distributed_with(DistributedOptions::new())
    }

    /// As [`Learner::distributed`], with options.
    ///
    /// # Errors
    /// As [`Learner::distributed`].
    pub fn distributed_with(mut self, options: DistributedOptions) -> Result<Self> {
        let world = World::get()?;
        options.check(&world)?;
        if world.size() == 1 && !options.deterministic {
            return Ok(self);
        }
        let t = &mut self.training;
        if options.sync_bn && t.model.is_grad_checkpointing() {
            let why = "gradient checkpointing would exchange the statistics of each batch twice: choose \
                       either `sync_bn` or `grad_checkpointing`";
            return Err(Error::unsupported("sync_bn", why));
        }
        world.use_device(t.model.device())?;
        world.must_agree(&described(t, &options))?;
        let groups = if options.sync_bn { world.group()? } else { None };
        t.model.sync_norms(groups);
        let params = t.model.params().iter().map(|p| &p.tensor);
        for tensor in params.chain(t.model.buffers().iter().map(|(_, buffer)| buffer)) {
            world.broadcast(&tensor.detach())?;
        }
        t.parallel = Some(Parallel::new(world, options));
        Ok(self)
    }
}

/// Describes the properties that must be equal on every rank.
fn described(t: &Training, options: &DistributedOptions) -> Vec<(String, String)> {
    let params = t.model.params().iter().map(|p| (&p.name, &p.tensor));
    let all = params.chain(t.model.buffers().iter().map(|(n, t)| (n, t)));
    let shapes: Vec<String> =
        all.map(|(name, t)| format!("{name} {:?} {:?}", t.kind(), t.size())).collect();
    let metrics: Vec<&str> = t.metrics.iter().map(|m| m.name()).collect();
    let mut found = vec![
        ("the model".to_owned(), shapes.join(", ")),
        ("the loss".to_owned(), format!("{} {:?}", t.loss.name(), t.loss)),
        ("the optimizer".to_owned(), format!("{:?}", t.opt.hypers())),
        ("the metrics".to_owned(), format!("{metrics:?}")),
        ("the precision".to_owned(), format!("{:?}", t.precision)),
        ("the seed".to_owned(), t.seed.0.to_string()),
        ("the options of `distributed_with`".to_owned(), format!("{options:?}")),
        ("the task".to_owned(), format!("{:?}", t.dls.task())),
        ("the item transforms".to_owned(), format!("{:?}", t.dls.item_tfms())),
        ("the batch transforms".to_owned(), format!("{:?}", t.dls.batch_tfms())),
    ];
    found.extend(items("training", t.dls.train()));
    found.extend(items("validation", t.dls.valid()));
    found
}

fn items(side: &str, loader: &DataLoader) -> [(String, String); 3] {
    let data = loader.dataset();
    let mut sum = crc32fast::Hasher::new();
    for &item in loader.items() {
        sum.update(data.name(item).as_bytes());
        sum.update(&[0]);
    }
    let (bs, batches) = (loader.bs(), loader.num_batches());
    [
        (format!("the number of {side} items"), loader.len().to_string()),
        (format!("the names or order of the {side} items"), format!("{:08x}", sum.finalize())),
        (format!("the {side} batches"), format!("{batches} of {bs}")),
    ]
}
