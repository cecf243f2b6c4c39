//! One or a few random operations per image: TrivialAugment and RandAugment.

use super::{BatchSpec, BatchTransform, Color, Draw, Matrix, Mode, Plan, Resampling};
use crate::{
    error::{Error, Result},
    image::PadMode,
    sample::Split,
    seed::Rng,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An operation of [`TrivialAugment`] and [`RandAugment`]: the set of torchvision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AugmentOp {
    /// Leaves the image unchanged.
    Identity,
    /// Shears rows horizontally. The strength is the shift in pixels per row below the upper left
    /// corner.
    ShearX,
    /// Shears columns vertically. The strength is the shift in pixels per column to the right of the
    /// upper left corner.
    ShearY,
    /// Shifts the image horizontally. The strength is in pixels.
    TranslateX,
    /// Shifts the image vertically. The strength is in pixels.
    TranslateY,
    /// Rotates the image around its center. The strength is in degrees; positive ones are
    /// counter-clockwise.
    Rotate,
    /// Multiplies all values by 1 plus the strength.
    Brightness,
    /// Multiplies differences from the gray value of each pixel by 1 plus the strength.
    Color,
    /// Multiplies differences from the mean gray value of the image by 1 plus the strength.
    Contrast,
    /// Multiplies differences from the smoothed image by 1 plus the strength.
    Sharpness,
    /// Keeps the highest bits of each value. The strength is the number of bits.
    Posterize,
    /// Inverts values of at least a level. The strength is the level, 0 to 255.
    Solarize,
    /// Stretches the values of each channel to the whole range.
    AutoContrast,
    /// Makes all levels of each channel about equally frequent.
    Equalize,
}

impl AugmentOp {
    /// All operations, in torchvision's order.
    pub const ALL: [Self; 14] = [
        Self::Identity,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
        Self::Brightness,
        Self::Color,
        Self::Contrast,
        Self::Sharpness,
        Self::Posterize,
        Self::Solarize,
        Self::AutoContrast,
        Self::Equalize,
    ];

    /// Returns true if the strength is negated with probability 0.5.
    fn is_signed(self) -> bool {
        !matches!(
            self,
            Self::Identity | Self::Posterize | Self::Solarize | Self::AutoContrast | Self::Equalize
        )
    }

    /// Returns the map from the output to the input, for images of (width, height).
    fn map(self, strength: f64, size: (u32, u32)) -> Option<Matrix> {
        Some(match self {
            Self::ShearX => Matrix::shear((strength, 0.0), size),
            Self::ShearY => Matrix::shear((0.0, strength), size),
            // Whole pixels, as in torchvision.
            Self::TranslateX => Matrix::translation((strength.trunc(), 0.0), size),
            Self::TranslateY => Matrix::translation((0.0, strength.trunc()), size),
            Self::Rotate => Matrix::rotation_of(-strength, size),
            _ => return None,
        })
    }

    /// Returns the color change, for images of `channels` channels.
    fn color(self, strength: f64, channels: u8) -> Option<Color> {
        let factor = 1.0 + strength;
        Some(match self {
            Self::Brightness => Color::Linear { scale: factor, luma: 0.0 },
            Self::Color if channels == 3 => Color::Linear { scale: factor, luma: 1.0 - factor },
            Self::Contrast => Color::FromMean(factor),
            Self::Sharpness => Color::Sharpen(factor),
            Self::Posterize => Color::Posterize(strength as u8),
            Self::Solarize => Color::Solarize(strength),
            Self::AutoContrast => Color::AutoContrast,
            Self::Equalize => Color::Equalize,
            _ => return None,
        })
    }
}

/// The maximum strengths of the operations.
#[derive(Debug, Clone, Copy)]
struct Strongest {
    shear: f64,
    /// The maximum shift along width and height, in pixels.
    translate: (f64, f64),
    rotate: f64,
    /// The maximum strength of brightness, color, contrast and sharpness.
    factor: f64,
    /// The maximum number of bits that posterizing removes.
    bits: f64,
}

impl Strongest {
    /// Returns the strength of `op` at bin `bin` of `bins`.
    fn of(&self, op: AugmentOp, bin: usize, bins: usize) -> f64 {
        let part = bin as f64 / (bins - 1) as f64;
        match op {
            AugmentOp::ShearX | AugmentOp::ShearY => part * self.shear,
            AugmentOp::TranslateX => part * self.translate.0,
            AugmentOp::TranslateY => part * self.translate.1,
            AugmentOp::Rotate => part * self.rotate,
            AugmentOp::Brightness
            | AugmentOp::Color
            | AugmentOp::Contrast
            | AugmentOp::Sharpness => part * self.factor,
            AugmentOp::Posterize => 8.0 - (part * self.bits).round_ties_even(),
            AugmentOp::Solarize => (1.0 - part) * 255.0,
            AugmentOp::Identity | AugmentOp::AutoContrast | AugmentOp::Equalize => 0.0,
        }
    }
}

/// The maximum number of strengths of an operation.
const MAX_BINS: usize = 1 << 16;

/// The maximum number of operations for each image.
const MAX_OPS: usize = 1000;

/// Returns the strength with its sign.
fn signed(op: AugmentOp, strength: f64, negative: bool) -> f64 {
    if negative && op.is_signed() { -strength } else { strength }
}

/// The operations of one batch, one list of (operation, strength) for each image.
type Ops = Vec<Vec<(AugmentOp, f64)>>;

/// Plans the geometry, and stores the color changes to be planned with those of other transforms.
fn begin(plan: &mut Plan, resampling: Resampling, ops: &Ops) -> Result<()> {
    let (size, channels) = (plan.size_so_far(), plan.channels());
    let map = |ops: &Vec<(AugmentOp, f64)>| {
        // The first operation is applied to the input.
        let maps = ops.iter().filter_map(|(op, strength)| op.map(*strength, size));
        maps.fold(Matrix::ONE, |all, map| all.times(&map))
    };
    if ops.iter().flatten().any(|(op, strength)| op.map(*strength, size).is_some()) {
        plan.warp(resampling, None, ops.iter().map(map))?;
    }
    let colors = |ops: &Vec<(AugmentOp, f64)>| {
        ops.iter().filter_map(|(op, strength)| op.color(*strength, channels)).collect()
    };
    plan.remember_colors(ops.iter().map(colors).collect());
    Ok(())
}

/// Plans the color changes that [`begin`] stored.
#[derive(Debug)]
struct RememberedColors;

impl BatchTransform for RememberedColors {
    fn plan(&self, plan: &mut Plan, _: Split, _: &mut Rng) -> Result<()> {
        plan.later_colors();
        Ok(())
    }
    fn order(&self) -> i32 {
        40
    }
}

/// The first half of a transform, which draws the operations and plans the geometry.
#[derive(Debug)]
struct First<T>(T);

macro_rules! auto_augment {
    ($name:ident) => {
        impl $name {
            /// Sets the operations to choose from. Default: [`AugmentOp::ALL`].
            #[must_use]
            pub fn ops(mut self, ops: impl Into<Vec<AugmentOp>>) -> Self {
                self.ops = ops.into();
                self
            }
            /// Sets the number of strengths of an operation, from 2 to 65,536. Default: 31.
            #[must_use]
            pub fn num_magnitude_bins(mut self, n: usize) -> Self {
                self.bins = n;
                self
            }
            /// Sets the interpolation between pixels. Default: bilinear; torchvision's is the nearest pixel. If
            /// the pass already has a resampling, its mode is used.
            #[must_use]
            pub fn mode(mut self, mode: Mode) -> Self {
                self.resampling.mode = mode;
                self
            }
            /// Sets the values beyond the edge. Default: the mirrored image. torchvision's are black, as with
            /// [`PadMode::Zeros`].
            #[must_use]
            pub fn pad_mode(mut self, mode: PadMode) -> Self {
                self.resampling.pad_mode = mode;
                self
            }
            /// If true, the corners of an image are the centers of its outer pixels. Default: true, as for
            /// the other transforms; torchvision's is false.
            #[must_use]
            pub fn align_corners(mut self, yes: bool) -> Self {
                self.resampling.align_corners = yes;
                self
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl BatchTransform for First<$name> {
            fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
                self.0.check()?;
                if split == Split::Train {
                    let ops = self.0.drawn(plan, rng);
                    begin(plan, self.0.resampling, &ops)?;
                }
                Ok(())
            }
            fn order(&self) -> i32 {
                self.0.order()
            }
        }

        impl BatchTransform for $name {
            fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
                First(self.clone()).plan(plan, split, rng)?;
                RememberedColors.plan(plan, split, rng)
            }
            fn check(&self) -> Result<()> {
                if self.ops.is_empty() {
                    return Err(Error::config("ops", "is empty; name at least one operation"));
                }
                if !(2..=MAX_BINS).contains(&self.bins) {
                    let why = format!("is {}; it must be between 2 and {MAX_BINS}", self.bins);
                    return Err(Error::config("num_magnitude_bins", why));
                }
                self.options()
            }
            /// Returns 29, a position before flips and crops, which then share the same resampling.
            fn order(&self) -> i32 {
                29
            }
            fn parts(&self) -> Option<Vec<Arc<dyn BatchTransform>>> {
                Some(vec![Arc::new(First(self.clone())), Arc::new(RememberedColors)])
            }
            fn spec(&self) -> Option<BatchSpec> {
                Some(BatchSpec::$name(self.clone()))
            }
        }
    };
}

/// Changes each training image by one random operation of random strength: TrivialAugment with wide
/// ranges, Müller and Hutter, 2021, <https://arxiv.org/abs/2103.10158>. The ranges are those of torchvision's
/// [`TrivialAugmentWide`](https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.TrivialAugmentWide.html).
///
/// | operation | strength, of either sign except for the last two |
/// |---|---|
/// | shear | 0 to 0.99 |
/// | translate | 0 to 32 pixels |
/// | rotate | 0° to 135° |
/// | brightness, color, contrast, sharpness | 0 to 0.99 |
/// | posterize | 8 to 2 bits |
/// | solarize | from level 255 to 0 |
///
/// It is planned together with the other batch transforms, and therefore differs from torchvision:
///
/// - Shears, shifts and rotations are part of the single resampling of the batch, before flips and crops of
///   batches. They apply to the output of the item transforms, whose pixels are the unit of shifts. Masks,
///   points and boxes move with the image.
/// - Colors are changed after the crop and the resampling, in 32-bit floats that are not rounded to 8 bits
///   in between. Contrast, sharpness, autocontrast and equalize are computed from the cropped image.
/// - By default, values between pixels are interpolated bilinearly, and values beyond the edge are mirrored.
///   torchvision's defaults are `.mode(Mode::Nearest).pad_mode(PadMode::Zeros).align_corners(false)`.
///
/// ```
/// use finetune::{prelude::*, transform::TrivialAugment};
///
/// let block = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
///     .item_tfms(Resize::new(256))
///     .batch_tfms(aug_transforms().size(224).max_lighting(0.0).xtra_tfms(TrivialAugment::new()));
/// # let _ = block;
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrivialAugment {
    ops: Vec<AugmentOp>,
    bins: usize,
    resampling: Resampling,
}

impl TrivialAugment {
    /// Returns the transform with all operations and 31 strengths.
    #[must_use]
    pub fn new() -> Self {
        let resampling = Resampling::default();
        Self { ops: AugmentOp::ALL.to_vec(), bins: 31, resampling }
    }

    fn options(&self) -> Result<()> {
        Ok(())
    }

    /// Draws an operation, a bin and a sign for each image, even if the operation does not use them.
    fn drawn(&self, plan: &Plan, draw: &mut dyn Draw) -> Ops {
        const STRONGEST: Strongest = Strongest {
            shear: 0.99,
            translate: (32.0, 32.0),
            rotate: 135.0,
            factor: 0.99,
            bits: 6.0,
        };
        let one = |_| {
            let op = self.ops[draw.integer(0, self.ops.len() as i64 - 1) as usize];
            let bin = draw.integer(0, self.bins as i64 - 1) as usize;
            let negative = draw.integer(0, 1) == 1;
            vec![(op, signed(op, STRONGEST.of(op, bin, self.bins), negative))]
        };
        (0..plan.len()).map(one).collect()
    }
}

auto_augment!(TrivialAugment);

/// Changes each training image by a few random operations of the same strength: RandAugment, Cubuk et al.,
/// 2019, <https://arxiv.org/abs/1909.13719>. The ranges are those of torchvision's
/// [`RandAugment`](https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.RandAugment.html).
///
/// | operation | strength at magnitude 30 of 0 to 30, of either sign except for the last two |
/// |---|---|
/// | shear | 0.3 |
/// | translate | 150/331 of the width or height |
/// | rotate | 30° |
/// | brightness, color, contrast, sharpness | 0.9 |
/// | posterize | 4 bits |
/// | solarize | from level 0 |
///
/// An operation may be drawn more than once. RandAugment differs from torchvision in the same way as
/// [`TrivialAugment`]. In addition, all shears, shifts and rotations of an image come before its color changes.
///
/// ```
/// use finetune::transform::RandAugment;
///
/// let weaker = RandAugment::new().num_ops(1).magnitude(5);
/// # let _ = weaker;
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RandAugment {
    ops: Vec<AugmentOp>,
    bins: usize,
    resampling: Resampling,
    num_ops: usize,
    magnitude: usize,
}

impl RandAugment {
    /// Returns the transform with two operations per image, drawn from all operations, at magnitude 9 (of 0 to 30).
    #[must_use]
    pub fn new() -> Self {
        let resampling = Resampling::default();
        Self { ops: AugmentOp::ALL.to_vec(), bins: 31, resampling, num_ops: 2, magnitude: 9 }
    }

    /// Sets the number of operations for each image, from 1 to 1,000. Default: 2.
    #[must_use]
    pub fn num_ops(mut self, n: usize) -> Self {
        self.num_ops = n;
        self
    }

    /// Sets the strength of all operations, from 0 to one less than the number of strengths. Default: 9.
    #[must_use]
    pub fn magnitude(mut self, magnitude: usize) -> Self {
        self.magnitude = magnitude;
        self
    }

    fn options(&self) -> Result<()> {
        if !(1..=MAX_OPS).contains(&self.num_ops) {
            let why = format!("is {}; it must be between 1 and {MAX_OPS}", self.num_ops);
            return Err(Error::config("num_ops", why));
        }
        if self.magnitude >= self.bins {
            let (magnitude, last) = (self.magnitude, self.bins - 1);
            let why = format!("is {magnitude}; it must be between 0 and {last}");
            return Err(Error::config("magnitude", why));
        }
        Ok(())
    }

    /// Draws an operation and a sign for each operation of each image.
    fn drawn(&self, plan: &Plan, draw: &mut dyn Draw) -> Ops {
        let (width, height) = plan.size_so_far();
        let translate = |n: u32| 150.0 / 331.0 * f64::from(n);
        let strongest = Strongest {
            shear: 0.3,
            translate: (translate(width), translate(height)),
            rotate: 30.0,
            factor: 0.9,
            bits: 4.0,
        };
        let mut one = || {
            let op = self.ops[draw.integer(0, self.ops.len() as i64 - 1) as usize];
            let negative = draw.integer(0, 1) == 1;
            (op, signed(op, strongest.of(op, self.magnitude, self.bins), negative))
        };
        (0..plan.len()).map(|_| (0..self.num_ops).map(|_| one()).collect()).collect()
    }
}

auto_augment!(RandAugment);
