//! The threads of a loader.

use super::buffers::Buffers;
use crate::error::{Error, Result};
use rayon::ThreadPool;
use std::sync::{Arc, OnceLock};

/// The loading threads, started when first needed, and the buffers that they fill. Shared by both loaders.
pub(in crate::data) struct Pool {
    workers: usize,
    buffers: Arc<Buffers>,
    threads: OnceLock<Result<Arc<ThreadPool>, String>>,
}

impl Pool {
    pub(in crate::data) fn new(workers: usize) -> Self {
        Self { workers, buffers: Arc::default(), threads: OnceLock::new() }
    }

    /// Returns the number of threads; 0 means the calling thread.
    pub(in crate::data) fn workers(&self) -> usize {
        self.workers
    }

    pub(in crate::data) fn buffers(&self) -> &Arc<Buffers> {
        &self.buffers
    }

    /// Returns the threads; `None` without workers.
    pub(in crate::data) fn threads(&self) -> Result<Option<Arc<ThreadPool>>> {
        if self.workers == 0 {
            return Ok(None);
        }
        let start = || {
            let threads = rayon::ThreadPoolBuilder::new().num_threads(self.workers);
            let threads = threads.thread_name(|i| format!("finetune-data-{i}")).build();
            threads.map(Arc::new).map_err(|e| e.to_string())
        };
        let threads = self.threads.get_or_init(start).clone();
        threads.map(Some).map_err(|why| Error::config("num_workers", why))
    }
}
