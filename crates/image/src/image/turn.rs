//! Flips and rotations by 90°.

use super::Image;

/// A flip or a rotation by multiples of 90°, in the order of Pillow's `Transpose`. There are no others, so
/// the enum is exhaustive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Mirrors left to right.
    FlipLeftRight,
    /// Mirrors top to bottom.
    FlipTopBottom,
    /// Rotates by 90° counter-clockwise.
    Rotate90,
    /// Rotates by 180°.
    Rotate180,
    /// Rotates by 90° clockwise.
    Rotate270,
    /// Swaps rows and columns (mirrors at the main diagonal).
    Transpose,
    /// Mirrors at the other diagonal: swaps rows and columns, and rotates by 180°.
    Transverse,
}

impl Turn {
    /// All variants.
    pub const ALL: [Self; 7] = [
        Self::FlipLeftRight,
        Self::FlipTopBottom,
        Self::Rotate90,
        Self::Rotate180,
        Self::Rotate270,
        Self::Transpose,
        Self::Transverse,
    ];

    /// Returns true if width and height are swapped.
    pub(crate) fn swaps(self) -> bool {
        matches!(self, Self::Rotate90 | Self::Rotate270 | Self::Transpose | Self::Transverse)
    }
}

impl Image {
    /// Applies the flip or rotation.
    #[must_use]
    pub fn turned(&self, turn: Turn) -> Self {
        let (w, h) = (self.width as usize, self.height as usize);
        let (width, height) =
            if turn.swaps() { (self.height, self.width) } else { (self.width, self.height) };
        let channels = usize::from(self.channels);
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for y in 0..height as usize {
            for x in 0..width as usize {
                let (from_x, from_y) = match turn {
                    Turn::FlipLeftRight => (w - 1 - x, y),
                    Turn::FlipTopBottom => (x, h - 1 - y),
                    Turn::Rotate90 => (w - 1 - y, x),
                    Turn::Rotate180 => (w - 1 - x, h - 1 - y),
                    Turn::Rotate270 => (y, h - 1 - x),
                    Turn::Transpose => (y, x),
                    Turn::Transverse => (w - 1 - y, h - 1 - x),
                };
                let at = (from_y * w + from_x) * channels;
                pixels.extend_from_slice(&self.pixels[at..at + channels]);
            }
        }
        Self { width, height, channels: self.channels, pixels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_match_pillow() {
        // 1 2 3
        // 4 5 6
        let image = Image::new(3, 2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let expected: [&[u8]; 7] = [
            &[3, 2, 1, 6, 5, 4],
            &[4, 5, 6, 1, 2, 3],
            &[3, 6, 2, 5, 1, 4],
            &[6, 5, 4, 3, 2, 1],
            &[4, 1, 5, 2, 6, 3],
            &[1, 4, 2, 5, 3, 6],
            &[6, 3, 5, 2, 4, 1],
        ];
        for (turn, pixels) in Turn::ALL.into_iter().zip(expected) {
            let turned = image.turned(turn);
            assert_eq!(turned.pixels(), pixels, "{turn:?}");
            let size = if turn.swaps() { (2, 3) } else { (3, 2) };
            assert_eq!((turned.width(), turned.height()), size, "{turn:?}");
        }
    }
}
