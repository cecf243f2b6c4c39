//! An ordered prefetcher: jobs run ahead on a pool, and all threads share the parts of each job.
//!
//! A job has parts (the items of a batch), which any thread can process, and a result that combines them.
//! Parts are submitted to the pool individually and in order, so that all threads work on the first batch
//! first; the thread that completes the last part of a job combines the result. Results are returned in
//! order because they are awaited in order.

use crate::{
    data::caught::caught,
    error::{Error, Result},
};
use finetune_image::Panic;
use rayon::ThreadPool;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
};

/// The number of jobs that are running, or completed and waiting.
const AHEAD: usize = 2;

/// A unit of work in parts.
pub(in crate::data) trait Job: Send + Sync + 'static {
    /// The result of a part.
    type Part: Send + 'static;
    /// The result of the job.
    type Whole: Send + 'static;

    /// Returns the number of parts, at least one.
    fn parts(&self) -> usize;

    /// Processes part `k`.
    fn part(&self, k: usize) -> Result<Self::Part>;

    /// Combines the results of the parts.
    fn whole(&self, parts: Vec<Result<Self::Part>>) -> Result<Self::Whole>;

    /// Returns the name of part `k`, for the error if it panics. This function may panic too, without
    /// blocking other threads.
    fn part_name(&self, k: usize) -> String;
}

/// The results of `jobs`, in order. With a pool, the next jobs are always in progress once
/// [`run_ahead`](Self::run_ahead) has been called for the last result. Dropping it cancels jobs that have
/// not started.
pub(in crate::data) struct Prefetch<J: Job, I> {
    pool: Option<Arc<ThreadPool>>,
    jobs: I,
    ahead: VecDeque<mpsc::Receiver<Result<J::Whole>>>,
    stop: Arc<AtomicBool>,
}

impl<J: Job, I: Iterator<Item = J>> Prefetch<J, I> {
    /// Runs `jobs` on `pool`, or without a pool on the calling thread.
    pub(in crate::data) fn new(pool: Option<Arc<ThreadPool>>, jobs: I) -> Self {
        Self { pool, jobs, ahead: VecDeque::new(), stop: Arc::default() }
    }

    /// Starts the next jobs. Call this once the buffers of the previous batch have been released.
    pub(in crate::data) fn run_ahead(&mut self) {
        let Some(pool) = &self.pool else { return };
        while self.ahead.len() < AHEAD {
            let Some(job) = self.jobs.next() else { break };
            self.ahead.push_back(spawn(pool, job, &self.stop));
        }
    }
}

impl<J: Job, I: Iterator<Item = J>> Iterator for Prefetch<J, I> {
    type Item = Result<J::Whole>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.pool.is_none() {
            let job = self.jobs.next()?;
            let parts = (0..job.parts()).map(|k| part(&job, k)).collect();
            return Some(whole(&job, parts));
        }
        self.run_ahead();
        let first = self.ahead.pop_front()?;
        let gone = |_| Err(Error::worker("the pool ended"));
        Some(first.recv().unwrap_or_else(gone))
    }
}

impl<J: Job, I> Drop for Prefetch<J, I> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A job in progress.
struct Shared<J: Job> {
    job: J,
    parts: Vec<Mutex<Option<Result<J::Part>>>>,
    left: AtomicUsize,
    send: mpsc::SyncSender<Result<J::Whole>>,
}

fn spawn<J: Job>(
    pool: &ThreadPool,
    job: J,
    stop: &Arc<AtomicBool>,
) -> mpsc::Receiver<Result<J::Whole>> {
    let (send, receive) = mpsc::sync_channel(1);
    let n = job.parts();
    let parts = (0..n).map(|_| Mutex::new(None)).collect();
    let shared = Arc::new(Shared { job, parts, left: AtomicUsize::new(n), send });
    for k in 0..n {
        let (shared, stop) = (shared.clone(), stop.clone());
        pool.spawn_fifo(move || {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let done = part(&shared.job, k);
            *shared.parts[k].lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
            // The last one sees everything that the others wrote before they decremented the counter.
            if shared.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                let take = |slot: &Mutex<Option<_>>| {
                    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
                };
                let parts = shared.parts.iter().filter_map(take).collect();
                // The receiver is gone if the pass was dropped.
                let _ = shared.send.send(whole(&shared.job, parts));
            }
        });
    }
    receive
}

fn part<J: Job>(job: &J, k: usize) -> Result<J::Part> {
    caught(|| job.part(k), || job.part_name(k), || format!("part {k} of a batch"))
}

fn whole<J: Job>(job: &J, parts: Vec<Result<J::Part>>) -> Result<J::Whole> {
    finetune_image::caught(|| job.whole(parts))
        .unwrap_or_else(|Panic { why, place, .. }| Err(Error::worker(format!("{why} at {place}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{thread, time::Duration};

    /// Parts of different length whose sum is the result.
    struct Sum(usize);

    impl Job for Sum {
        type Part = usize;
        type Whole = usize;

        fn parts(&self) -> usize {
            7
        }

        fn part(&self, k: usize) -> Result<usize> {
            thread::sleep(Duration::from_micros((k * 37 % 11) as u64 * 20));
            match (self.0, k) {
                (5, 3) => Err(Error::other("bad")),
                (6, 2) => panic!("boom"),
                _ => Ok(self.0 * k),
            }
        }

        fn whole(&self, parts: Vec<Result<usize>>) -> Result<usize> {
            parts.into_iter().sum()
        }

        fn part_name(&self, k: usize) -> String {
            format!("part {k}")
        }
    }

    fn run(workers: usize) -> Vec<String> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build().unwrap();
        let pool = (workers > 0).then(|| Arc::new(pool));
        let text = |r: Result<usize>| r.map_or_else(|e| e.to_string(), |n| n.to_string());
        Prefetch::new(pool, (0..9).map(Sum)).map(text).collect()
    }

    #[test]
    fn wholes_come_in_order_with_their_errors() {
        let expected = ["0", "21", "42", "63", "84", "bad", "boom", "147", "168"];
        for workers in [0, 1, 2, 5] {
            let found = run(workers);
            assert!(found[6].contains("boom (on part 2)"), "{}", found[6]);
            let others = |v: &[&str]| [&v[..6], &v[7..]].concat().join(" ");
            let found: Vec<_> = found.iter().map(String::as_str).collect();
            assert_eq!(others(&found), others(&expected), "{workers} workers");
        }
    }

    #[test]
    fn every_thread_works_on_the_first_job_first() {
        struct Where(Arc<Mutex<Vec<usize>>>, usize);
        impl Job for Where {
            type Part = ();
            type Whole = ();
            fn parts(&self) -> usize {
                8
            }
            fn part(&self, _: usize) -> Result<()> {
                self.0.lock().unwrap().push(self.1);
                thread::sleep(Duration::from_millis(1));
                Ok(())
            }
            fn whole(&self, _: Vec<Result<()>>) -> Result<()> {
                Ok(())
            }
            fn part_name(&self, _: usize) -> String {
                String::new()
            }
        }
        let log = Arc::new(Mutex::new(vec![]));
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap());
        Prefetch::new(Some(pool), (0..4).map(|k| Where(log.clone(), k))).for_each(|r| r.unwrap());
        // Each of the other threads may have taken a part without having logged it yet.
        let log = log.lock().unwrap();
        assert!(log[..5].iter().all(|&job| job == 0), "{log:?}");
    }
}
