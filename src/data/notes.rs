//! Collects what listing and splitting leave out, for `summary` and `check`.
//!
//! `get_items` and splitters return only items and indices, so their messages are collected here, per
//! calling thread.

use std::{cell::RefCell, mem};

thread_local! {
    static NOTES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Adds a note to the current [`collected`] call on this thread, if there is one.
pub(in crate::data) fn note(text: impl Into<String>) {
    let text = text.into();
    NOTES.with_borrow_mut(|notes| {
        if let Some(notes) = notes {
            notes.push(text);
        }
    });
}

/// Calls `f` and returns its result and the notes that it added.
pub(in crate::data) fn collected<T>(f: impl FnOnce() -> T) -> (T, Vec<String>) {
    let outer = NOTES.replace(Some(vec![]));
    let result = f();
    (result, NOTES.with_borrow_mut(|notes| mem::replace(notes, outer)).unwrap_or_default())
}

/// Returns the first few of many names, for a note or an error.
pub(in crate::data) fn some(names: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let left = names.len().saturating_sub(SHOWN);
    let shown = names.take(SHOWN).collect::<Vec<_>>().join(", ");
    if left == 0 { shown } else { format!("{shown} and {left} more") }
}
