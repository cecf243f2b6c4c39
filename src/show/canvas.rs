//! What drawing code and figures share: the largest size and pictures at a place.

use crate::image::Image;

/// The largest side of a figure in pixels.
pub(super) const LARGEST: u32 = 4096;

/// A picture at a place of a figure, in pixels: added after all else is drawn, as pixels or as an
/// embedded PNG.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) picture: Image,
}
