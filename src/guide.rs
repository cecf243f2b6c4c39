//! The guide: a page for each question, whose code runs when the crate is tested.

#[doc = include_str!("../docs/cross-entropy.images")]
#[doc = include_str!("../docs/cross-entropy.md")]
pub mod cross_entropy {}
