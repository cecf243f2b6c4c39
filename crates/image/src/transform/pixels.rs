//! What a pass reads.

/// A value of a pixel in memory.
pub(super) trait Texel: Copy + Send + Sync {
    /// What levels are multiplied by to be values from 0 to 1.
    const SCALE: f32;
    /// The value in its own scale.
    fn level(self) -> f32;
    /// The pixels as bytes, if they are.
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

/// A part of an image in memory, in rows that are `stride` values apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pixels<'a, T> {
    pub(super) pixels: &'a [T],
    pub(super) stride: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}
