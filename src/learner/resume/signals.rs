//! SIGTERM and SIGINT during a fit.

use crate::error::{Error, Result};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// State shared by the signal handlers of this process. They are registered once and never removed:
/// removing a handler would leave the signal without its default effect.
#[derive(Debug, Default)]
struct Handlers {
    /// If true, the next signal has its default effect, which ends the process.
    at_once: Arc<AtomicBool>,
    /// The signal that was received; 0 for none.
    received: Arc<AtomicUsize>,
    /// The number of fits that wait for signals.
    waiting: Mutex<usize>,
}

fn handlers() -> Result<&'static Handlers> {
    static HANDLERS: OnceLock<std::io::Result<Handlers>> = OnceLock::new();
    let register = || -> std::io::Result<Handlers> {
        let all = Handlers::default();
        all.at_once.store(true, Ordering::SeqCst);
        for signal in [SIGINT, SIGTERM] {
            // Order matters: the signal that sets `at_once` must not end the process itself.
            flag::register_conditional_default(signal, all.at_once.clone())?;
            flag::register_usize(signal, all.received.clone(), signal as usize)?;
            flag::register(signal, all.at_once.clone())?;
        }
        Ok(all)
    };
    HANDLERS
        .get_or_init(register)
        .as_ref()
        .map_err(|e| Error::other(format!("signal handlers cannot be registered: {e}")))
}

/// While a value of this type exists, the first SIGINT or SIGTERM is stored for [`Signals::received`], and
/// the second one ends the process. Otherwise signals have their default effect.
#[derive(Debug)]
pub(super) struct Signals {
    shared: &'static Handlers,
}

impl Signals {
    /// Starts to wait for signals.
    ///
    /// # Errors
    /// [`Error::Other`] if the system does not allow signal handlers.
    pub(super) fn wait() -> Result<Self> {
        let shared = handlers()?;
        let mut waiting = shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if *waiting == 0 {
            shared.received.store(0, Ordering::SeqCst);
            shared.at_once.store(false, Ordering::SeqCst);
        }
        *waiting += 1;
        Ok(Self { shared })
    }

    /// Returns the name of the signal received since the start, if any.
    pub(super) fn received(&self) -> Option<&'static str> {
        match self.shared.received.load(Ordering::SeqCst) as i32 {
            0 => None,
            SIGINT => Some("SIGINT"),
            _ => Some("SIGTERM"),
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting -= 1;
        if *waiting == 0 {
            self.shared.at_once.store(true, Ordering::SeqCst);
        }
    }
}
