//! Color changes as numbers.

/// The weights of red, green and blue in a gray value: ITU-R 601-2, as fastai rounds them.
pub(super) const LUMA: [f64; 3] = [0.2989, 0.5870, 0.1140];

/// A color change. Brightness, contrast and saturation are linear in logit space, so that successive
/// changes merge into one.
///
/// The other variants are those of TrivialAugment and RandAugment. They work on values between 0 and 1,
/// and clip the result to that range.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Color {
    /// Computes `scale` times the logit of each value, plus `luma` times the gray value of the logits,
    /// plus `add`, and converts back from logits.
    Logit {
        /// The factor of the logit itself.
        scale: f64,
        /// The factor of the gray value of the three logits.
        luma: f64,
        /// The summand.
        add: f64,
    },
    /// Rotates the hue by a fraction of a full turn.
    Hue(f64),
    /// Computes `scale` times each value, plus `luma` times the gray value of its pixel.
    Linear {
        /// The factor of the value itself.
        scale: f64,
        /// The factor of the gray value.
        luma: f64,
    },
    /// Keeps the highest bits of each 8-bit value: 0 to 8 bits.
    Posterize(u8),
    /// Inverts values of at least this level, 0 to 255.
    Solarize(f64),
    /// Multiplies the difference of each value from the mean gray value of the image by this factor.
    FromMean(f64),
    /// Multiplies the difference of each value from the smoothed image by this factor. The outermost
    /// pixels do not change.
    Sharpen(f64),
    /// Stretches the values of each channel to the range from 0 to 1.
    AutoContrast,
    /// Makes all levels of each channel about equally frequent.
    Equalize,
}

impl Color {
    /// Returns a brightness change: above 0.5 is lighter, below is darker.
    #[must_use]
    pub fn brightness(change: f64) -> Self {
        let change = change.clamp(1e-7, 1.0 - 1e-7);
        Self::Logit { scale: 1.0, luma: 0.0, add: (change / (1.0 - change)).ln() }
    }

    /// Returns a contrast change: above 1 is more, below is less.
    #[must_use]
    pub fn contrast(change: f64) -> Self {
        Self::Logit { scale: change, luma: 0.0, add: 0.0 }
    }

    /// Returns a saturation change: above 1 is more, below is less, 0 is gray.
    #[must_use]
    pub fn saturation(change: f64) -> Self {
        Self::Logit { scale: change, luma: 1.0 - change, add: 0.0 }
    }

    /// Returns true if it changes nothing.
    pub(super) fn is_neutral(self) -> bool {
        match self {
            Self::Logit { scale, luma, add } => (scale, luma, add) == (1.0, 0.0, 0.0),
            Self::Hue(turn) => turn % 1.0 == 0.0,
            Self::Linear { scale, luma } => (scale, luma) == (1.0, 0.0),
            Self::Posterize(bits) => bits >= 8,
            Self::Solarize(level) => level > 255.0,
            Self::FromMean(factor) | Self::Sharpen(factor) => factor == 1.0,
            Self::AutoContrast | Self::Equalize => false,
        }
    }

    /// Returns true if the value of a pixel depends on other pixels of the image.
    pub(super) fn needs_image(self) -> bool {
        matches!(self, Self::FromMean(_) | Self::Sharpen(_) | Self::AutoContrast | Self::Equalize)
    }

    /// Merges this change and the `next` one, if both are linear in the same space.
    fn then(self, next: Self) -> Option<Self> {
        let (Self::Logit { scale, luma, add }, Self::Logit { scale: s, luma: l, add: a }) =
            (self, next)
        else {
            return None;
        };
        // The weights do not add up to exactly 1, so that the gray value of a gray pixel is slightly
        // different.
        let whole: f64 = LUMA.iter().sum();
        let gray = scale + luma * whole;
        Some(Self::Logit {
            scale: s * scale,
            luma: s * luma + l * gray,
            add: s * add + l * whole * add + a,
        })
    }

    /// Appends a change to a list, merging it with the last one if possible.
    pub(super) fn append(colors: &mut Vec<Self>, next: Self) {
        match colors.last_mut() {
            Some(last) if last.then(next).is_some() => *last = last.then(next).unwrap_or(next),
            _ => colors.push(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(color: Color, rgb: [f64; 3]) -> [f64; 3] {
        let Color::Logit { scale, luma, add } = color else { panic!("{color:?}") };
        let gray: f64 = rgb.iter().zip(LUMA).map(|(v, w)| v * w).sum();
        rgb.map(|v| scale * v + luma * gray + add)
    }

    #[test]
    fn successive_changes_are_merged() {
        let rgb = [0.3, -1.2, 2.5];
        let all = [
            Color::brightness(0.7),
            Color::saturation(0.4),
            Color::contrast(1.3),
            Color::saturation(1.6),
            Color::brightness(0.2),
        ];
        let mut merged = vec![];
        all.into_iter().for_each(|c| Color::append(&mut merged, c));
        assert_eq!(merged.len(), 1);
        let one_by_one = all.into_iter().fold(rgb, |rgb, c| apply(c, rgb));
        for (a, b) in apply(merged[0], rgb).into_iter().zip(one_by_one) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
        Color::append(&mut merged, Color::Hue(0.1));
        Color::append(&mut merged, Color::contrast(0.9));
        assert_eq!(merged.len(), 3, "hue is of another space");
    }
}
