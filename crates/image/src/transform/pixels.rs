//! Input pixels of a pass.

/// The type of a pixel value in memory.
pub(super) trait Texel: Copy + Send + Sync {
    /// The factor from levels to values between 0 and 1.
    const SCALE: f32;
    /// Returns the value in its own scale.
    fn level(self) -> f32;
    /// Returns the pixels as bytes if this type is `u8`.
    fn bytes(pixels: &[Self]) -> Option<&[u8]>;
}

impl Texel for u8 {
    const SCALE: f32 = 1.0 / 255.0;
    #[inline(always)]
    fn level(self) -> f32 {
        f32::from(self)
    }
    #[inline(always)]
    fn bytes(pixels: &[Self]) -> Option<&[u8]> {
        Some(pixels)
    }
}

impl Texel for f32 {
    const SCALE: Self = 1.0;
    #[inline(always)]
    fn level(self) -> Self {
        self
    }
    #[inline(always)]
    fn bytes(_: &[Self]) -> Option<&[u8]> {
        None
    }
}

/// A part of an image in memory. Rows begin `stride` values after each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pixels<'a, T> {
    pub(super) pixels: &'a [T],
    pub(super) stride: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}
