//! Points and boxes in a picture.

/// A point in a picture, in pixels: `x` to the right and `y` down from the upper left corner, so that
/// the lower right corner is (width, height). A point may lie outside of its picture, where a transform
/// has moved it there.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Point {
    /// Pixels from the left edge.
    pub x: f32,
    /// Pixels from the upper edge.
    pub y: f32,
    /// Whether its place is known. A hidden point has no influence on losses and metrics.
    pub visible: bool,
}

impl Point {
    /// A visible point.
    #[must_use]
    pub fn new(x: f32, y: f32) -> Self {
        Self { x, y, visible: true }
    }

    /// A point whose place is not known, such as the eye on the far side of a face.
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

/// A box in a picture with its class, in pixels from the upper left corner.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BBox {
    /// Pixels from the left edge of the picture to that of the box.
    pub left: f32,
    /// Pixels from the upper edge of the picture to that of the box.
    pub top: f32,
    /// Pixels from the left edge of the picture to the right one of the box.
    pub right: f32,
    /// Pixels from the upper edge of the picture to the lower one of the box.
    pub bottom: f32,
    /// The position of its class in the vocabulary.
    pub class: usize,
}

impl BBox {
    /// A box from its corners: left, top, right, bottom.
    #[must_use]
    pub fn new([left, top, right, bottom]: [f32; 4], class: usize) -> Self {
        Self { left, top, right, bottom, class }
    }

    /// Left, top, right, bottom.
    #[must_use]
    pub fn corners(&self) -> [f32; 4] {
        [self.left, self.top, self.right, self.bottom]
    }
}
