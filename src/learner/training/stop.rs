//! Stopping a fit from outside.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Stops a fit from another thread, such as the one that handles Ctrl-C. The loop looks at it between
/// batches; the fit then ends as if a callback had cancelled it, with the weights of the last step,
/// and returns `Ok`.
///
/// A stop stays requested until [`StopHandle::reset`]: the later stages of a `fine_tune` end at once
/// too, and so does every fit begun in the meantime.
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
    /// Ends the fit that runs, or else the next one, before its next batch.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes the request back: fits may run again.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
