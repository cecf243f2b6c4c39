//! Thread-local flags that are set for a scope.

use std::{cell::Cell, thread::LocalKey};

/// Sets a flag of this thread, and restores its previous value when dropped, even during unwinding.
#[must_use = "the flag is restored when this is dropped"]
pub(super) struct Switch {
    flag: &'static LocalKey<Cell<bool>>,
    before: bool,
}

impl Switch {
    pub(super) fn set(flag: &'static LocalKey<Cell<bool>>, yes: bool) -> Self {
        Self { flag, before: flag.replace(yes) }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.flag.set(self.before);
    }
}
