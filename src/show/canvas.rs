//! Definitions that drawing code and figures share: the maximum size, and placed images.

use crate::image::Image;

/// The maximum side of a figure in pixels.
pub(super) const LARGEST: u32 = 4096;

/// An image at a position of a figure, in pixels. It is added after everything else, as pixels or as an
/// embedded PNG.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) picture: Image,
}
