//! Trainings that are compared bit for bit.
//!
//! This program runs its tests one at a time: libtorch has one random generator per process, from which
//! other tests would draw.

#![allow(clippy::unwrap_used, reason = "a test fails by panics")]

#[path = "../it/pets.rs"]
#[allow(dead_code, reason = "some of its functions are only used in tests/it")]
mod pets;
mod recipes;
mod reproducible;
mod resume;
mod runs;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits until no other test of this program runs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
