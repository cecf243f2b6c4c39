//! Panics in user code: they become an error that names the item, and never end the process.

use crate::error::{Error, Result};
use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
};

/// Calls `f`. A panic becomes [`Error::Worker`] with its message and the item's `name`. A panic of `name`
/// itself is caught too; `otherwise` is used as the name then.
pub(in crate::data) fn caught<T>(
    f: impl FnOnce() -> Result<T>,
    name: impl FnOnce() -> String,
    otherwise: impl FnOnce() -> String,
) -> Result<T> {
    panic::catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let name = panic::catch_unwind(AssertUnwindSafe(name)).unwrap_or_else(|_| otherwise());
        Err(Error::worker(format!("{} (on {name})", message(&*panic))))
    })
}

/// Returns the name of item `index`, or its index if that panics.
pub(in crate::data) fn name(name: impl FnOnce(usize) -> String, index: usize) -> String {
    panic::catch_unwind(AssertUnwindSafe(|| name(index))).unwrap_or_else(|_| position(index))
}

/// Returns the name of an item by its index.
pub(in crate::data) fn position(index: usize) -> String {
    format!("item {index}")
}

/// Returns the message of a panic.
pub(in crate::data) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
