//! Points and boxes in an image.

/// A point in an image, in pixels: `x` to the right and `y` down from the upper left corner, so that the
/// lower right corner is (width, height). A point may be outside of its image, if a transform has moved it
/// there.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Point {
    /// Pixels from the left edge.
    pub x: f32,
    /// Pixels from the upper edge.
    pub y: f32,
    /// True if its position is known. Losses and metrics ignore hidden points.
    pub visible: bool,
}

impl Point {
    /// Creates a visible point.
    #[must_use]
    pub fn new(x: f32, y: f32) -> Self {
        Self { x, y, visible: true }
    }

    /// Creates a point with unknown position, such as the eye on the far side of a face.
    #[must_use]
    pub fn hidden() -> Self {
        Self { x: 0.0, y: 0.0, visible: false }
    }
}

impl From<(f32, f32)> for Point {
    fn from((x, y): (f32, f32)) -> Self {
        Self::new(x, y)
    }
}

/// A box in an image with its class, in pixels from the upper left corner.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BBox {
    /// The left edge of the box, in pixels from the left edge of the image.
    pub left: f32,
    /// The upper edge of the box, in pixels from the upper edge of the image.
    pub top: f32,
    /// The right edge of the box, in pixels from the left edge of the image.
    pub right: f32,
    /// The lower edge of the box, in pixels from the upper edge of the image.
    pub bottom: f32,
    /// The index of its class in the vocabulary.
    pub class: usize,
}

impl BBox {
    /// Creates a box from its corners: left, top, right, bottom.
    #[must_use]
    pub fn new([left, top, right, bottom]: [f32; 4], class: usize) -> Self {
        Self { left, top, right, bottom, class }
    }

    /// Returns left, top, right, bottom.
    #[must_use]
    pub fn corners(&self) -> [f32; 4] {
        [self.left, self.top, self.right, self.bottom]
    }
}
