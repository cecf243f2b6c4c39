//! The part of the crate's native layer that the readers need.

#[path = "../../src/sys/map.rs"]
mod map;

pub(crate) use map::Mapped;
