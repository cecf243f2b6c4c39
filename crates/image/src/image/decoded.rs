//! The result of the decoders of single formats.

use crate::{caught::Panic, error::BoxError};
use ::image::{DynamicImage, metadata::Orientation};

/// A decoded image, before its EXIF orientation is applied.
pub(super) struct Decoded {
    pub(super) image: DynamicImage,
    /// The EXIF orientation.
    pub(super) orientation: Option<Orientation>,
}

/// Returns the error of a decoder that panicked: it has met a damaged file like any other.
pub(super) fn panicked(Panic { place, why }: Panic) -> BoxError {
    format!("the decoder panicked at {place}: {why}").into()
}

/// Returns an error for an image without pixels or with too many.
pub(super) fn within((w, h): (u32, u32), max_pixels: u64) -> Result<(), BoxError> {
    if w == 0 || h == 0 {
        return Err(format!("the image has no pixels ({w}x{h})").into());
    }
    if u64::from(w) * u64::from(h) > max_pixels {
        return Err(format!("{w}x{h} pixels are more than the limit of {max_pixels}").into());
    }
    Ok(())
}
