//! Valid output sizes of transforms.

use crate::error::{Error, Result};

/// The maximum number of pixels of a result, the same as the default for decoded files.
const MAX_PIXELS: u64 = 1 << 28;

/// Returns an error if a side is 0 or the image would be too large.
pub(super) fn sides(transform: &'static str, (width, height): (u32, u32)) -> Result<()> {
    if width == 0 || height == 0 {
        let why = format!("the size is {width}x{height}; both sides must be 1 or more");
        return Err(Error::config(transform, why));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let why = format!("the size is {width}x{height}; at most {MAX_PIXELS} pixels are allowed");
        return Err(Error::config(transform, why));
    }
    Ok(())
}
