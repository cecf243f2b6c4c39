//! Vector instructions. This is the only module of the crate with `unsafe`.

#![allow(
    unsafe_code,
    reason = "unsafe code is confined to this module; each use says why it is sound"
)]

mod simd;
mod weigh;

pub(crate) use simd::{Work, vectorized};
pub(crate) use weigh::{Taps, WEIGHT_BITS, weigh_columns, weigh_rows};
