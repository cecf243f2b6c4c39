use super::{
    BatchSpec, BatchTransform, Brightness, Contrast, Flip, Plan, RandomResizedCropGpu, Rotate,
    Warp, Zoom,
};
use crate::{error::Result, image::PadMode, sample::Split, seed::Rng};
use serde::{Deserialize, Serialize};

/// The usual augmentations of a batch, composed into one resampling; see [`aug_transforms`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Augment {
    mult: f64,
    do_flip: bool,
    flip_vert: bool,
    max_rotate: f64,
    min_zoom: f64,
    max_zoom: f64,
    max_lighting: f64,
    max_warp: f64,
    p_affine: f64,
    p_lighting: f64,
    size: Option<(u32, u32)>,
    pad_mode: PadMode,
    batch: bool,
    min_scale: f64,
}

/// Flips, rotations, zooms, perspectives, brightness and contrast, drawn for each image: fastai's
/// [`aug_transforms`](https://docs.fast.ai/vision.augment.html#aug_transforms). In validation only the
/// size is changed.
///
/// ```
/// use finetune::transform::aug_transforms;
///
/// let augment = aug_transforms().size(224).min_scale(0.75);
/// ```
#[must_use]
pub fn aug_transforms() -> Augment {
    Augment {
        mult: 1.0,
        do_flip: true,
        flip_vert: false,
        max_rotate: 10.0,
        min_zoom: 1.0,
        max_zoom: 1.1,
        max_lighting: 0.2,
        max_warp: 0.2,
        p_affine: 0.75,
        p_lighting: 0.75,
        size: None,
        pad_mode: PadMode::Reflection,
        batch: false,
        min_scale: 1.0,
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name;
            self
        })*
    };
}

impl Augment {
    setters! {
        /// Multiplies rotation, lighting and warp. Default: 1.
        mult: f64,
        /// Whether to flip. Default: true.
        do_flip: bool,
        /// Whether to flip and turn all eight ways. Default: false.
        flip_vert: bool,
        /// The most degrees of rotation; 0 for none. Default: 10.
        max_rotate: f64,
        /// The least zoom. Default: 1.
        min_zoom: f64,
        /// The most zoom. Default: 1.1.
        max_zoom: f64,
        /// The most change of brightness and contrast; 0 for none. Default: 0.2.
        max_lighting: f64,
        /// The most perspective; 0 for none. Default: 0.2.
        max_warp: f64,
        /// The probability of each rotation, zoom and warp. Default: 0.75.
        p_affine: f64,
        /// The probability of each change of brightness and contrast. Default: 0.75.
        p_lighting: f64,
        /// What is beyond the edge. Default: the image mirrored.
        pad_mode: PadMode,
        /// Whether one draw is for the whole batch. Default: false.
        batch: bool,
        /// The least part of the area that a random crop keeps, in which case the crop does the
        /// resizing; 1 for no crop. Default: 1.
        min_scale: f64,
    }

    /// The side of the square that comes out. Default: the size that goes in.
    #[must_use]
    pub fn size(self, side: u32) -> Self {
        self.size_hw(side, side)
    }

    /// The height and width that come out. Default: those that go in.
    #[must_use]
    pub fn size_hw(mut self, height: u32, width: u32) -> Self {
        self.size = Some((width, height));
        self
    }
}

impl BatchTransform for Augment {
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
        plan.pad_mode = self.pad_mode;
        let (batch, p) = (self.batch, self.p_affine);
        if self.do_flip {
            Flip::new().vertical(self.flip_vert).batch(batch).plan(plan, split, rng)?;
        }
        let (warp, rotate) = (self.max_warp * self.mult, self.max_rotate * self.mult);
        if warp != 0.0 {
            Warp::new(warp).p(p).batch(batch).plan(plan, split, rng)?;
        }
        if rotate != 0.0 {
            Rotate::new(rotate).p(p).batch(batch).plan(plan, split, rng)?;
        }
        if self.min_zoom < 1.0 || self.max_zoom > 1.0 {
            Zoom::new(self.min_zoom, self.max_zoom).p(p).batch(batch).plan(plan, split, rng)?;
        }
        let lighting = self.max_lighting * self.mult;
        if lighting != 0.0 {
            Brightness::new(lighting).p(self.p_lighting).batch(batch).plan(plan, split, rng)?;
            Contrast::new(lighting).p(self.p_lighting).batch(batch).plan(plan, split, rng)?;
        }
        match self.size {
            Some(size) if self.min_scale == 1.0 => plan.resize(size),
            size if self.min_scale != 1.0 => {
                let crop = RandomResizedCropGpu::new(size.unwrap_or(plan.input_size()));
                crop.min_scale(self.min_scale).ratio(1.0, 1.0).plan(plan, split, rng)
            }
            _ => Ok(()),
        }
    }

    fn order(&self) -> i32 {
        30
    }

    fn spec(&self) -> Option<BatchSpec> {
        Some(BatchSpec::Augment(self.clone()))
    }
}
