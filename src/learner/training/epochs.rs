//! The training loop, top down: fit, epoch, part, batch, backward and step.

use super::{
    parallel::{Next, Parallel},
    shards::{Layout, SHARDS, Tree},
};
use crate::{
    data::{BatchPart, DataLoader, Share},
    error::{Error, Result},
    learner::{Callback, Outcome, Scope, Step, Stop, Training},
    sample::{Batch, Split},
    seed::Stream,
    sys::{KeptMemory, caught, share_processors},
};
use rand::Rng as _;
use std::{ops::Range, time::Instant};
use tch::{Device, Kind, Tensor};

/// Trains for `epochs`, starting the first one at `batch`. Afterwards, the position's epoch is the last
/// one.
pub(in crate::learner) fn fit<'a>(
    t: &mut Training,
    callbacks: Vec<&'a mut (dyn Callback + 'a)>,
    epochs: Range<usize>,
    batch: usize,
) -> Result<()> {
    t.at.epochs = epochs.end;
    if !t.resumed {
        t.at.fit_batches = 0;
    }
    let _kept = kept_memory(t);
    share_processors();
    let agreed = t.agree_on_fit();
    let done = agreed.and_then(|()| {
        let mut run = Run::new(t, callbacks)?;
        run.first = batch;
        run.fit(epochs).map_err(into_error)
    });
    done.map_err(|e| settled(t, e))
}

/// Evaluates all batches of `loader`, with the events of a validation.
pub(in crate::learner) fn evaluate<'a>(
    t: &mut Training,
    callbacks: Vec<&'a mut (dyn Callback + 'a)>,
    loader: &DataLoader,
    pass: u64,
    gather_inputs: bool,
) -> Result<()> {
    (t.at.epoch, t.at.epochs, t.at.fit_batches, t.at.pass) = (0, 1, 0, pass);
    let _kept = kept_memory(t);
    share_processors();
    let mut run = Run::new(t, callbacks)?;
    run.loader = Some(loader.clone());
    run.gather_inputs = gather_inputs;
    let done = run.validation_only().map_err(into_error);
    done.map_err(|e| settled(t, e))
}

/// The pooled features of the items of a loader, gathered from all ranks.
#[derive(Debug, Default)]
pub(in crate::learner) struct Pooled {
    /// The features of each batch, `[N, features]`, on the CPU.
    pub(in crate::learner) features: Vec<Tensor>,
    /// The targets of each batch, on the CPU.
    pub(in crate::learner) targets: Vec<Tensor>,
    /// The indices of the items in their data set.
    pub(in crate::learner) items: Vec<usize>,
}

/// Computes the pooled features of the items of `loader`, with the events of a validation except for those
/// that follow a prediction.
pub(in crate::learner) fn pooled<'a>(
    t: &mut Training,
    callbacks: Vec<&'a mut (dyn Callback + 'a)>,
    loader: &DataLoader,
    pass: u64,
) -> Result<Pooled> {
    (t.at.epoch, t.at.epochs, t.at.fit_batches, t.at.pass) = (0, 1, 0, pass);
    let _kept = kept_memory(t);
    share_processors();
    let mut run = Run::new(t, callbacks)?;
    run.loader = Some(loader.clone());
    run.pooled = Some(Pooled::default());
    let done = run.validation_only().map_err(into_error);
    let pooled = run.pooled.take().unwrap_or_default();
    done.map(|()| pooled).map_err(|e| settled(t, e))
}

/// Returns the error to report for `e`, once every rank has one.
fn settled(t: &mut Training, e: Error) -> Error {
    match &mut t.parallel {
        Some(p) => p.settle(e),
        None => e,
    }
}

/// Reuses the memory of one batch for the next on a CPU; on a GPU, libtorch does this itself.
fn kept_memory(t: &Training) -> Option<KeptMemory> {
    (t.model.device() == Device::Cpu).then(KeptMemory::hold)
}

/// Converts a stop that left the loop into an error.
fn into_error(stop: Stop) -> Error {
    match stop {
        Stop::Failed(e) => e,
        Stop::Cancel(scope) => {
            let why = format!("`{scope:?}` was cancelled while it was not running");
            Error::config("Scope::cancel", why)
        }
    }
}

struct Run<'t, 'a> {
    t: &'t mut Training,
    callbacks: Vec<&'a mut (dyn Callback + 'a)>,
    /// The first training batch of the first epoch.
    first: usize,
    /// The loader to validate on; `None` for the validation items.
    loader: Option<DataLoader>,
    /// If true, the callbacks need the model's inputs of all ranks.
    gather_inputs: bool,
    /// If set, the pooled features of the batches are collected here, instead of predictions.
    pooled: Option<Pooled>,
}

/// Returns the items of one shard of a batch; `None` if this rank has none of them.
fn shard_of(batch: &Batch, part: &BatchPart, shard: usize) -> Result<Option<Batch>> {
    let range = Share { index: shard, of: SHARDS }.range(part.whole);
    let from = part.places.partition_point(|place| *place < range.start);
    let to = part.places.partition_point(|place| *place < range.end);
    if from == to || part.own_items() == 0 {
        return Ok(None);
    }
    let rows = |t: &Tensor| t.f_narrow(0, from as i64, (to - from) as i64);
    let y = batch.y.as_ref().map(rows).transpose()?;
    let mut shard = Batch::new(rows(&batch.x)?, y, batch.items[from..to].to_vec());
    shard.labels = batch.labels.as_ref().map(rows).transpose()?;
    shard.placements = batch.placements.get(from..to).unwrap_or_default().to_vec();
    Ok(Some(shard))
}

/// Returns the divisor of the mean of this rank's loss.
fn weight(t: &Training, part: &BatchPart, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
    let items = Tensor::from(part.own_items() as f64);
    let own = t.loss_divisor(pred, y)?.filter(|_| part.own_items() > 0);
    Ok(own.unwrap_or(items))
}

impl<'t, 'a> Run<'t, 'a> {
    fn new(t: &'t mut Training, mut callbacks: Vec<&'a mut (dyn Callback + 'a)>) -> Result<Self> {
        caught(|| {
            callbacks.sort_by_key(|cb| cb.order());
            if !t.is_first_rank() {
                callbacks.retain(|cb| !cb.only_on_first_rank());
            }
            Ok(())
        })?;
        Ok(Self { t, callbacks, first: 0, loader: None, gather_inputs: false, pooled: None })
    }

    fn fit(&mut self, epochs: Range<usize>) -> Step {
        let done = self.epochs(epochs);
        self.finish(done)
    }

    fn epochs(&mut self, epochs: Range<usize>) -> Step {
        let first = std::mem::take(&mut self.first);
        self.t.at.epoch = epochs.start;
        self.each("before_fit", |cb, t| cb.before_fit(t))?;
        for epoch in epochs.clone() {
            self.t.at.epoch = epoch;
            self.first = if epoch == epochs.start { first } else { 0 };
            let done = self.epoch();
            self.absorb_cancel(Scope::Epoch, done)?;
            self.each("after_epoch", |cb, t| cb.after_epoch(t))?;
        }
        Ok(())
    }

    fn epoch(&mut self) -> Step {
        self.each("before_epoch", |cb, t| cb.before_epoch(t))?;
        let done = self.train();
        self.t.at.pass = self.t.at.pass.wrapping_add(1);
        if let (false, Some(p)) = (matches!(done, Err(Stop::Failed(_))), &self.t.parallel) {
            p.average_buffers(&self.t.model)?;
        }
        self.absorb_cancel(Scope::Train, done)?;
        self.each("after_train", |cb, t| cb.after_train(t))?;
        self.run_validation()
    }

    fn validation_only(&mut self) -> Step {
        let done = self.each("before_fit", |cb, t| cb.before_fit(t)).and_then(|()| {
            self.each("before_epoch", |cb, t| cb.before_epoch(t))?;
            let done = self.run_validation();
            self.absorb_cancel(Scope::Epoch, done)?;
            self.each("after_epoch", |cb, t| cb.after_epoch(t))
        });
        self.finish(done)
    }

    /// Ends a fit. Every callback gets its `after_fit`, even if that of another one fails, because it closes
    /// progress bars and restores weights.
    fn finish(&mut self, done: Step) -> Step {
        let mut done = self.absorb_cancel(Scope::Fit, done);
        for cb in &mut self.callbacks {
            done = done.and(call(&mut **cb, self.t, "after_fit", |cb, t| cb.after_fit(t)));
        }
        done
    }

    fn run_validation(&mut self) -> Step {
        let done = self.validate();
        self.absorb_cancel(Scope::Validate, done)?;
        self.each("after_validate", |cb, t| cb.after_validate(t))
    }

    fn train(&mut self) -> Step {
        let loader = self.begin_part(Split::Train);
        self.each("before_train", |cb, t| cb.before_train(t))?;
        self.t.resumed = false;
        self.batches(&loader)
    }

    fn validate(&mut self) -> Step {
        let loader = self.begin_part(Split::Valid);
        let _guard = tch::no_grad_guard();
        self.each("before_validate", |cb, t| cb.before_validate(t))?;
        self.batches(&loader)
    }

    /// Begins a part. Returns a second handle of the loader, which the batches borrow while callbacks
    /// borrow the whole training.
    fn begin_part(&mut self, split: Split) -> DataLoader {
        let loader = match (&self.loader, split) {
            (Some(loader), Split::Valid) => loader.clone(),
            _ => self.t.dls.loader(split).clone(),
        };
        self.t.at.split = split;
        self.t.at.batch = if split == Split::Train { self.first } else { 0 };
        self.t.at.batches = loader.num_batches();
        self.t.clock.restart();
        loader
    }

    fn batches(&mut self, loader: &DataLoader) -> Step {
        let training = self.t.at.is_training();
        let share = self.t.parallel.as_ref().map_or(Share::WHOLE, Parallel::share);
        let mut parts = loader.parts_from(self.t.at.pass, self.t.at.batch, share);
        let mut next = self.t.at.batch;
        // A resumed part, or a process's share of it, may be empty.
        let mut expects = next == 0 && self.t.at.batches > 0 && self.t.parallel.is_none();
        loop {
            let stop = self.loader.is_none() && self.t.stop.is_requested();
            let began = Instant::now();
            let own = if stop && self.t.parallel.is_none() { None } else { parts.next() };
            self.t.clock.waited += began.elapsed();
            let part = match (&mut self.t.parallel, own) {
                (Some(p), own) => p.next(own, stop, training)?,
                (None, _) if stop => Next::Stop,
                (None, None) => Next::End,
                (None, Some(part)) => match part? {
                    BatchPart { batch: None, .. } => Next::Nothing,
                    part => Next::Part(part),
                },
            };
            match part {
                Next::Part(part) => {
                    self.t.at.batch = next;
                    self.batch(part)?;
                    expects = false;
                    next += 1;
                }
                Next::Nothing => {}
                Next::Stop => {
                    self.t.say("stopped on request");
                    return Scope::Fit.cancel();
                }
                Next::End if expects => return Err(loader.all_skipped().into()),
                Next::End => return Ok(()),
            }
        }
    }

    fn batch(&mut self, mut part: BatchPart) -> Step {
        let mut outcome = Outcome::default();
        // A rank without an item of its own still calls the callbacks with the batch of the others.
        let nothing = || Batch::new(Tensor::new(), None, vec![]);
        let mut batch = part.batch.take().unwrap_or_else(nothing);
        let done = self.one_batch(&mut batch, &part, &mut outcome);
        let done = done.map_err(|stop| self.at_batch(stop));
        if self.t.at.is_training() {
            self.t.at.step = self.t.at.step.wrapping_add(1);
        }
        self.absorb_cancel(Scope::Batch, done)?;
        if self.t.at.is_training() {
            self.t.at.fit_batches += 1;
        }
        self.each("after_batch", |cb, t| cb.after_batch(t, &batch, &outcome))?;
        self.checkpoint()
    }

    /// Writes the checkpoint that a callback requested, after all callbacks have handled the batch.
    fn checkpoint(&mut self) -> Step {
        let Some(request) = self.t.checkpoints.requested.take() else { return Ok(()) };
        let ready = match self.each("before_checkpoint", |cb, t| cb.before_checkpoint(t)) {
            Err(Stop::Failed(e)) => Err(e),
            other => Ok(other?),
        };
        self.t.write_requested(&request, ready)?;
        match request.signal {
            Some(signal) => {
                let checkpoint = self.t.checkpoints.written.clone();
                Err(Error::interrupted(signal, checkpoint).into())
            }
            None => Ok(()),
        }
    }

    fn one_batch(&mut self, batch: &mut Batch, part: &BatchPart, outcome: &mut Outcome) -> Step {
        if !self.t.at.is_training() {
            return self.evaluate_batch(batch, part, outcome);
        }
        let in_shards = self.t.parallel.as_ref().is_some_and(Parallel::is_deterministic);
        let has_loss = if in_shards {
            self.train_in_shards(batch, part, outcome)?
        } else {
            self.train_batch(batch, part, outcome)?
        };
        if !has_loss {
            return Ok(());
        }
        self.each("after_backward", |cb, t| cb.after_backward(t))?;
        let done = self.step();
        self.absorb_cancel(Scope::Step, done)?;
        self.each("after_step", |cb, t| cb.after_step(t))?;
        self.t.opt.zero_grad();
        Ok(())
    }

    /// Seeds libtorch's generator for part `k` of the step, so that dropout is identical in a resumed run
    /// without saved generator states.
    fn seed_step(&self, k: usize) {
        let mut rng = self.t.seed.rng(Stream::Step { step: self.t.at.step });
        (0..k).for_each(|_| {
            rng.next_u64();
        });
        tch::manual_seed(rng.next_u64() as i64);
    }

    /// Computes the gradients of a batch. Returns true if it has targets.
    fn train_batch(
        &mut self,
        batch: &mut Batch,
        part: &BatchPart,
        outcome: &mut Outcome,
    ) -> Result<bool, Stop> {
        self.seed_step(self.t.parallel.as_ref().map_or(0, |p| p.share().index));
        self.each("before_batch", |cb, t| cb.before_batch(t, batch))?;
        let Training { parallel, model, .. } = &mut *self.t;
        parallel.as_mut().map_or(Ok(()), |p| p.before_forward(model))?;
        let pred = outcome.pred.insert(self.t.forward(&batch.x)?);
        if self.t.at.batch == 0 {
            self.t.check_outputs(pred)?;
        }
        self.each("after_pred", |cb, t| cb.after_pred(t, batch, pred))?;
        let Some(y) = &batch.y else { return Ok(false) };
        let loss = outcome.loss.insert(self.t.loss(pred, y)?);
        self.each("after_loss", |cb, t| cb.after_loss(t, batch, loss))?;
        let whole = match &self.t.parallel {
            Some(p) if p.world().size() > 1 => {
                Some(p.whole_loss(loss, &weight(self.t, part, pred, y)?)?)
            }
            _ => None,
        };
        let factor = whole.as_ref().map(|(_, factor)| factor);
        let done = self.backward(batch, loss, factor);
        self.absorb_cancel(Scope::Backward, done)?;
        if let Some((whole, _)) = whole {
            *loss = whole;
        }
        Ok(true)
    }

    fn backward(&mut self, batch: &Batch, loss: &Tensor, factor: Option<&Tensor>) -> Step {
        let mut scaled = loss.shallow_clone();
        self.each("before_backward", |cb, t| cb.before_backward(t, batch, &mut scaled))?;
        if let Some(factor) = factor {
            scaled = scaled.f_mul(factor)?;
        }
        if let Some(p) = &self.t.parallel {
            p.before_backward(&scaled)?;
        }
        scaled.f_backward()?;
        Ok(())
    }

    /// Computes the gradients of a batch as the sum of those of its shards, in a fixed order.
    fn train_in_shards(
        &mut self,
        batch: &Batch,
        part: &BatchPart,
        outcome: &mut Outcome,
    ) -> Result<bool, Stop> {
        let layout = Layout::begin(&self.t.model)?;
        let added = self.add_shards(&layout, batch, part, outcome);
        match added {
            Ok(Some(sum)) => {
                outcome.loss = Some(layout.finish(&sum)?);
                Ok(true)
            }
            Ok(None) => {
                layout.undo()?;
                Ok(false)
            }
            Err(stop) => {
                layout.undo()?;
                Err(stop)
            }
        }
    }

    fn add_shards(
        &mut self,
        layout: &Layout,
        batch: &Batch,
        part: &BatchPart,
        outcome: &mut Outcome,
    ) -> Result<Option<Tensor>, Stop> {
        let shards = self.t.parallel.as_ref().map_or(0..SHARDS, Parallel::shards);
        let (mut tree, mut preds) = (Tree::default(), vec![]);
        for shard in shards {
            let Some(mut batch) = shard_of(batch, part, shard)? else {
                tree.push(None)?;
                continue;
            };
            self.seed_step(shard);
            self.each("before_batch", |cb, t| cb.before_batch(t, &mut batch))?;
            let mut pred = self.t.forward(&batch.x)?;
            self.each("after_pred", |cb, t| cb.after_pred(t, &mut batch, &mut pred))?;
            let Some(y) = &batch.y else {
                tree.push(None)?;
                continue;
            };
            let mut loss = self.t.loss(&pred, y)?;
            self.each("after_loss", |cb, t| cb.after_loss(t, &batch, &mut loss))?;
            let items = Tensor::from(y.size().first().copied().unwrap_or(1) as f64);
            let weight = self.t.loss_divisor(&pred, y)?.unwrap_or(items);
            let weight = weight.f_to_kind(Kind::Float)?.f_to_device(loss.device())?;
            let done = self.backward(&batch, &loss, Some(&weight));
            self.absorb_cancel(Scope::Backward, done)?;
            tree.push(Some(layout.leaf(&loss, &weight)?))?;
            preds.push(pred.detach());
        }
        outcome.pred = match preds.is_empty() {
            true => Some(Tensor::f_zeros([0], (Kind::Float, self.t.model.device()))?),
            false => Some(Tensor::f_cat(&preds, 0)?),
        };
        let own = tree.sum()?;
        let device = self.t.model.device();
        let whole = self.t.parallel.as_ref().map(|p| p.add_up(own, layout.numbers(), device));
        Ok(whole.transpose()?.flatten())
    }

    fn evaluate_batch(
        &mut self,
        batch: &mut Batch,
        part: &BatchPart,
        outcome: &mut Outcome,
    ) -> Step {
        self.each("before_batch", |cb, t| cb.before_batch(t, batch))?;
        let mut pred = None;
        if self.t.parallel.is_none() || part.own_items() > 0 {
            pred = Some(self.forward_for_evaluation(batch, part)?);
        }
        if let Some(p) = &self.t.parallel {
            let which = (pred.is_some(), self.gather_inputs);
            (pred, *batch) = p.whole(pred.as_ref(), batch, &self.t.dls.task(), which)?;
        }
        let Some(pred) = pred else { return Ok(()) };
        if let Some(pooled) = &mut self.pooled {
            pooled.features.push(pred.f_to_device(Device::Cpu)?);
            pooled
                .targets
                .extend(batch.y.as_ref().map(|y| y.f_to_device(Device::Cpu)).transpose()?);
            pooled.items.extend(&batch.items);
            return Ok(());
        }
        let pred = outcome.pred.insert(pred);
        if self.t.at.batch == 0 {
            self.t.check_outputs(pred)?;
        }
        self.each("after_pred", |cb, t| cb.after_pred(t, batch, pred))?;
        let Some(y) = &batch.y else { return Ok(()) };
        let loss = outcome.loss.insert(self.t.loss(pred, y)?);
        self.each("after_loss", |cb, t| cb.after_loss(t, batch, loss))
    }

    /// Computes the model's output, or the pooled features of the body. With `deterministic_reduction`, it
    /// uses the same shards for any number of processes, since the rounding of kernels depends on the number
    /// of rows.
    fn forward_for_evaluation(&self, batch: &Batch, part: &BatchPart) -> Result<Tensor> {
        let output = |x: &Tensor| match &self.pooled {
            Some(_) => self.t.pooled_features(x),
            None => self.t.forward(x),
        };
        let Some(p) = self.t.parallel.as_ref().filter(|p| p.is_deterministic()) else {
            return output(&batch.x);
        };
        let mut preds = vec![];
        for shard in p.shards() {
            if let Some(batch) = shard_of(batch, part, shard)? {
                preds.push(output(&batch.x)?);
            }
        }
        Ok(Tensor::f_cat(&preds, 0)?)
    }

    fn step(&mut self) -> Step {
        self.each("before_step", |cb, t| cb.before_step(t))?;
        Ok(caught(|| self.t.opt.step())?)
    }

    /// Adds the position to the error of a failed computation.
    fn at_batch(&self, stop: Stop) -> Stop {
        match stop {
            Stop::Failed(
                e @ (Error::Computation { .. } | Error::Torch(_) | Error::Panic { .. }),
            ) => {
                let at = &self.t.at;
                let part = if at.is_training() { "training" } else { "validation" };
                let what = || format!("{part} batch {} of epoch {}", at.batch, at.epoch);
                Stop::Failed(Error::computation(what)(e))
            }
            other => other,
        }
    }

    /// Absorbs a cancel of `scope` at the end of that part.
    fn absorb_cancel(&mut self, scope: Scope, done: Step) -> Step {
        match done {
            Err(Stop::Cancel(s)) if s == scope => {
                self.each("after_cancel", |cb, t| cb.after_cancel(t, scope))
            }
            other => other,
        }
    }

    fn each(
        &mut self,
        event: &'static str,
        mut handle: impl FnMut(&mut dyn Callback, &mut Training) -> Step,
    ) -> Step {
        for cb in &mut self.callbacks {
            call(&mut **cb, self.t, event, &mut handle)?;
        }
        Ok(())
    }
}

/// Calls a callback's event. A panic in it becomes an error.
fn call(
    callback: &mut dyn Callback,
    t: &mut Training,
    event: &'static str,
    handle: impl FnOnce(&mut dyn Callback, &mut Training) -> Step,
) -> Step {
    let done = caught(|| Ok(handle(callback, t))).unwrap_or_else(|e| Err(Stop::Failed(e)));
    done.map_err(|stop| with_context(callback, event, stop))
}

/// Adds the callback and the event to an error; a cancel is unchanged.
fn with_context(callback: &dyn Callback, event: &'static str, stop: Stop) -> Stop {
    match stop {
        Stop::Failed(
            e @ (Error::NonFiniteLoss { .. } | Error::Interrupted { .. } | Error::Busy { .. }),
        ) => Stop::Failed(e),
        Stop::Failed(cause) => Stop::Failed(Error::callback(
            caught(|| Ok(callback.name().to_owned())).unwrap_or_default(),
            event,
            cause,
        )),
        cancel @ Stop::Cancel(_) => cancel,
    }
}
