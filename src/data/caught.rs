//! Code of the caller's own that panics: an error that names the item, never the end of the process.

use crate::error::{Error, Result};
use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
};

/// Calls `f`. A panic becomes [`Error::Worker`] with its message and, by `name`, the item. A panic of `name`
/// itself is caught too; `otherwise` stands for the name then.
pub(in crate::data) fn caught<T>(
    f: impl FnOnce() -> Result<T>,
    name: impl FnOnce() -> String,
    otherwise: impl FnOnce() -> String,
) -> Result<T> {
    panic::catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let name = panic::catch_unwind(AssertUnwindSafe(name)).unwrap_or_else(|_| otherwise());
        Err(Error::Worker { why: format!("{} (on {name})", message(&*panic)) })
    })
}

/// The name of item `index`, or its position if that panics.
pub(in crate::data) fn name(name: impl FnOnce(usize) -> String, index: usize) -> String {
    panic::catch_unwind(AssertUnwindSafe(|| name(index))).unwrap_or_else(|_| position(index))
}

/// What an item without a name is called.
pub(in crate::data) fn position(index: usize) -> String {
    format!("item {index}")
}

/// The message of a panic.
pub(in crate::data) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
