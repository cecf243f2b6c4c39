//! Random streams that are addressed by their use instead of shared.

pub use finetune_image::seed::{Rng, Seed, Stream};
