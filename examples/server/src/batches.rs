//! Batches of concurrent requests.

use crate::metrics::Metrics;
use finetune_predict::{Error, ImageSource, Prediction, Predictor, Result};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// An image that waits for its prediction.
#[derive(Debug)]
struct Job {
    image: ImageSource,
    answer: oneshot::Sender<Result<Prediction>>,
}

/// A queue of images, and the thread that predicts them on all cores.
#[derive(Debug)]
pub(crate) struct Batches {
    queue: Mutex<Option<SyncSender<Job>>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// The reason why the queue does not take an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The queue is full.
    Full,
    /// The thread has ended.
    Ended,
}

/// The limits of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Together {
    /// The maximum number of images in a batch.
    pub(crate) most: usize,
    /// The time that the first image waits for others.
    pub(crate) wait: Duration,
    /// The maximum number of images in the queue.
    pub(crate) queue: usize,
}

impl Batches {
    /// Starts the thread.
    pub(crate) fn start(predictor: Predictor, how: Together, metrics: Arc<Metrics>) -> Self {
        let (queue, jobs) = sync_channel(how.queue);
        let worker = thread::spawn(move || work(&predictor, &jobs, how, &metrics));
        Self { queue: Mutex::new(Some(queue)), worker: Mutex::new(Some(worker)) }
    }

    /// Puts an image into the queue.
    pub(crate) fn push(
        &self,
        image: ImageSource,
    ) -> Result<oneshot::Receiver<Result<Prediction>>, Refused> {
        let (answer, receiver) = oneshot::channel();
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queue.as_ref().ok_or(Refused::Ended)?;
        match queue.try_send(Job { image, answer }) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(_)) => Err(Refused::Full),
            Err(TrySendError::Disconnected(_)) => Err(Refused::Ended),
        }
    }

    /// Returns true if the thread runs.
    pub(crate) fn alive(&self) -> bool {
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        worker.as_ref().is_some_and(|worker| !worker.is_finished())
    }

    /// Ends the thread once the queue is empty.
    pub(crate) fn join(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if worker.is_some_and(|worker| worker.join().is_err()) {
            eprintln!("the prediction thread panicked");
        }
    }
}

fn work(predictor: &Predictor, jobs: &Receiver<Job>, how: Together, metrics: &Metrics) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        let end = Instant::now() + how.wait;
        while batch.len() < how.most {
            match jobs.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(job) => batch.push(job),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        // A request that ended by its time limit no longer waits for its answer.
        batch.retain(|job| !job.answer.is_closed());
        if batch.is_empty() {
            continue;
        }
        metrics.batch(batch.len());
        let (images, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|job| (job.image, job.answer)).unzip();
        let mut results = predictor.predict_each(images).into_iter();
        for answer in answers {
            let missing = || Err(Error::other("there is no prediction for the image"));
            // The request may have ended by its time limit in the meantime.
            let _ = answer.send(results.next().unwrap_or_else(missing));
        }
    }
}
