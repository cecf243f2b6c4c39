//! Stopping a fit from another thread.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Stops a fit from another thread, such as one that handles Ctrl-C. The loop checks it between
/// batches. The fit then ends as if a callback had cancelled it, with the weights of the last step,
/// and returns `Ok`.
///
/// A stop stays requested until [`StopHandle::reset`]: later stages of a `fine_tune` and further
/// fits end at once too.
///
/// ```no_run
/// # fn f(mut learn: finetune::learner::Learner) -> finetune::Result<()> {
/// let stop = learn.stop_handle();
/// let watcher = stop.clone();
/// std::thread::spawn(move || {
///     let _ = std::io::stdin().read_line(&mut String::new());
///     watcher.stop(); // Enter ends the training
/// });
/// learn.fine_tune(10)?;
/// if stop.is_requested() {
///     learn.save("stopped")?;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// Ends the current fit, or the next one if none is running, before its next batch.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns true if a stop was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Clears the request, so that fits can run again.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
