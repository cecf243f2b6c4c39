//! Trainings that are compared bit for bit.
//!
//! A program of its own whose tests run one after the other: libtorch has one random generator for a process, from
//! which other tests would draw.

#![allow(clippy::unwrap_used, reason = "a test fails by panics")]

#[path = "../it/pets.rs"]
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
