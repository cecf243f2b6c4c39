//! Sizes that a transform may produce.

use crate::error::{Error, Result};

/// The most pixels of a result: as many as a file that is decoded may have.
const MAX_PIXELS: u64 = 1 << 28;

/// That both sides are pixels enough, and not too many.
pub(super) fn sides(transform: &'static str, (width, height): (u32, u32)) -> Result<()> {
    if width == 0 || height == 0 {
        let why = format!("{width}x{height} is no size: both sides must be 1 or more");
        return Err(Error::config(transform, why));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let why = format!("{width}x{height} is too large: up to {MAX_PIXELS} pixels can be");
        return Err(Error::config(transform, why));
    }
    Ok(())
}
