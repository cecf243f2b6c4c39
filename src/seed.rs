//! Random streams that are derived from the seed and their use instead of being shared.

pub use finetune_image::seed::{Rng, Seed, Stream};
