//! What the readers need of the crate's native layer.

#[path = "../../src/sys/map.rs"]
mod map;

pub(crate) use map::Mapped;
