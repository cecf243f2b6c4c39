//! The loop. Reads top down: fit, epoch, part, batch, backward and step.

use crate::{
    data::DataLoader,
    error::{Error, Result},
    learner::{Callback, Outcome, Scope, Step, Stop, Training},
    sample::{Batch, Split},
    seed::Stream,
    sys::{KeptMemory, share_processors},
};
use rand::Rng as _;
use std::{ops::Range, time::Instant};
use tch::{Device, Tensor};

/// Trains for `epochs`, the first of them from `batch` on, then leaves the position's epoch at the
/// last one.
pub(in crate::learner) fn fit<'a>(
    t: &'a mut Training,
    callbacks: Vec<&'a mut (dyn Callback + 'a)>,
    epochs: Range<usize>,
    batch: usize,
) -> Result<()> {
    t.at.epochs = epochs.end;
    if !t.resumed {
        t.at.fit_batches = 0;
    }
    let _kept = kept_memory(t)?;
    share_processors();
    let mut run = Run::new(t, callbacks);
    run.first = batch;
    run.fit(epochs).map_err(into_error)
}

/// Goes through `loader` once without training, with the events of one epoch that only validates.
pub(in crate::learner) fn evaluate<'a>(
    t: &'a mut Training,
    callbacks: Vec<&'a mut (dyn Callback + 'a)>,
    loader: &DataLoader,
    pass: u64,
) -> Result<()> {
    (t.at.epoch, t.at.epochs, t.at.fit_batches, t.at.pass) = (0, 1, 0, pass);
    let _kept = kept_memory(t)?;
    share_processors();
    let mut run = Run::new(t, callbacks);
    run.loader = Some(loader.clone());
    run.validation_only().map_err(into_error)
}

/// Keeps the memory of one batch for the next, where the system would hand it out: for a GPU libtorch does
/// so by itself.
fn kept_memory(t: &Training) -> Result<Option<KeptMemory>> {
    (t.model.device() == Device::Cpu).then(KeptMemory::hold).transpose()
}

/// What a stop that left the loop is to the caller.
fn into_error(stop: Stop) -> Error {
    match stop {
        Stop::Failed(e) => e,
        Stop::Cancel(scope) => {
            let why = format!("`{scope:?}` was cancelled where it was not running");
            Error::config("Scope::cancel", why)
        }
    }
}

struct Run<'a> {
    t: &'a mut Training,
    callbacks: Vec<&'a mut (dyn Callback + 'a)>,
    /// The training batch to begin the first epoch with.
    first: usize,
    /// What to validate on; none for the validation items.
    loader: Option<DataLoader>,
}

impl<'a> Run<'a> {
    fn new(t: &'a mut Training, mut callbacks: Vec<&'a mut (dyn Callback + 'a)>) -> Self {
        callbacks.sort_by_key(|cb| cb.order());
        Self { t, callbacks, first: 0, loader: None }
    }

    fn fit(&mut self, epochs: Range<usize>) -> Step {
        let done = self.epochs(epochs);
        self.finish(done)
    }

    fn epochs(&mut self, epochs: Range<usize>) -> Step {
        let first = std::mem::take(&mut self.first);
        self.t.at.epoch = epochs.start;
        self.each("before_fit", |cb, t| cb.before_fit(t))?;
        self.t.resumed = false;
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
        self.t.at.pass += 1;
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

    /// The end of a fit. On every ending each callback has its `after_fit`, whatever another one's
    /// does: there bars are closed and weights put back.
    fn finish(&mut self, done: Step) -> Step {
        let mut done = self.absorb_cancel(Scope::Fit, done);
        for cb in &mut self.callbacks {
            let after = cb.after_fit(self.t).map_err(|stop| with_context(&**cb, "after_fit", stop));
            done = done.and(after);
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
        self.batches(&loader)
    }

    fn validate(&mut self) -> Step {
        let loader = self.begin_part(Split::Valid);
        let _guard = tch::no_grad_guard();
        self.each("before_validate", |cb, t| cb.before_validate(t))?;
        self.batches(&loader)
    }

    /// Begins a part. The loader is a second handle: the batches borrow it while the callbacks have
    /// the whole training.
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
        let first = self.t.at.batch;
        let mut batches = loader.batches_from(self.t.at.pass, first);
        for i in first.. {
            if self.loader.is_none() && self.t.stop.is_requested() {
                self.t.say("stopped on request");
                return Scope::Fit.cancel();
            }
            let began = Instant::now();
            let Some(batch) = batches.next() else { break };
            self.t.clock.waited += began.elapsed();
            self.t.at.batch = i;
            self.batch(batch?)?;
        }
        Ok(())
    }

    fn batch(&mut self, mut batch: Batch) -> Step {
        let mut outcome = Outcome::default();
        let done = self.one_batch(&mut batch, &mut outcome);
        if self.t.at.is_training() {
            self.t.at.step += 1;
        }
        self.absorb_cancel(Scope::Batch, done)?;
        if self.t.at.is_training() {
            self.t.at.fit_batches += 1;
        }
        self.each("after_batch", |cb, t| cb.after_batch(t, &batch, &outcome))
    }

    fn one_batch(&mut self, batch: &mut Batch, outcome: &mut Outcome) -> Step {
        if self.t.at.is_training() {
            // Dropout continues bit for bit in a resumed run, without saved generator states.
            let stream = Stream::Step { step: self.t.at.step };
            tch::manual_seed(self.t.seed.rng(stream).next_u64() as i64);
        }
        self.each("before_batch", |cb, t| cb.before_batch(t, batch))?;
        let pred = outcome.pred.insert(self.t.forward(&batch.x)?);
        self.each("after_pred", |cb, t| cb.after_pred(t, batch, pred))?;
        let Some(y) = &batch.y else { return Ok(()) };
        let loss = outcome.loss.insert(self.t.loss.mean(pred, y));
        self.each("after_loss", |cb, t| cb.after_loss(t, batch, loss))?;
        if !self.t.at.is_training() {
            return Ok(());
        }
        let done = self.backward(batch, loss);
        self.absorb_cancel(Scope::Backward, done)?;
        self.each("after_backward", |cb, t| cb.after_backward(t))?;
        let done = self.step();
        self.absorb_cancel(Scope::Step, done)?;
        self.each("after_step", |cb, t| cb.after_step(t))?;
        self.t.opt.zero_grad();
        Ok(())
    }

    fn backward(&mut self, batch: &Batch, loss: &Tensor) -> Step {
        let mut scaled = loss.shallow_clone();
        self.each("before_backward", |cb, t| cb.before_backward(t, batch, &mut scaled))?;
        scaled.f_backward()?;
        Ok(())
    }

    fn step(&mut self) -> Step {
        self.each("before_step", |cb, t| cb.before_step(t))?;
        self.t.opt.step()?;
        Ok(())
    }

    /// Where `scope` ends: a cancel of it stops here.
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
        mut call: impl FnMut(&mut dyn Callback, &mut Training) -> Step,
    ) -> Step {
        for cb in &mut self.callbacks {
            call(&mut **cb, self.t).map_err(|stop| with_context(&**cb, event, stop))?;
        }
        Ok(())
    }
}

/// A failure with the callback and the event; a cancel as it is.
fn with_context(callback: &dyn Callback, event: &'static str, stop: Stop) -> Stop {
    match stop {
        Stop::Failed(e @ Error::NonFiniteLoss { .. }) => Stop::Failed(e),
        Stop::Failed(cause) => Stop::Failed(Error::Callback {
            callback: callback.name().to_owned(),
            event,
            cause: Box::new(cause),
        }),
        cancel @ Stop::Cancel(_) => cancel,
    }
}
